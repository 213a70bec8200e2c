//! This project over gRPC (`PEER_VARIANT=grpc`): its server answers the same port natively and by gRPC, and its client calls any gRPC server.
//! The services are those of the other gRPC peers, so each client works with each server.

use std::sync::Arc;

use harness::{Conn, Key, Load, Peer, Store};
use rpc_http::{Grpc, Http};
use rpc_runtime::{Code, Context, Requests, Result, Server, Status, Stream, stream};

use crate::{
    Service,
    api::{
        bench::kv::v1 as native,
        kv::{FetchRequest, FetchResponse, Kv, KvClient, KvServer, PutRequest, PutSummary},
        watch::{
            ExchangeReply, ExchangeRequest, WatchReply, WatchRequest, Watcher, WatcherClient, WatcherServer,
        },
    },
};

#[derive(Clone)]
struct OverGrpc(Arc<Store>);

impl OverGrpc {
    fn value(&self, key: &str) -> Result<rpc_runtime::Bytes> {
        let value = self.0.fetch(key).cloned();
        value.ok_or_else(|| Status::new(Code::NotFound, "no such key"))
    }
}

impl Kv for OverGrpc {
    async fn rpc_fetch(&self, _: &Context, request: FetchRequest) -> Result<FetchResponse> {
        self.0.work().await;
        let value = self.value(&request.key)?;
        Ok(FetchResponse { value })
    }

    async fn rpc_put_many(&self, _: &Context, mut puts: Requests<PutRequest>) -> Result<PutSummary> {
        let mut count = 0;
        while let Some(put) = puts.message().await? {
            self.0.put(&put.key, &put.value);
            count += 1;
        }
        Ok(PutSummary { count })
    }
}

impl Watcher for OverGrpc {
    async fn rpc_watch(
        &self,
        _: &Context,
        request: WatchRequest,
    ) -> Result<impl Stream<Item = Result<WatchReply>> + Send> {
        let value = self.value(&request.key)?;
        let replies = std::iter::repeat(Ok(WatchReply { value }));
        let count = usize::try_from(request.count).unwrap_or(usize::MAX);
        Ok(tokio_stream::iter(replies.take(count)))
    }

    async fn rpc_exchange(
        &self,
        _: &Context,
        mut requests: Requests<ExchangeRequest>,
    ) -> Result<impl Stream<Item = Result<ExchangeReply>> + Send> {
        let store = self.clone();
        Ok(stream(async move |out| {
            while let Some(request) = requests.message().await? {
                let value = store.value(&request.key)?;
                out.send(ExchangeReply { value }).await;
            }
            Ok(())
        }))
    }
}

pub struct RpcOverGrpc;

impl Peer for RpcOverGrpc {
    const NAME: &'static str = "rpc over gRPC";
    type Conn = Client;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send) {
        let server = Server::builder()
            .service(native::KvServer::new(Service(store.clone())))
            .service(KvServer::new(OverGrpc(store.clone())))
            .service(WatcherServer::new(OverGrpc(store)))
            .guest(Http::new().grpc())
            .listener("tcp://127.0.0.1:0");
        let server = server.bind().await.unwrap();
        let address = server.addresses()[0].to_string();
        // As gRPC peers tell it.
        ready(address.trim_start_matches("tcp://").to_owned());
        server.serve().await.unwrap();
    }

    async fn connect(addr: String) -> Client {
        let client = KvClient::builder(format!("grpc://{addr}")).protocol(Grpc::new());
        let kv = client.connect().await.unwrap();
        let watcher = WatcherClient::new(kv.client().clone());
        Client(kv, watcher)
    }
}

#[derive(Clone)]
pub struct Client(KvClient, WatcherClient);

impl Conn for Client {
    async fn fetch(&self, key: &Key) {
        let request = FetchRequest {
            key: key.text.clone(),
        };
        let reply = self.0.send_recv().fetch(request).await.unwrap();
        key.check(&reply.value);
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

    async fn watch(&self, load: Arc<Load>) -> bool {
        let key = &load.keys[0];
        let request = WatchRequest {
            key: key.text.clone(),
            count: load.count(),
        };
        let mut replies = self.1.send_recv().watch(request).await.unwrap();
        load.begin();
        let mut worker = load.worker(0, 1);
        while worker.next_key().is_some() {
            key.check(&replies.message().await.unwrap().unwrap().value);
            worker.sent(1);
        }
        true
    }
}
