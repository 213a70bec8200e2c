//! ServerHandle: drains a server from elsewhere in its process, and reads its counters.

use std::sync::Arc;

use super::{drain, state::ServerState, terminate::Asker};
use crate::{Counters, DrainReport, Load};

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
