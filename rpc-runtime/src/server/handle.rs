//! ServerHandle: drains a server from elsewhere in its process, and tells what it has refused.

use std::sync::Arc;

use super::{drain, state::ServerState, terminate::Asker};
use crate::{Counters, DrainReport, Load};

/// Drains a server from elsewhere in its process, and tells what it has refused.
#[derive(Clone, Debug)]
pub struct ServerHandle(Arc<ServerState>);

impl ServerHandle {
    pub(super) fn new(server: Arc<ServerState>) -> Self {
        Self(server)
    }

    /// Where the server listens, with the real ports.
    pub fn addresses(&self) -> &[String] {
        self.0.addresses()
    }

    /// What the server has refused until now, and whom it has cut off.
    pub fn counters(&self) -> Counters {
        self.0.counts().read()
    }

    /// How many bytes all connections hold now, about: what [`ServerBuilder::max_buffered_bytes`] bounds.
    ///
    /// [`ServerBuilder::max_buffered_bytes`]: crate::ServerBuilder::max_buffered_bytes
    pub fn buffered_bytes(&self) -> u64 {
        self.0.memory().held()
    }

    /// What the server has in hand right now.
    pub fn load(&self) -> Load {
        self.0.load()
    }

    /// Begins the drain: no more connections and calls, and the drain timeout for those that are open.
    ///
    /// A second one changes nothing.
    pub fn drain(&self) {
        drain::begin(&self.0, &Asker::Handle);
    }

    /// Begins the drain if it has not begun, and gives open calls no more time.
    pub fn abort(&self) {
        drain::abort(&self.0, &Asker::Handle);
    }

    /// Waits for the end of the drain, whoever begins it.
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
