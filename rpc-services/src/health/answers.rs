//! Answers: the procedures of `grpc.health.v1.Health`.

use std::sync::Arc;

use rpc_runtime::{Context, Result, Status, Stream, stream};

use super::{
    statuses::{ServingStatus, Statuses},
    watcher::Watcher,
};
use crate::grpc::health::v1::{
    Health, HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};

/// The procedures of the service.
pub(super) struct Answers(pub(super) Arc<Statuses>);

impl Health for Answers {
    async fn rpc_check(&self, _: &Context, request: HealthCheckRequest) -> Result<HealthCheckResponse> {
        let status = self.0.lock().of(&request.service);
        match status {
            Some(_) => Ok(response(status)),
            None => Err(Status::not_found("the server does not know this service")),
        }
    }

    async fn rpc_list(&self, _: &Context, _: HealthListRequest) -> Result<HealthListResponse> {
        let state = self.0.lock();
        let all = state.all();
        let count = all.len();
        if count > MOST_LISTED {
            return Err(Status::resource_exhausted(format!(
                "the server knows {count} services, and a list has {MOST_LISTED} at most: ask for each by Check"
            )));
        }
        let statuses = all.map(|(service, status)| (service.to_owned(), response(Some(status))));
        Ok(HealthListResponse {
            statuses: statuses.collect(),
        })
    }

    async fn rpc_watch(
        &self,
        cx: &Context,
        request: HealthCheckRequest,
    ) -> Result<impl Stream<Item = Result<HealthCheckResponse>> + Send> {
        let len = request.service.len();
        if len > LONGEST_NAME {
            return Err(Status::invalid_argument(format!(
                "the name of a service has {LONGEST_NAME} bytes at most, and this one has {len}"
            )));
        }
        Ok(stream(async move |out| {
            let mut watcher = Watcher::new(&self.0, request.service);
            loop {
                let status = tokio::select! {
                    // The end of the service goes before that of the connection.
                    biased;
                    status = watcher.next() => status,
                    () = cx.draining() => {
                        return Err(Status::unavailable("the server drains, or this connection is to end: watch again"));
                    }
                };
                out.send(response(status)).await;
            }
        }))
    }
}

fn response(status: Option<ServingStatus>) -> HealthCheckResponse {
    HealthCheckResponse {
        status: ServingStatus::on_the_wire(status).into(),
    }
}

/// The most services of a list, as the .proto says.
const MOST_LISTED: usize = 100;
/// The longest name of a service that a watcher may keep, in bytes.
const LONGEST_NAME: usize = 1024;
