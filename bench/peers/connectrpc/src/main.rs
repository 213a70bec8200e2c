//! connectrpc: the gRPC protocol over HTTP/2 (hyper, h2), buffa messages; the
//! server reads a borrowed view of the request.

use connectrpc::client::{ClientConfig, Http2Connection, SharedHttp2Connection};
use connectrpc::{ConnectError, Protocol, RequestContext, Response, Router, Server};
use connectrpc::{ServiceRequest, ServiceResult, ServiceStream, StreamMessage};
use futures::StreamExt;
use harness::{Conn, Key, Load, Peer, Store};
use std::sync::Arc;

mod proto {
    #![allow(warnings, reason = "generated code of another project")]
    connectrpc::include_generated!();
}
use proto::kv::{FetchRequest, FetchResponse, Kv, KvClient, PutRequest, PutSummary};

const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

struct Service(Arc<Store>);

#[allow(
    refining_impl_trait,
    reason = "the trait returns `impl Trait`, and the handlers return plain types"
)]
impl Kv for Service {
    async fn fetch(
        &self,
        _: RequestContext,
        req: ServiceRequest<'_, FetchRequest>,
    ) -> ServiceResult<FetchResponse> {
        self.0.work().await;
        match self.0.fetch(req.key) {
            Some(value) => Response::ok(FetchResponse {
                value: value.clone(),
                ..Default::default()
            }),
            None => Err(ConnectError::not_found("no such key")),
        }
    }

    async fn put_many(
        &self,
        _: RequestContext,
        mut puts: ServiceStream<StreamMessage<PutRequest>>,
    ) -> ServiceResult<PutSummary> {
        while let Some(put) = puts.next().await {
            let put = put?;
            let put = put.view();
            self.0.put(put.key, put.value);
        }
        Response::ok(PutSummary {
            count: self.0.put_count(),
            ..Default::default()
        })
    }
}

struct ConnectRpc;

impl Peer for ConnectRpc {
    const NAME: &'static str = "connectrpc";
    type Conn = Client;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let listener = harness::socket::listen_tcp(ready).await;
        let router = Router::new().add_service(Arc::new(Service(store)));
        Server::from_listener(listener)
            .with_http2_initial_stream_window_size(STREAM_WINDOW)
            .with_http2_initial_connection_window_size(CONNECTION_WINDOW)
            .serve(router)
            .await
            .unwrap();
    }

    async fn connect(addr: String) -> Client {
        let uri: http::Uri = format!("http://{addr}").parse().unwrap();
        let conn = Http2Connection::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_plaintext(uri.clone())
            .await
            .unwrap()
            .shared(1024);
        Client(KvClient::new(
            conn,
            ClientConfig::new(uri).with_protocol(Protocol::Grpc),
        ))
    }
}

#[derive(Clone)]
struct Client(KvClient<SharedHttp2Connection>);

impl Conn for Client {
    async fn fetch(&self, key: &Key) {
        let req = FetchRequest {
            key: key.text.clone(),
            ..Default::default()
        };
        let reply = self.0.fetch(req).await.unwrap();
        key.check(reply.view().value);
    }

    async fn one_way(&self, load: Arc<Load>) -> bool {
        load.begin();
        let value = bytes::Bytes::from(vec![7; load.keys[0].len]);
        let mut worker = load.worker(0, 1);
        let puts = std::iter::from_fn(move || {
            let key = worker.next_key()?;
            worker.sent(1);
            let (key, value) = (key.text.clone(), value.clone());
            Some(PutRequest {
                key,
                value,
                ..Default::default()
            })
        });
        self.0.put_many(futures::stream::iter(puts)).await.unwrap();
        true
    }
}

fn main() {
    harness::run::<ConnectRpc>();
}
