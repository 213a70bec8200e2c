//! rpc: this project, by nothing but its public API and generated code, with its default settings.
//! TCP; `PEER_VARIANT=unix` for a Unix socket. Not the default: `workers`, a server with two workers of its own in place of
//! the runtime's; `connections`, a client with four connections in place of each.

use std::sync::Arc;

use harness::{Conn, Key, Load, Peer, Store};
use rpc_runtime::{Bytes, Context, Result, Server, Stream, stream};

mod api {
    rpc_runtime::include_protos!();
}
use api::bench::kv::v1::{FetchReply, FetchRequest, Kv, KvClient, KvServer, PutReply, PutRequest};
use rpc_runtime::{Code, Status};

struct Service(Arc<Store>);

impl Kv for Service {
    async fn rpc_fetch(&self, _: &Context, request: FetchRequest) -> Result<FetchReply> {
        self.0.work().await;
        self.value(&request.key)
    }

    async fn rpc_put(&self, _: &Context, request: PutRequest) -> Result<PutReply> {
        self.0.put(&request.key, &request.value);
        Ok(PutReply {})
    }

    async fn rpc_watch(
        &self,
        _: &Context,
        request: FetchRequest,
    ) -> Result<impl Stream<Item = Result<FetchReply>> + Send> {
        let reply = self.value(&request.key)?;
        Ok(stream(async move |out| {
            loop {
                out.send(reply.clone()).await;
            }
        }))
    }
}

impl Service {
    fn value(&self, key: &str) -> Result<FetchReply> {
        let value = self
            .0
            .fetch(key)
            .ok_or_else(|| Status::new(Code::NotFound, "no such key"))?;
        Ok(FetchReply { value: value.clone() })
    }
}

struct Rpc;

impl Peer for Rpc {
    const NAME: &'static str = "rpc";
    type Conn = Client;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send) {
        let address = if harness::on_unix() {
            format!("unix:{}", harness::socket_path())
        } else {
            "tcp://127.0.0.1:0".to_owned()
        };
        let mut server = Server::builder()
            .service(KvServer::new(Service(store)))
            .listener(&address);
        if harness::variant() == "workers" {
            server = server.workers(2);
        }
        let server = server.bind().await.unwrap();
        ready(server.addresses()[0].to_string());
        server.serve().await.unwrap();
    }

    async fn connect(addr: String) -> Client {
        let mut client = KvClient::builder(&addr);
        if harness::variant() == "connections" {
            client = client.connections(4);
        }
        Client(client.connect().await.unwrap())
    }
}

#[derive(Clone)]
struct Client(KvClient);

impl Conn for Client {
    async fn fetch(&self, key: &Key) {
        let reply = self
            .0
            .send_recv()
            .fetch(FetchRequest {
                key: key.text.clone(),
            })
            .await
            .unwrap();
        key.check(&reply.value);
    }

    async fn one_way(&self, load: Arc<Load>) -> bool {
        load.begin();
        let value = Bytes::from(vec![7; load.keys[0].len]);
        let mut worker = load.worker(0, 1);
        while let Some(key) = worker.next_key() {
            self.0
                .send()
                .put(PutRequest {
                    key: key.text.clone(),
                    value: value.clone(),
                })
                .await
                .unwrap();
            worker.sent(1);
        }
        self.0.barrier().await.unwrap();
        true
    }

    async fn watch(&self, load: Arc<Load>) -> bool {
        let key = &load.keys[0];
        let request = FetchRequest {
            key: key.text.clone(),
        };
        let mut replies = self.0.send_recv().watch(request).await.unwrap();
        load.begin();
        let mut worker = load.worker(0, 1);
        while worker.next_key().is_some() {
            key.check(&replies.message().await.unwrap().unwrap().value);
            worker.sent(1);
        }
        true
    }
}

fn main() {
    harness::run::<Rpc>();
}
