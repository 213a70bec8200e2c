//! Serving: what a registrar knows of the server that it registers.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use crate::base::ordered_wakes::Changes;

/// A server that serves, for the [`Registrar`](super::Registrar) that registers it: its addresses, and when its drain begins.
pub struct Serving {
    addresses: Vec<String>,
    end: Arc<ServingEnd>,
}

/// Whether a server still serves, for all of its registrars.
#[derive(Debug, Default)]
pub(crate) struct ServingEnd {
    has_come: AtomicBool,
    changes: Changes,
}

impl Serving {
    pub(crate) fn new(addresses: &[String], end: &Arc<ServingEnd>) -> Self {
        Self {
            addresses: addresses.to_vec(),
            end: Arc::clone(end),
        }
    }

    /// Returns the addresses that the server listens on, with the real ports, as [`Server::addresses`](crate::Server::addresses) does.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Returns whether a drain is asked for.
    pub fn is_ending(&self) -> bool {
        self.end.has_come.load(SeqCst)
    }

    /// Waits until a drain is asked for: take the server out of the registry now. It is ready at once if that has happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn ending(&self) {
        let has_come = || self.is_ending().then_some(());
        self.end.changes.wait_for(has_come).await;
    }
}

impl ServingEnd {
    /// Tells the registrars that a drain is asked for.
    pub(crate) fn come(&self) {
        self.has_come.store(true, SeqCst);
        self.changes.tell();
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("addresses", &self.addresses)
            .field("is_ending", &self.is_ending())
            .finish()
    }
}
