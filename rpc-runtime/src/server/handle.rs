//! ServerHandle: drains a server from elsewhere in its process, and reads its counters.

use std::{sync::Arc, time::Duration};

use super::{ListeningSocket, drain, state::ServerState, terminate::Asker, until::until};
use crate::{Counters, DrainReport, Error, Load};

/// Drains a server from elsewhere in its process, and reads its counters.
///
/// Cheap to clone; a handle does not keep the server running.
///
/// ```
/// # struct Hello;
/// # impl rpc_runtime::server::Service for Hello {
/// #     fn name(&self) -> &'static str { "doc.v1.Hello" }
/// #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
/// #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// use rpc_runtime::Server;
///
/// let server = Server::builder().service(Hello).listener("mem:handle").signals(false).bind().await?;
/// let handle = server.handle();
/// let serving = tokio::spawn(server.serve());
///
/// handle.drain();
/// assert!(handle.drained().await.is_clean());
/// println!("{}", handle.counters());
/// # serving.await.unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServerHandle(Arc<ServerState>);

impl ServerHandle {
    pub(super) fn new(server: Arc<ServerState>) -> Self {
        Self(server)
    }

    /// Returns the addresses that the server listens on, with the real ports.
    pub fn addresses(&self) -> &[String] {
        self.0.addresses()
    }

    /// Reads the counters of refused requests and of peers that were cut off.
    pub fn counters(&self) -> Counters {
        self.0.counts().read()
    }

    /// Returns about how many bytes all connections hold now; [`ServerBuilder::max_buffered_bytes`] limits them.
    ///
    /// [`ServerBuilder::max_buffered_bytes`]: crate::server::ServerBuilder::max_buffered_bytes
    pub fn buffered_bytes(&self) -> u64 {
        self.0.memory().held()
    }

    /// Returns what the server has in hand right now: connections, calls, handlers.
    pub fn load(&self) -> Load {
        self.0.load()
    }

    /// Begins the drain: no more connections and calls, and the drain timeout for open calls.
    ///
    /// Services may [do something before](crate::server::Service::before_drain); then it begins when they have.
    ///
    /// Does nothing if the drain has begun.
    pub fn drain(&self) {
        drain::begin(&self.0, &Asker::Handle);
    }

    /// Begins the drain if it has not begun, and gives open calls no more time.
    pub fn abort(&self) {
        drain::abort(&self.0, &Asker::Handle);
    }

    /// Begins the drain as [`ServerHandle::drain`] does, and leaves the listening sockets to another process that has them.
    ///
    /// Connections that wait to be accepted are left to that process, and the files of Unix sockets stay. For a process that was given the
    /// [listening sockets](ServerHandle::listening_sockets) and accepts by them. Otherwise nobody answers those connections.
    pub fn give_way(&self) {
        self.0.own_sockets().leave();
        self.drain();
    }

    /// Returns second handles of the TCP and Unix sockets that the server listens by, to give them to another process.
    ///
    /// Each has the address [as the program has written it](ListeningSocket::address). A server with [workers](crate::server::ServerBuilder::workers)
    /// has several sockets for one address: give all of them. Drop the handles soon: while one is open, the OS takes connections, even if the server
    /// has ended.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION when the listeners close, RESOURCE_EXHAUSTED if the OS lacks files.
    pub fn listening_sockets(&self) -> Result<Vec<ListeningSocket>, Error> {
        self.0.own_sockets().copy()
    }

    /// Returns true once a drain is asked for, also while [services prepare](crate::server::Service::before_drain) and during a
    /// [lame duck](crate::server::ServerBuilder::lame_duck).
    pub fn is_stopping(&self) -> bool {
        self.0.lifecycle().is_asked()
    }

    /// Waits until a drain is asked for: see [`ServerHandle::is_stopping`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn stopping(&self) {
        self.0.lifecycle().asked().await;
    }

    /// Waits until each runtime that accepts connections for the server has shown that it runs, or until the listeners close.
    ///
    /// Each accept loop is woken, and its runtime has to poll it. So this is pending while all threads of such a runtime are blocked, and for ever if an
    /// accept loop has panicked. A watchdog waits for it with a limit. A server that does not serve yet answers at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn responds(&self) {
        until(self.0.lifecycle().draining(), self.0.pulse().beat()).await;
    }

    /// Returns how long the whole stop may take from its beginning by SIGTERM: the lame duck, the drain timeout and 3 s.
    pub fn stop_limit(&self) -> Duration {
        let drain = self.0.drain_timeout().saturating_add(drain::END);
        self.0.lame_duck().saturating_add(drain)
    }

    /// Waits for the end of the drain, however it begins.
    ///
    /// Do not await it in a handler of the same server: the drain waits for that handler.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn drained(&self) -> DrainReport {
        self.0.lifecycle().closed().await
    }
}
