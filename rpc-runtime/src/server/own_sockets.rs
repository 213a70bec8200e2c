//! OwnSockets: second handles of a server's listening sockets, for a process that is to take them over.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use crate::{Code, Error, net::ListeningSocket};

/// Second handles of a server's listening sockets, until its listeners close.
///
/// While one is open, the OS still takes connections. So they are dropped before the listeners.
#[derive(Debug)]
pub(crate) struct OwnSockets {
    /// None once the listeners close.
    sockets: Mutex<Option<Vec<ListeningSocket>>>,
    is_left: AtomicBool,
}

impl Default for OwnSockets {
    fn default() -> Self {
        Self {
            sockets: Mutex::new(Some(Vec::new())),
            is_left: AtomicBool::new(false),
        }
    }
}

impl OwnSockets {
    /// Keeps second handles.
    pub(crate) fn keep(&self, sockets: impl IntoIterator<Item = ListeningSocket>) {
        if let Some(kept) = &mut *self.sockets() {
            kept.extend(sockets);
        }
    }

    /// Returns further handles.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION when the listeners close; RESOURCE_EXHAUSTED if the OS lacks files.
    pub(crate) fn copy(&self) -> Result<Vec<ListeningSocket>, Error> {
        let sockets = self.sockets();
        let Some(sockets) = &*sockets else {
            return Err(Error::local(
                Code::FailedPrecondition,
                "the server drains: its listening sockets are closed",
            ));
        };
        let copies = sockets.iter().map(ListeningSocket::try_clone);
        copies.collect::<Result<_, _>>().map_err(|error| {
            let text = "a listening socket cannot be copied: raise the limit of open files (ulimit -n, LimitNOFILE=)";
            Error::local(Code::ResourceExhausted, text).with_source(error)
        })
    }

    /// Drops them.
    pub(crate) fn forget(&self) {
        *self.sockets() = None;
    }

    /// Leaves the sockets to another process, with the connections that wait in them.
    pub(crate) fn leave(&self) {
        self.is_left.store(true, SeqCst);
    }

    /// Returns whether the sockets are left to another process.
    pub(crate) fn is_left(&self) -> bool {
        self.is_left.load(SeqCst)
    }

    fn sockets(&self) -> MutexGuard<'_, Option<Vec<ListeningSocket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
