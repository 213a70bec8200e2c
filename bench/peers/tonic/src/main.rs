//! tonic: gRPC over HTTP/2 (hyper, h2), prost messages with `Bytes` fields.

use harness::{Conn, Key, Load, Peer, Store, tls};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
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
use watch::{ExchangeReply, ExchangeRequest, WatchReply, WatchRequest};

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
        let mut count = 0;
        while let Some(put) = puts.next().await {
            let put = put?;
            self.0.put(&put.key, &put.value);
            count += 1;
        }
        Ok(Response::new(PutSummary { count }))
    }
}

#[tonic::async_trait]
impl Watcher for Service {
    type WatchStream = tokio_stream::Iter<std::iter::Take<std::iter::Repeat<Result<WatchReply, Status>>>>;
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<ExchangeReply, Status>> + Send>>;

    async fn watch(&self, req: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let value = self
            .0
            .fetch(&req.get_ref().key)
            .ok_or_else(|| Status::not_found("no such key"))?;
        let replies = std::iter::repeat(Ok(WatchReply { value: value.clone() }));
        let count = usize::try_from(req.get_ref().count).unwrap_or(usize::MAX);
        Ok(Response::new(tokio_stream::iter(replies.take(count))))
    }

    async fn exchange(
        &self,
        req: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let store = self.0.clone();
        let replies = req.into_inner().map(move |request| {
            let value = store
                .fetch(&request?.key)
                .ok_or_else(|| Status::not_found("no such key"))?;
            Ok(ExchangeReply { value: value.clone() })
        });
        Ok(Response::new(Box::pin(replies)))
    }
}

struct Tonic;

impl Peer for Tonic {
    const NAME: &'static str = "tonic";
    type Conn = Client;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let mut server = Server::builder();
        let listener = if tls::on_tls() {
            let tls::ServerIdentity { chain, key, ca } = tls::ServerIdentity::new();
            let config = ServerTlsConfig::new().identity(Identity::from_pem(chain, key));
            server = server.tls_config(config).unwrap();
            harness::socket::listen_tcp(|address| ready(format!("{address},{ca}"))).await
        } else {
            harness::socket::listen_tcp(ready).await
        };
        server
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_service(WatcherServer::new(Service(store.clone())))
            .add_service(KvServer::new(Service(store)))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await
            .unwrap();
    }

    async fn connect(addr: String) -> Client {
        // An endpoint keeps the sessions that can be resumed.
        static SHARED: OnceLock<Endpoint> = OnceLock::new();
        let endpoint = match tls::on_tls() && tls::resumes() {
            true => SHARED.get_or_init(|| endpoint(&addr)).clone(),
            false => endpoint(&addr),
        };
        let channel = endpoint.connect().await.unwrap();
        Client(KvClient::new(channel.clone()), WatcherClient::new(channel))
    }
}

fn endpoint(addr: &str) -> Endpoint {
    let endpoint = match tls::on_tls() {
        false => Endpoint::from_shared(format!("http://{addr}")).unwrap(),
        true => {
            let (address, ca) = tls::address(addr);
            let ca = Certificate::from_pem(std::fs::read(ca).unwrap());
            let config = ClientTlsConfig::new().ca_certificate(ca).domain_name("localhost");
            let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
            endpoint.tls_config(config).unwrap()
        }
    };
    endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
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
        self.upload(load).await
    }

    async fn paced(&self, load: Arc<Load>) -> bool {
        load.begin();
        let worker = load.worker(0, 1);
        let puts = futures::stream::unfold(worker, async |mut worker| {
            let key = worker.next_put().await?;
            let put = PutRequest {
                key: key.text.clone(),
                value: worker.value(),
            };
            worker.sent(1);
            Some((put, worker))
        });
        self.0.clone().put_many(puts).await.unwrap();
        true
    }

    async fn upload(&self, load: Arc<Load>) -> bool {
        load.begin();
        // Dropped at the end of the stream: what it has counted is read when the summary is here.
        let mut worker = Some(load.worker(0, 1));
        let puts = std::iter::from_fn(move || {
            let sender = worker.as_mut()?;
            let Some(key) = sender.next_key() else {
                worker = None;
                return None;
            };
            sender.sent(1);
            Some(PutRequest {
                key: key.text.clone(),
                value: sender.value(),
            })
        });
        let summary = self.0.clone().put_many(tokio_stream::iter(puts)).await;
        let count = summary.unwrap().get_ref().count;
        assert_eq!(
            count,
            load.tally() & u64::from(u32::MAX),
            "a message did not come"
        );
        true
    }

    async fn ping_pong(&self, load: Arc<Load>) -> bool {
        let (requests, receiver) = mpsc::channel(load.inflight);
        let mut watcher = self.1.clone();
        let replies = watcher.exchange(ReceiverStream::new(receiver)).await;
        let mut replies = replies.unwrap().into_inner();
        load.begin();
        let mut worker = load.worker(0, load.inflight);
        let mut open = VecDeque::new();
        loop {
            while open.len() < load.inflight
                && let Some(key) = worker.next_key()
            {
                open.push_back((Instant::now(), key));
                let key = key.text.clone();
                requests.send(ExchangeRequest { key }).await.unwrap();
            }
            let Some((start, key)) = open.pop_front() else {
                break;
            };
            key.check(&replies.message().await.unwrap().unwrap().value);
            worker.done_at(start, Instant::now(), key);
        }
        drop(requests);
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
