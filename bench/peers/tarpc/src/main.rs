//! tarpc: bincode in length-delimited frames over TCP; a task per request on
//! the server, as in its examples. It has no one-way calls. `PEER_VARIANT=unix` for a Unix socket.

use bytes::Bytes;
use futures::StreamExt;
use harness::{Conn, Key, Listener, Peer, Store, socket, socket::Socket};
use std::sync::Arc;
use tarpc::server::{BaseChannel, Channel};
use tarpc::{client, context, serde_transport, server};
use tokio_serde::formats::Bincode;
use tokio_util::codec::LengthDelimitedCodec;

#[tarpc::service]
trait Kv {
    async fn fetch(key: String) -> Option<Bytes>;
}

#[derive(Clone)]
struct Service(Arc<Store>);

impl Kv for Service {
    async fn fetch(self, _: context::Context, key: String) -> Option<Bytes> {
        self.0.work().await;
        self.0.fetch(&key).cloned()
    }
}

struct Tarpc;

fn frames(stream: Box<dyn Socket>) -> tokio_util::codec::Framed<Box<dyn Socket>, LengthDelimitedCodec> {
    LengthDelimitedCodec::builder()
        .max_frame_length(64 << 20)
        .new_framed(stream)
}

impl Peer for Tarpc {
    const NAME: &'static str = "tarpc";
    type Conn = Client;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let listener = Listener::bind(ready).await;
        let config = server::Config {
            pending_response_buffer: 1024,
        };
        loop {
            let transport = serde_transport::new(frames(listener.accept().await), Bincode::default());
            let requests = BaseChannel::new(config.clone(), transport)
                .execute(Service(store.clone()).serve())
                .for_each(|request| async {
                    tokio::spawn(request);
                });
            tokio::spawn(requests);
        }
    }

    async fn connect(addr: String) -> Client {
        let transport = serde_transport::new(frames(socket::connect(&addr).await), Bincode::default());
        let mut config = client::Config::default();
        config.pending_request_buffer = 1024;
        Client(KvClient::new(config, transport).spawn())
    }
}

#[derive(Clone)]
struct Client(KvClient);

impl Conn for Client {
    async fn fetch(&self, key: &Key) {
        let value = self.0.fetch(context::current(), key.text.clone()).await.unwrap();
        key.check(&value.unwrap());
    }
}

fn main() {
    harness::run::<Tarpc>();
}
