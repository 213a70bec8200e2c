//! volo-thrift: Thrift binary protocol in TTHeader frames over TCP.
//! By default one call at a time on a connection and a pool of connections, so
//! that "1 connection, N in flight" is really N connections; with
//! `PEER_VARIANT=multiplex` one connection (a feature it calls unstable).

use harness::{Conn, Key, Load, Peer, Store};
use pilota::FastStr;
use std::net::SocketAddr;
use std::sync::Arc;
use volo::net::incoming::DefaultIncoming;
use volo_thrift::{ApplicationException, ApplicationExceptionKind, ServerError};

mod generated {
    #![allow(warnings, reason = "generated code of another project")]
    include!(concat!(env!("OUT_DIR"), "/kv_gen.rs"));
}
use generated::kv_gen::kv::{
    FetchRequest, FetchResponse, Kv, KvClient, KvClientBuilder, KvServer, PutRequest,
};

struct Service(Arc<Store>);

impl Kv for Service {
    async fn fetch(&self, req: FetchRequest) -> Result<FetchResponse, ServerError> {
        self.0.work().await;
        match self.0.fetch(&req.key) {
            Some(value) => Ok(FetchResponse { value: value.clone() }),
            None => Err(ServerError::Application(ApplicationException::new(
                ApplicationExceptionKind::UNKNOWN,
                "no such key",
            ))),
        }
    }

    async fn put(&self, req: PutRequest) -> Result<(), ServerError> {
        self.0.put(&req.key, &req.value);
        Ok(())
    }
}

fn multiplex() -> bool {
    harness::variant() == "multiplex"
}

struct VoloThrift;

impl Peer for VoloThrift {
    const NAME: &'static str = "volo-thrift";
    type Conn = Client;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let listener = harness::socket::listen_tcp(ready).await;
        KvServer::new(Service(store))
            .multiplex(multiplex())
            .run(DefaultIncoming::from(listener))
            .await
            .unwrap();
    }

    async fn connect(addr: String) -> Client {
        let addr: SocketAddr = addr.parse().unwrap();
        Client(
            KvClientBuilder::new("kv")
                .address(addr)
                .multiplex(multiplex())
                .build(),
        )
    }
}

#[derive(Clone)]
struct Client(KvClient);

impl Conn for Client {
    async fn fetch(&self, key: &Key) {
        let reply = self
            .0
            .fetch(FetchRequest {
                key: FastStr::new(&key.text),
            })
            .await
            .unwrap();
        key.check(&reply.value);
    }

    async fn one_way(&self, load: Arc<Load>) -> bool {
        load.begin();
        let value = pilota::Bytes::from(vec![7; load.keys[0].len]);
        let mut worker = load.worker(0, 1);
        while let Some(key) = worker.next_key() {
            let req = PutRequest {
                key: FastStr::new(&key.text),
                value: value.clone(),
            };
            self.0.put(req).await.unwrap();
            worker.sent(1);
        }
        self.fetch(&load.keys[0]).await;
        true
    }
}

fn main() {
    harness::run::<VoloThrift>();
}
