//! tonic: gRPC over HTTP/2 (hyper, h2), prost messages with `Bytes` fields.

use harness::{Conn, Key, Load, Peer, Store};
use std::sync::Arc;
use tokio_stream::StreamExt;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

mod kv {
    tonic::include_proto!("kv");
}
mod watch {
    tonic::include_proto!("watch");
}
use kv::kv_client::KvClient;
use kv::kv_server::{Kv, KvServer};
use kv::{FetchRequest, FetchResponse, PutRequest, PutSummary};
use watch::watcher_client::WatcherClient;
use watch::watcher_server::{Watcher, WatcherServer};
use watch::{WatchReply, WatchRequest};

const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

#[derive(Clone)]
struct Service(Arc<Store>);

#[tonic::async_trait]
impl Kv for Service {
    async fn fetch(&self, req: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        self.0.work().await;
        match self.0.fetch(&req.get_ref().key) {
            Some(value) => Ok(Response::new(FetchResponse { value: value.clone() })),
            None => Err(Status::not_found("no such key")),
        }
    }

    async fn put_many(&self, req: Request<Streaming<PutRequest>>) -> Result<Response<PutSummary>, Status> {
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

#[tonic::async_trait]
impl Watcher for Service {
    type WatchStream = tokio_stream::Iter<std::iter::Repeat<Result<WatchReply, Status>>>;

    async fn watch(&self, req: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let value = self
            .0
            .fetch(&req.get_ref().key)
            .ok_or_else(|| Status::not_found("no such key"))?;
        let replies = std::iter::repeat(Ok(WatchReply { value: value.clone() }));
        Ok(Response::new(tokio_stream::iter(replies)))
    }
}

struct Tonic;

impl Peer for Tonic {
    const NAME: &'static str = "tonic";
    type Conn = Client;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let listener = harness::socket::listen_tcp(ready).await;
        Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_service(WatcherServer::new(Service(store.clone())))
            .add_service(KvServer::new(Service(store)))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await
            .unwrap();
    }

    async fn connect(addr: String) -> Client {
        let channel = Endpoint::from_shared(format!("http://{addr}"))
            .unwrap()
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect()
            .await
            .unwrap();
        Client(KvClient::new(channel.clone()), WatcherClient::new(channel))
    }
}

#[derive(Clone)]
struct Client(KvClient<Channel>, WatcherClient<Channel>);

impl Conn for Client {
    async fn fetch(&self, key: &Key) {
        let req = FetchRequest {
            key: key.text.clone(),
        };
        let reply = self.0.clone().fetch(req).await.unwrap();
        key.check(&reply.get_ref().value);
    }

    async fn one_way(&self, load: Arc<Load>) -> bool {
        load.begin();
        let value = bytes::Bytes::from(vec![7; load.keys[0].len]);
        let mut worker = load.worker(0, 1);
        let puts = std::iter::from_fn(move || {
            let key = worker.next_key()?;
            worker.sent(1);
            Some(PutRequest {
                key: key.text.clone(),
                value: value.clone(),
            })
        });
        self.0.clone().put_many(tokio_stream::iter(puts)).await.unwrap();
        true
    }

    async fn watch(&self, load: Arc<Load>) -> bool {
        let key = &load.keys[0];
        let request = WatchRequest {
            key: key.text.clone(),
        };
        let mut replies = self.1.clone().watch(request).await.unwrap().into_inner();
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
    harness::run::<Tonic>();
}
