//! Network: where this thread's listeners and connections go: to the OS, or to a simulation.

use std::{cell::RefCell, future::Future, io, pin::Pin, sync::Arc};

use super::{Address, Incoming, Peer, Stream};

/// A network that takes the place of the OS on a thread.
pub(crate) trait Network: Send + Sync {
    /// Listens on `address`. Returns the address that clients connect to, and the streams of those that do.
    ///
    /// # Errors
    ///
    /// `AddrInUse`; `AddrNotAvailable` for the name of another node.
    fn listen(&self, address: &Address) -> io::Result<(Address, Incoming)>;

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

/// The network that takes the place of the OS on this thread; none outside of a simulation.
pub(crate) fn current() -> Option<Arc<dyn Network>> {
    // The value is gone while the thread ends.
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

/// Puts `network` in the place of the OS until the guard is dropped.
#[cfg(feature = "sim")]
pub(crate) fn enter(network: Arc<dyn Network>) -> Entered {
    Entered(CURRENT.replace(Some(network)))
}

/// Puts the network of before back.
#[cfg(feature = "sim")]
pub(crate) struct Entered(Option<Arc<dyn Network>>);

#[cfg(feature = "sim")]
impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        // The thread may be at its end.
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}
