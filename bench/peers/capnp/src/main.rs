//! capnp-rpc: Cap'n Proto RPC over TCP. Its objects are not `Send`: every
//! process runs two threads, each with a current-thread runtime and a
//! `LocalSet`, and connections are dealt to them in turn (so that a single
//! connection has one thread on either side).

use capnp::Error;
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use futures::AsyncReadExt;
use futures::io::{BufReader, BufWriter};
use harness::{Driver, Key, Load, Store, WORKERS};
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_util::compat::TokioAsyncReadCompatExt;

capnp::generated_code!(mod kv_capnp);
use kv_capnp::kv;

struct Service(Arc<Store>);

impl kv::Server for Service {
    async fn fetch(
        self: Rc<Self>,
        params: kv::FetchParams,
        mut results: kv::FetchResults,
    ) -> Result<(), Error> {
        self.0.work().await;
        let value = self.0.fetch(params.get()?.get_key()?.to_str()?);
        results
            .get()
            .set_value(value.ok_or_else(|| Error::failed("no such key".into()))?);
        Ok(())
    }

    async fn put(self: Rc<Self>, params: kv::PutParams) -> Result<(), Error> {
        let params = params.get()?;
        self.0.put(params.get_key()?.to_str()?, params.get_value()?);
        Ok(())
    }

    async fn put_count(
        self: Rc<Self>,
        _: kv::PutCountParams,
        mut results: kv::PutCountResults,
    ) -> Result<(), Error> {
        results.get().set_count(self.0.put_count());
        Ok(())
    }
}

fn network(stream: TcpStream, side: Side) -> twoparty::VatNetwork<impl futures::AsyncRead + Unpin> {
    stream.set_nodelay(true).unwrap();
    let (reader, writer) = stream.compat().split();
    let (reader, writer) = (BufReader::new(reader), BufWriter::new(writer));
    twoparty::VatNetwork::new(reader, writer, side, Default::default())
}

fn local_runtime(future: impl Future<Output = ()>) {
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    rt.block_on(LocalSet::new().run_until(future));
}

async fn connect(addr: &str) -> kv::Client {
    let stream = TcpStream::connect(addr).await.unwrap();
    let mut rpc = RpcSystem::new(Box::new(network(stream, Side::Client)), None);
    let client = rpc.bootstrap(Side::Server);
    tokio::task::spawn_local(rpc);
    client
}

async fn fetch(client: &kv::Client, key: &Key) {
    let mut request = client.fetch_request();
    request.get().set_key(key.text.as_str());
    let reply = request.send().promise.await.unwrap();
    key.check(reply.get().unwrap().get_value().unwrap());
}

struct Capnp;

impl Driver for Capnp {
    const NAME: &'static str = "capnp";

    fn server(store: Arc<Store>, ready: impl FnOnce(String)) {
        let mut dealers = Vec::new();
        for _ in 0..WORKERS {
            let (deal, mut dealt) = tokio::sync::mpsc::unbounded_channel::<std::net::TcpStream>();
            dealers.push(deal);
            let store = store.clone();
            std::thread::spawn(move || {
                local_runtime(async move {
                    while let Some(stream) = dealt.recv().await {
                        let stream = TcpStream::from_std(stream).unwrap();
                        let client: kv::Client = capnp_rpc::new_client(Service(store.clone()));
                        let network = Box::new(network(stream, Side::Server));
                        tokio::task::spawn_local(RpcSystem::new(network, Some(client.client)));
                    }
                })
            });
        }
        local_runtime(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready(listener.local_addr().unwrap().to_string());
            for turn in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                dealers[turn % WORKERS].send(stream.into_std().unwrap()).unwrap();
            }
        });
    }

    fn drive(addr: &str, load: Arc<Load>) {
        let connected = Barrier::new(WORKERS + 1);
        let begun = Barrier::new(WORKERS + 1);
        std::thread::scope(|scope| {
            for thread in 0..WORKERS {
                let (load, connected, begun) = (load.clone(), &connected, &begun);
                scope.spawn(move || {
                    local_runtime(async {
                        let mut clients = Vec::new();
                        for i in (thread..load.conns).step_by(WORKERS) {
                            let client = connect(addr).await;
                            fetch(&client, &load.keys[0]).await;
                            clients.push((i, client));
                        }
                        connected.wait();
                        begun.wait();
                        let mut tasks = Vec::new();
                        for (i, client) in &clients {
                            for slot in 0..load.inflight {
                                let client = client.clone();
                                let mut worker = load.worker(i * load.inflight + slot, 1);
                                tasks.push(tokio::task::spawn_local(async move {
                                    while let Some(key) = worker.next_key() {
                                        fetch(&client, key).await;
                                        worker.done(key);
                                    }
                                }));
                            }
                        }
                        for task in tasks {
                            task.await.unwrap();
                        }
                    })
                });
            }
            connected.wait();
            load.begin();
            begun.wait();
        });
    }

    fn idle(addr: &str, conns: usize, key: &'static Key, hold: impl FnOnce()) {
        local_runtime(async {
            let mut open = Vec::new();
            for _ in 0..conns {
                let client = connect(addr).await;
                fetch(&client, key).await;
                open.push(client);
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            hold();
        });
    }

    /// `-> stream` methods: the caller does not wait for each, but the server
    /// acknowledges them, for flow control.
    fn one_way(addr: &str, load: Arc<Load>) -> bool {
        local_runtime(async {
            let client = connect(addr).await;
            fetch(&client, &load.keys[0]).await;
            load.begin();
            let value = vec![7; load.keys[0].len];
            let mut worker = load.worker(0, 1);
            while let Some(key) = worker.next_key() {
                let mut request = client.put_request();
                request.get().set_key(key.text.as_str());
                request.get().set_value(&value);
                request.send().await.unwrap();
                worker.sent(1);
            }
            client.put_count_request().send().promise.await.unwrap();
        });
        true
    }
}

fn main() {
    harness::run_driver::<Capnp>();
}
