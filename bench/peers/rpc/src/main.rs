//! rpc: this project, by nothing but its public API and generated code, with its default settings.
//! TCP; `PEER_VARIANT=unix` for a Unix socket, `tls` for TLS. Not the default: `workers`, a server with two workers of its own in place of
//! the runtime's; `connections`, a client with four connections in place of each; `grpc`, see [`grpc`].

mod grpc;

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Instant,
};

use harness::{Conn, Key, Load, Peer, Store, tls};
use rpc_runtime::{
    Context, Requests, Result, Server, Stream, stream,
    tls::{ClientTls, Identity, Roots, ServerTls},
};

mod api {
    rpc_runtime::include_protos!();
}
use api::bench::kv::v1::{
    FetchReply, FetchRequest, Kv, KvClient, KvServer, PutReply, PutRequest, PutSummary, WatchRequest,
};
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

    async fn rpc_put_many(&self, _: &Context, mut puts: Requests<PutRequest>) -> Result<PutSummary> {
        let mut count = 0;
        while let Some(put) = puts.message().await? {
            self.0.put(&put.key, &put.value);
            count += 1;
        }
        Ok(PutSummary { count })
    }

    async fn rpc_watch(
        &self,
        _: &Context,
        request: WatchRequest,
    ) -> Result<impl Stream<Item = Result<FetchReply>> + Send> {
        // The stream of an iterator, as in the other peers.
        let replies = std::iter::repeat(Ok(self.value(&request.key)?));
        let count = usize::try_from(request.count).unwrap_or(usize::MAX);
        Ok(tokio_stream::iter(replies.take(count)))
    }

    async fn rpc_exchange(
        &self,
        _: &Context,
        mut requests: Requests<FetchRequest>,
    ) -> Result<impl Stream<Item = Result<FetchReply>> + Send> {
        Ok(stream(async move |out| {
            while let Some(request) = requests.message().await? {
                out.send(self.value(&request.key)?).await;
            }
            Ok(())
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
        let mut server = Server::builder().service(KvServer::new(Service(store)));
        let mut ca = None;
        if tls::on_tls() {
            let identity = tls::ServerIdentity::new();
            let config = ServerTls::builder(Identity::pem(identity.chain, identity.key));
            server = server.tls(config.build().unwrap()).listener("tls://127.0.0.1:0");
            ca = Some(identity.ca);
        } else {
            server = server.listener(&address);
        }
        if harness::variant() == "workers" {
            server = server.workers(2);
        }
        let server = server.bind().await.unwrap();
        let address = &server.addresses()[0];
        ready(match ca {
            Some(ca) => format!("{address},{ca}"),
            None => address.to_string(),
        });
        server.serve().await.unwrap();
    }

    async fn connect(addr: String) -> Client {
        let mut client = match tls::on_tls() {
            false => KvClient::builder(&addr),
            true => {
                let (address, ca) = tls::address(&addr);
                let new = || ClientTls::builder().roots(Roots::pem_file(ca)).build().unwrap();
                // A configuration keeps the sessions that can be resumed.
                static SHARED: OnceLock<ClientTls> = OnceLock::new();
                let config = match tls::resumes() {
                    true => SHARED.get_or_init(new).clone(),
                    false => new(),
                };
                KvClient::builder(address).tls(config)
            }
        };
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
        let mut worker = load.worker(0, 1);
        while let Some(key) = worker.next_put().await {
            self.0
                .send()
                .put(PutRequest {
                    key: key.text.clone(),
                    value: worker.value(),
                })
                .await
                .unwrap();
            worker.sent(1);
        }
        let account = self.0.settled().await.unwrap();
        assert_eq!(account.handled(), account.received(), "a one-way was not handled");
        true
    }

    async fn paced(&self, load: Arc<Load>) -> bool {
        self.one_way(load).await
    }

    async fn upload(&self, load: Arc<Load>) -> bool {
        let (mut puts, summary) = self.0.send_recv().put_many().await.unwrap();
        load.begin();
        let mut worker = load.worker(0, 1);
        let mut count = 0;
        while let Some(key) = worker.next_key() {
            puts.send(PutRequest {
                key: key.text.clone(),
                value: worker.value(),
            })
            .await
            .unwrap();
            worker.sent(1);
            count += 1;
        }
        puts.finish();
        assert_eq!(summary.await.unwrap().count, count, "a message did not come");
        true
    }

    async fn ping_pong(&self, load: Arc<Load>) -> bool {
        let (mut requests, mut replies) = self.0.send_recv().exchange().await.unwrap();
        load.begin();
        let mut worker = load.worker(0, load.inflight);
        let mut open = VecDeque::new();
        loop {
            while open.len() < load.inflight
                && let Some(key) = worker.next_key()
            {
                open.push_back((Instant::now(), key));
                let key = key.text.clone();
                requests.send(FetchRequest { key }).await.unwrap();
            }
            let Some((start, key)) = open.pop_front() else {
                break;
            };
            key.check(&replies.message().await.unwrap().unwrap().value);
            worker.done_at(start, Instant::now(), key);
        }
        requests.finish();
        assert!(
            replies.message().await.unwrap().is_none(),
            "more answers than questions"
        );
        true
    }

    async fn watch(&self, load: Arc<Load>) -> bool {
        let key = &load.keys[0];
        let request = WatchRequest {
            key: key.text.clone(),
            count: load.count(),
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
    match harness::variant().as_str() {
        "grpc" => harness::run::<grpc::RpcOverGrpc>(),
        _ => harness::run::<Rpc>(),
    }
}
