//! The usual case: a framework on a multi-thread tokio runtime.

use crate::{Driver, Key, Load, Store, WORKERS};
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A framework to measure.
pub trait Peer: Send + Sync + 'static {
    const NAME: &'static str;
    type Conn: Conn;

    /// Listen, tell `ready` the address, serve `store`.
    fn serve(
        store: Arc<Store>,
        ready: impl FnOnce(String) + Send + 'static,
    ) -> impl Future<Output = ()> + Send;

    /// Open one connection to `addr`.
    fn connect(addr: String) -> impl Future<Output = Self::Conn> + Send;
}

/// One connection; clones share it.
pub trait Conn: Clone + Send + Sync + 'static {
    /// One call: ask for `key.text`, hand the value to `key.check`.
    fn fetch(&self, key: &Key) -> impl Future<Output = ()> + Send;

    /// See [`Driver::one_way`].
    fn one_way(&self, load: Arc<Load>) -> impl Future<Output = bool> + Send {
        let _ = load;
        async { false }
    }

    /// See [`Driver::paced`].
    fn paced(&self, load: Arc<Load>) -> impl Future<Output = bool> + Send {
        let _ = load;
        async { false }
    }

    /// See [`Driver::upload`].
    fn upload(&self, load: Arc<Load>) -> impl Future<Output = bool> + Send {
        let _ = load;
        async { false }
    }

    /// See [`Driver::ping_pong`].
    fn ping_pong(&self, load: Arc<Load>) -> impl Future<Output = bool> + Send {
        let _ = load;
        async { false }
    }

    /// See [`Driver::watch`].
    fn watch(&self, load: Arc<Load>) -> impl Future<Output = bool> + Send {
        let _ = load;
        async { false }
    }
}

pub struct OnTokio<P>(PhantomData<P>);

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .unwrap()
}

impl<P: Peer> Driver for OnTokio<P> {
    const NAME: &'static str = P::NAME;

    fn server(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let rt = runtime();
        rt.block_on(rt.spawn(P::serve(store, ready))).unwrap();
    }

    fn drive(addr: &str, load: Arc<Load>) {
        let addr = addr.to_string();
        let client = async move {
            let mut conns = Vec::new();
            for _ in 0..load.conns {
                let conn = P::connect(addr.clone()).await;
                conn.fetch(&load.keys[0]).await;
                conns.push(conn);
            }
            load.begin();
            let mut tasks = Vec::new();
            for i in 0..load.conns * load.inflight {
                let conn = conns[i % load.conns].clone();
                let mut worker = load.worker(i, 1);
                tasks.push(tokio::spawn(async move {
                    while let Some(key) = worker.next_key() {
                        conn.fetch(key).await;
                        worker.done(key);
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        };
        let rt = runtime();
        rt.block_on(rt.spawn(client)).unwrap();
    }

    fn idle(addr: &str, conns: usize, key: &'static Key, hold: impl FnOnce() + Send) {
        let rt = runtime();
        let open = rt.block_on(async {
            let mut open = Vec::new();
            for _ in 0..conns {
                let conn = P::connect(addr.to_string()).await;
                conn.fetch(key).await;
                open.push(conn);
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            open
        });
        hold();
        drop(open);
    }

    fn handshakes(addr: &str, load: Arc<Load>) -> bool {
        let addr = addr.to_string();
        let client = async move {
            // The first one has no session to resume.
            P::connect(addr.clone()).await.fetch(&load.keys[0]).await;
            load.begin();
            let mut tasks = Vec::new();
            for i in 0..load.inflight {
                let (addr, mut worker) = (addr.clone(), load.worker(i, 1));
                tasks.push(tokio::spawn(async move {
                    while let Some(key) = worker.next_key() {
                        P::connect(addr.clone()).await.fetch(key).await;
                        worker.done(key);
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        };
        let rt = runtime();
        rt.block_on(rt.spawn(client)).unwrap();
        true
    }

    fn one_way(addr: &str, load: Arc<Load>) -> bool {
        on_one::<P>(addr, load, Messages::OneWay)
    }

    fn paced(addr: &str, load: Arc<Load>) -> bool {
        on_one::<P>(addr, load, Messages::Paced)
    }

    fn upload(addr: &str, load: Arc<Load>) -> bool {
        on_one::<P>(addr, load, Messages::Upload)
    }

    fn ping_pong(addr: &str, load: Arc<Load>) -> bool {
        on_one::<P>(addr, load, Messages::PingPong)
    }

    fn watch(addr: &str, load: Arc<Load>) -> bool {
        on_one::<P>(addr, load, Messages::Watch)
    }

    fn beside(addr: &str, quiet: Arc<Load>, busy: Arc<Load>, bulk: &'static [Key]) -> bool {
        let addr = addr.to_string();
        let client = async move {
            let conn = P::connect(addr).await;
            conn.fetch(&bulk[0]).await;
            one_by_one(&conn, &quiet).await;
            let done = Arc::new(AtomicBool::new(false));
            let flows: Vec<_> = bulk
                .iter()
                .map(|key| {
                    let (conn, done) = (conn.clone(), done.clone());
                    tokio::spawn(async move {
                        while !done.load(Ordering::Relaxed) {
                            conn.fetch(key).await;
                        }
                    })
                })
                .collect();
            one_by_one(&conn, &busy).await;
            done.store(true, Ordering::Relaxed);
            for flow in flows {
                flow.await.unwrap();
            }
        };
        let rt = runtime();
        rt.block_on(rt.spawn(client)).unwrap();
        true
    }
}

/// What [`Conn`] does with messages that are no calls.
enum Messages {
    OneWay,
    Paced,
    Upload,
    PingPong,
    Watch,
}

/// Does it on one connection, which has been used before.
fn on_one<P: Peer>(addr: &str, load: Arc<Load>, messages: Messages) -> bool {
    let addr = addr.to_string();
    let client = async move {
        let conn = P::connect(addr).await;
        conn.fetch(&load.keys[0]).await;
        match messages {
            Messages::OneWay => conn.one_way(load).await,
            Messages::Paced => conn.paced(load).await,
            Messages::Upload => conn.upload(load).await,
            Messages::PingPong => conn.ping_pong(load).await,
            Messages::Watch => conn.watch(load).await,
        }
    };
    let rt = runtime();
    rt.block_on(rt.spawn(client)).unwrap()
}

async fn one_by_one<C: Conn>(conn: &C, load: &Arc<Load>) {
    load.begin();
    let mut worker = load.worker(0, 1);
    while let Some(key) = worker.next_key() {
        conn.fetch(key).await;
        worker.done(key);
    }
}
