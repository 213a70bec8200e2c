//! ttrpc, async: protobuf (rust-protobuf, `Bytes` fields) in its own framing.
//! TCP with TCP_NODELAY; `PEER_VARIANT=unix` for a Unix socket, its usual home.

use async_trait::async_trait;
use harness::{Conn, Key, Peer, Store};
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use ttrpc::asynchronous::transport::{Listener, Socket};
use ttrpc::asynchronous::{Client, Server, TtrpcContext};

mod rpc {
    include!(concat!(env!("OUT_DIR"), "/mod.rs"));
}
use rpc::kv::{FetchRequest, FetchResponse};
use rpc::kv_ttrpc::{Kv, KvClient, create_kv};

struct Service(Arc<Store>);

#[async_trait]
impl Kv for Service {
    async fn fetch(&self, _: &TtrpcContext, req: FetchRequest) -> ttrpc::Result<FetchResponse> {
        self.0.work().await;
        match self.0.fetch(&req.key) {
            Some(value) => Ok(FetchResponse {
                value: value.clone(),
                ..Default::default()
            }),
            None => Err(ttrpc::Error::RpcStatus(ttrpc::get_status(
                ttrpc::Code::NOT_FOUND,
                "no such key",
            ))),
        }
    }
}

struct Ttrpc;

impl Peer for Ttrpc {
    const NAME: &'static str = "ttrpc";
    type Conn = Conned;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let listener = match harness::Listener::bind(ready).await {
            harness::Listener::Unix(listener) => Listener::new(UnixListenerStream::new(listener)),
            harness::Listener::Tcp(listener) => {
                Listener::new(TcpListenerStream::new(listener).map(|stream| {
                    let stream = stream?;
                    stream.set_nodelay(true)?;
                    Ok(stream)
                }))
            }
            harness::Listener::Tls(_) => panic!("ttrpc has no TLS"),
        };
        let mut server = Server::new()
            .register_service(create_kv(Arc::new(Service(store))))
            .add_listener(listener);
        server.start().await.unwrap();
        std::future::pending::<()>().await;
    }

    async fn connect(addr: String) -> Conned {
        let socket = if addr.starts_with('/') {
            Socket::new(UnixStream::connect(addr).await.unwrap())
        } else {
            let stream = TcpStream::connect(addr).await.unwrap();
            stream.set_nodelay(true).unwrap();
            Socket::new(stream)
        };
        Conned(KvClient::new(Client::new(socket)))
    }
}

#[derive(Clone)]
struct Conned(KvClient);

impl Conn for Conned {
    async fn fetch(&self, key: &Key) {
        let req = FetchRequest {
            key: key.text.clone(),
            ..Default::default()
        };
        let reply = self.0.fetch(ttrpc::context::with_timeout(0), &req).await.unwrap();
        key.check(&reply.value);
    }
}

fn main() {
    harness::run::<Ttrpc>();
}
