//! volo-grpc: gRPC over HTTP/2 (hyper, h2), pilota messages.

use harness::{Conn, Key, Load, Peer, Store};
use pilota::FastStr;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_stream::StreamExt;
use volo::net::incoming::DefaultIncoming;
use volo_grpc::server::{Server, ServiceBuilder};
use volo_grpc::{RecvStream, Request, Response, Status};

mod generated {
    #![allow(warnings, reason = "generated code of another project")]
    include!(concat!(env!("OUT_DIR"), "/kv_gen.rs"));
}
use generated::kv_gen::kv::{
    FetchRequest, FetchResponse, Kv, KvClient, KvClientBuilder, KvServer, PutRequest, PutSummary,
};

const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

struct Service(Arc<Store>);

impl Kv for Service {
    async fn fetch(&self, req: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        self.0.work().await;
        match self.0.fetch(&req.get_ref().key) {
            Some(value) => Ok(Response::new(FetchResponse { value: value.clone() })),
            None => Err(Status::not_found("no such key")),
        }
    }

    async fn put_many(&self, req: Request<RecvStream<PutRequest>>) -> Result<Response<PutSummary>, Status> {
        let mut puts = req.into_inner();
        while let Some(put) = puts.next().await {
            let put = put?;
            self.0.put(&put.key, &put.value);
        }
        Ok(Response::new(PutSummary {
            count: self.0.put_count(),
        }))
    }
}

struct VoloGrpc;

impl Peer for VoloGrpc {
    const NAME: &'static str = "volo-grpc";
    type Conn = Client;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let listener = harness::socket::listen_tcp(ready).await;
        Server::new()
            .http2_init_stream_window_size(STREAM_WINDOW)
            .http2_init_connection_window_size(CONNECTION_WINDOW)
            .add_service(ServiceBuilder::new(KvServer::new(Service(store))).build())
            .run(DefaultIncoming::from(listener))
            .await
            .unwrap();
    }

    /// Each client has its own hyper connection pool, of one HTTP/2 connection.
    async fn connect(addr: String) -> Client {
        let addr: SocketAddr = addr.parse().unwrap();
        Client(
            KvClientBuilder::new("kv")
                .address(addr)
                .http2_init_stream_window_size(STREAM_WINDOW)
                .http2_init_connection_window_size(CONNECTION_WINDOW)
                .build(),
        )
    }
}

#[derive(Clone)]
struct Client(KvClient);

impl Conn for Client {
    async fn fetch(&self, key: &Key) {
        let req = FetchRequest {
            key: FastStr::new(&key.text),
        };
        let reply = self.0.fetch(req).await.unwrap();
        key.check(&reply.get_ref().value);
    }

    async fn one_way(&self, load: Arc<Load>) -> bool {
        load.begin();
        let value = pilota::Bytes::from(vec![7; load.keys[0].len]);
        let mut worker = load.worker(0, 1);
        let puts = std::iter::from_fn(move || {
            let key = worker.next_key()?;
            worker.sent(1);
            let key = FastStr::new(&key.text);
            Some(PutRequest {
                key,
                value: value.clone(),
            })
        });
        self.0.put_many(tokio_stream::iter(puts)).await.unwrap();
        true
    }
}

fn main() {
    harness::run::<VoloGrpc>();
}
