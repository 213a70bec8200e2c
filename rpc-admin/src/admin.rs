//! Admin: a listener that shows the pages of its process.

use std::fmt;

use rpc_runtime::{DrainReport, Error, Server, server::ServerHandle};
use tokio::task::JoinHandle;

/// A listener that shows the pages of its process, until this is dropped.
///
/// [`listen`](crate::listen) or [`AdminBuilder::listen`](crate::AdminBuilder::listen) returns one.
#[must_use = "the listener ends when this is dropped"]
pub struct Admin {
    address: String,
    server: ServerHandle,
    /// None once it is stopped.
    serving: Option<JoinHandle<Result<DrainReport, Error>>>,
}

impl Admin {
    /// Serves a server that has one address.
    pub(crate) fn serve(server: Server) -> Self {
        Self {
            address: server.addresses().concat(),
            server: server.handle(),
            serving: Some(tokio::spawn(server.serve())),
        }
    }

    /// Returns the address that it listens at, with the real port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends the listener: open requests have 1 s to be answered. It takes at most 4 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the listener at once, in the background.
    pub async fn stop(mut self) {
        self.server.drain();
        if let Some(serving) = &mut self.serving {
            // It has nothing to say: the address is free, whatever became of the last requests.
            let _ = serving.await;
        }
        self.serving = None;
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if self.serving.is_some() {
            self.server.abort();
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
