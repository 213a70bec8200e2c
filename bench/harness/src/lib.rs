//! Shared harness of the peer benchmark: the data, the closed-loop load
//! generator, the measurements and the command line. A peer implements
//! [`Peer`] (tokio, `Send` connections) or, if its framework dictates its own
//! threading, [`Driver`], and its `main` is one call to [`run`] or [`run_driver`].

pub mod cli;
pub mod delays;
pub mod load;
pub mod pace;
pub mod proc;
pub mod socket;
pub mod store;
pub mod tls;
pub mod tokio_peer;
pub mod worker;

pub use cli::{run, run_driver};
pub use load::Load;
pub use socket::{Listener, on_unix, socket_path};
pub use store::{Key, Store};
pub use tokio_peer::{Conn, Peer};
pub use worker::{Put, Worker};

use std::sync::Arc;

/// The same allocator in every process.
#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Worker threads per process, in every peer.
pub const WORKERS: usize = 2;

/// Which flavour of a peer to run, when it has several (`PEER_VARIANT`).
pub fn variant() -> String {
    std::env::var("PEER_VARIANT").unwrap_or_default()
}

/// What a peer must be able to do. All methods block the calling thread.
pub trait Driver {
    const NAME: &'static str;

    /// Bind on 127.0.0.1 (or a Unix socket), call `ready` with the address in
    /// the peer's own notation, then serve until the process ends.
    fn server(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static);

    /// Open `load.conns` connections, call `load.begin()`, keep
    /// `load.inflight` calls in flight on each until `Worker::next_key` says stop.
    fn drive(addr: &str, load: Arc<Load>);

    /// Open `conns` connections, make one call on each, call `hold` while all
    /// are open and idle.
    fn idle(addr: &str, conns: usize, key: &'static Key, hold: impl FnOnce() + Send);

    /// Open connections, make one call on each, and close them: `load.inflight` at a time, until `Worker::next_key` says stop.
    /// Returns false if the peer has nothing of the kind.
    fn handshakes(addr: &str, load: Arc<Load>) -> bool {
        let _ = (addr, load);
        false
    }

    /// Send one-way messages on one connection until `load` says stop, then
    /// wait until the server has consumed them all. Returns false if the
    /// framework has nothing of the kind.
    fn one_way(addr: &str, load: Arc<Load>) -> bool {
        let _ = (addr, load);
        false
    }

    /// As [`Self::one_way`], each message when it is due, and with the time in its value: the peer takes messages
    /// from [`Worker::next_put`] (or [`Worker::put`]) and values from [`Worker::value`].
    fn paced(addr: &str, load: Arc<Load>) -> bool {
        let _ = (addr, load);
        false
    }

    /// Send the messages of [`Self::one_way`] as the stream of one call, whose reply tells how many came.
    fn upload(addr: &str, load: Arc<Load>) -> bool {
        let _ = (addr, load);
        false
    }

    /// Keep `load.inflight` messages outstanding on the two streams of one call: each asks for a value, and each is
    /// answered by one message, in order.
    fn ping_pong(addr: &str, load: Arc<Load>) -> bool {
        let _ = (addr, load);
        false
    }

    /// Read a stream of the server's messages on one connection until `load` says stop; ask for `load.count()` of them.
    /// Returns false if the framework has nothing of the kind.
    fn watch(addr: &str, load: Arc<Load>) -> bool {
        let _ = (addr, load);
        false
    }

    /// One small call at a time on one connection, while `quiet` says so; then the same while `busy` says so, beside
    /// two tasks that fetch `bulk` on the same connection. Returns false if that makes no sense for this peer.
    fn beside(addr: &str, quiet: Arc<Load>, busy: Arc<Load>, bulk: &'static [Key]) -> bool {
        let _ = (addr, quiet, busy, bulk);
        false
    }
}
