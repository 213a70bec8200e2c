//! The leak gate: a test fails if what it began does not end.
//!
//! `#[tokio::test(crate = "test_support::gate")]` sends a test through the gate: tokio's attribute then takes the runtime from
//! here. When the test has returned, its clients are gone, so every call of its servers must end by itself. Then the gate drains
//! the servers, and after that no task may be left. The gate waits up to [`LIMIT`] of real time, and then names what is left.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rpc_runtime::{
    DrainReport, Error, Server,
    server::{Load, ServerHandle},
};
#[doc(no_inline)]
pub use tokio::pin;
use tokio::{
    runtime::{Handle, Id},
    task::JoinHandle,
    time::timeout,
};

/// Serves `server` in a task. The gate looks at it at the end of the test.
pub fn serve(server: Server) -> JoinHandle<Result<DrainReport, Error>> {
    watch(server, Kind::Server)
}

/// As [`serve`], for a server whose service is a client of other servers of the test: their connections end only with them.
pub fn serve_peer(server: Server) -> JoinHandle<Result<DrainReport, Error>> {
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

/// The names that tokio's attribute needs.
pub mod runtime {
    use std::io;

    use super::close;

    /// A builder of a runtime with a gate.
    #[derive(Debug)]
    pub struct Builder(tokio::runtime::Builder);

    /// A runtime with a gate.
    #[derive(Debug)]
    pub struct Runtime(tokio::runtime::Runtime);

    impl Builder {
        /// As tokio's.
        pub fn new_current_thread() -> Self {
            Self(tokio::runtime::Builder::new_current_thread())
        }

        /// As tokio's.
        pub fn new_multi_thread() -> Self {
            Self(tokio::runtime::Builder::new_multi_thread())
        }

        /// As tokio's.
        pub fn worker_threads(mut self, count: usize) -> Self {
            self.0.worker_threads(count);
            self
        }

        /// As tokio's.
        pub fn start_paused(mut self, is_paused: bool) -> Self {
            self.0.start_paused(is_paused);
            self
        }

        /// As tokio's.
        pub fn enable_all(mut self) -> Self {
            self.0.enable_all();
            self
        }

        /// As tokio's.
        pub fn build(mut self) -> io::Result<Runtime> {
            self.0.build().map(Runtime)
        }
    }

    impl Runtime {
        /// Runs a test, and then waits for the end of what it began.
        pub fn block_on<T>(self, test: impl Future<Output = T>) -> T {
            let result = self.0.block_on(test);
            self.0.block_on(close());
            result
        }
    }
}

/// Waits until this runtime has no server and no task.
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
    // In reverse, and each is dropped before the next: its service may hold a client of a server before it.
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

/// Waits until `left()` equals `nothing`; panics after [`LIMIT`].
async fn gone<T: PartialEq + std::fmt::Debug>(left: impl Fn() -> T, nothing: T, place: &str) {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    while left() != nothing {
        // Real time: in a runtime whose clock is paused, virtual time jumps meanwhile.
        assert!(
            begun.elapsed() < LIMIT,
            "left in {place} after 30 s: {:?}",
            left()
        );
        tokio::time::sleep(pause).await;
        // What waits for half a minute of virtual time must not need as many steps as there are milliseconds.
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

fn servers<R>(look: impl FnOnce(&mut Servers) -> R) -> R {
    static SERVERS: Mutex<Option<Servers>> = Mutex::new(None);
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    look(servers.get_or_insert_default())
}

/// The longest time between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How long the gate waits for what a test has begun.
pub const LIMIT: Duration = Duration::from_secs(30);
