//! Network: decides where this thread's listeners and connections go: to the OS, or to a simulation.

use std::{cell::RefCell, future::Future, io, pin::Pin, sync::Arc};

use super::{Address, IncomingStreams, Peer, Stream};

/// A network that replaces the OS on a thread.
pub(crate) trait Network: Send + Sync {
    /// Listens on `address`. Returns the address that clients connect to, and the incoming streams.
    ///
    /// # Errors
    ///
    /// `AddrInUse`; `AddrNotAvailable` for the name of another node.
    fn listen(&self, address: &Address) -> io::Result<(Address, IncomingStreams)>;

    /// Connects to `address`. Dropping the future abandons the attempt.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if nothing listens there; `NotFound` for an unknown name.
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a>;
}

/// An attempt to connect.
pub(crate) type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<(Stream, Peer)>> + Send + 'a>>;

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Network>>> = const { RefCell::new(None) };
}

/// The network that replaces the OS on this thread; `None` outside of a simulation.
pub(crate) fn current() -> Option<Arc<dyn Network>> {
    // The thread-local value is gone while the thread ends.
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
}

/// True if this thread runs a simulation.
pub(crate) fn is_simulated() -> bool {
    cfg!(feature = "sim")
        && CURRENT
            .try_with(|current| current.borrow().is_some())
            .unwrap_or(false)
}

/// Replaces the OS by `network` until the guard is dropped.
#[cfg(feature = "sim")]
pub(crate) fn enter(network: Arc<dyn Network>) -> NetworkGuard {
    NetworkGuard(CURRENT.replace(Some(network)))
}

/// Guard that restores the previous network.
#[cfg(feature = "sim")]
pub(crate) struct NetworkGuard(Option<Arc<dyn Network>>);

#[cfg(feature = "sim")]
impl Drop for NetworkGuard {
    fn drop(&mut self) {
        let before = self.0.take();
        // The thread may be ending.
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}
