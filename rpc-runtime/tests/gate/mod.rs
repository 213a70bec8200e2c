//! The leak gate: whatever a test began has to come to its end when the test does.
//!
//! `#[tokio::test(crate = "gate")]` puts a test through it: tokio's attribute then takes the runtime from here. When the test
//! has returned, its clients are gone, and so everything that its servers have in hand must come to an end by itself. Then the
//! servers are drained, and after that no task may be left. What has not gone within [`NET`] of real time is named.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rpc_runtime::{DrainReport, Error, Load, Server, ServerHandle};
pub(crate) use tokio::pin;
use tokio::{
    runtime::{Handle, Id},
    task::JoinHandle,
    time::timeout,
};

/// Serves `server`, at which the gate looks at the end of the test.
pub(crate) fn serve(server: Server) -> JoinHandle<Result<DrainReport, Error>> {
    watch(server, Kind::Server)
}

/// As [`serve`], for one of several servers whose services are clients of each other: their connections end only with them.
pub(crate) fn serve_peer(server: Server) -> JoinHandle<Result<DrainReport, Error>> {
    watch(server, Kind::Peer)
}

fn watch(server: Server, kind: Kind) -> JoinHandle<Result<DrainReport, Error>> {
    let watched = (kind, server.handle());
    servers(|all| all.entry(Handle::current().id()).or_default().push(watched));
    tokio::spawn(server.serve())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Peer,
}

type Servers = HashMap<Id, Vec<(Kind, ServerHandle)>>;

/// What tokio's attribute looks for in the crate it is told.
pub(crate) mod runtime {
    use std::io;

    use super::close;

    pub(crate) struct Builder(tokio::runtime::Builder);

    pub(crate) struct Runtime(tokio::runtime::Runtime);

    impl Builder {
        pub(crate) fn new_current_thread() -> Self {
            Self(tokio::runtime::Builder::new_current_thread())
        }

        pub(crate) fn new_multi_thread() -> Self {
            Self(tokio::runtime::Builder::new_multi_thread())
        }

        pub(crate) fn worker_threads(mut self, count: usize) -> Self {
            self.0.worker_threads(count);
            self
        }

        pub(crate) fn start_paused(mut self, is_paused: bool) -> Self {
            self.0.start_paused(is_paused);
            self
        }

        pub(crate) fn enable_all(mut self) -> Self {
            self.0.enable_all();
            self
        }

        pub(crate) fn build(mut self) -> io::Result<Runtime> {
            self.0.build().map(Runtime)
        }
    }

    impl Runtime {
        /// Runs a test, and then looks for what it has left.
        pub(crate) fn block_on<T>(self, test: impl Future<Output = T>) -> T {
            let result = self.0.block_on(test);
            self.0.block_on(close());
            result
        }
    }
}

/// Waits until nothing is left of what ran in this runtime.
async fn close() {
    let runtime = Handle::current();
    let servers = servers(|all| all.remove(&runtime.id()).unwrap_or_default());
    let mut serving = Vec::new();
    for (kind, server) in servers {
        match timeout(Duration::ZERO, server.drained()).await {
            Ok(_) => gone(|| server.load(), Load::default(), "a server that has ended").await,
            Err(_) => serving.push((kind, server)),
        }
    }
    // The last one first, and each is let go before the next: its service may be a client of others.
    while let Some((kind, server)) = serving.pop() {
        let load = || {
            let load = server.load();
            if kind == Kind::Peer && load.is_idle() {
                Load::default()
            } else {
                load
            }
        };
        gone(load, Load::default(), "a server that serves").await;
        server.abort();
        server.drained().await;
        gone(|| server.load(), Load::default(), "a server that has ended").await;
    }
    gone(|| runtime.metrics().num_alive_tasks(), 0, "the runtime, in tasks").await;
}

/// Waits until `left` is `nothing`.
async fn gone<T: PartialEq + std::fmt::Debug>(left: impl Fn() -> T, nothing: T, place: &str) {
    let begun = Instant::now();
    while left() != nothing {
        // A net against hanging: in a runtime whose clock is paused, virtual time passes meanwhile.
        assert!(begun.elapsed() < NET, "left in {place}: {:?}", left());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn servers<R>(look: impl FnOnce(&mut Servers) -> R) -> R {
    static SERVERS: Mutex<Option<Servers>> = Mutex::new(None);
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    look(servers.get_or_insert_default())
}

/// How long things may take to come to an end.
const NET: Duration = Duration::from_secs(30);
