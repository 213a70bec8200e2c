//! `/healthz` and `/readyz`: the probes of Kubernetes and of load balancers.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use rpc_services::{HealthHandle, ServingStatus};
use tokio::{runtime::Handle, time::timeout};

use super::answers::text;
use crate::query::Query;

/// What the probes look at.
#[derive(Debug)]
pub(super) struct Probes {
    health: Option<HealthHandle>,
    /// The runtime of the program; none if the pages were made outside of one.
    runtime: Option<Handle>,
}

impl Probes {
    pub(super) fn new(health: Option<HealthHandle>, runtime: Option<Handle>) -> Self {
        Self { health, runtime }
    }

    /// Answers whether the process is alive: the runtime of the program runs tasks.
    pub(super) async fn alive(&self) -> Response<Bytes> {
        match self.check_runtime().await {
            Ok(()) => text(StatusCode::OK, "alive\n"),
            Err(problem) => unavailable(&format!("not alive: {problem}")),
        }
    }

    /// Answers whether the server, or one of its services, should get calls.
    pub(super) async fn ready(&self, query: Option<&str>) -> Response<Bytes> {
        let service = match service_of(query) {
            Ok(service) => service,
            Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
        };
        if let Some(health) = &self.health {
            let status = health.get(&service);
            if status.is_none() && !service.is_empty() {
                return text(
                    StatusCode::NOT_FOUND,
                    format!("the server has no service {service}\n"),
                );
            }
            if health.is_draining() {
                return unavailable("not ready: the server drains");
            }
            if status != Some(ServingStatus::Serving) {
                return unavailable(&format!(
                    "not ready: the program has set {service:?} to NOT_SERVING"
                ));
            }
        } else if !service.is_empty() {
            let problem = "this listener knows no services: set rpc_admin::AdminBuilder::health\n";
            return text(StatusCode::NOT_FOUND, problem);
        }
        match self.check_runtime().await {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(problem) => unavailable(&format!("not ready: {problem}")),
        }
    }

    /// Checks that the runtime of the program runs a task.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    async fn check_runtime(&self) -> Result<(), String> {
        let Some(runtime) = &self.runtime else {
            return Ok(());
        };
        let beat = runtime.spawn(async {});
        let abort = beat.abort_handle();
        match timeout(BEAT, beat).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("the runtime of the program has ended".to_owned()),
            Err(_) => {
                abort.abort();
                Err(format!(
                    "the runtime of the program has run no task for {BEAT:?}: its threads are blocked or busy; see /debug/calls"
                ))
            }
        }
    }
}

/// The name of the service that the query asks about; "" is the server itself.
///
/// # Errors
///
/// What is wrong with the query.
fn service_of(query: Option<&str>) -> Result<String, String> {
    let mut query = Query::new(query)?;
    let service = query.take("service").unwrap_or_default().into_owned();
    query.end()?;
    Ok(service)
}

fn unavailable(problem: &str) -> Response<Bytes> {
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n"))
}

/// How long a task of the program's runtime may wait for its turn.
const BEAT: Duration = Duration::from_secs(2);
