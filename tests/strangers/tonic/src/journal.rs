//! Journal: what a server writes down about its calls.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{sync::watch, time::timeout};

use crate::LONG;

/// What a server writes down about its calls. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal(Arc<watch::Sender<BTreeMap<u64, Entry>>>);

/// What a journal has about one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// How many handlers began.
    pub begun: u32,
    /// How many of them came to their end.
    pub ended: u32,
    /// How many of them were dropped before it.
    pub dropped: u32,
    /// The library of the caller, as it calls itself; empty for a native one.
    pub agent: String,
}

/// A handler that runs.
#[derive(Debug)]
pub struct Run {
    journal: Journal,
    id: u64,
    has_ended: bool,
}

impl Journal {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }

    /// Notes that a handler of the call `id` begins.
    pub fn begin(&self, id: u64, agent: &str) -> Run {
        self.0.send_modify(|entries| {
            let entry = entries.entry(id).or_default();
            entry.begun += 1;
            agent.clone_into(&mut entry.agent);
        });
        Run {
            journal: self.clone(),
            id,
            has_ended: false,
        }
    }

    /// All entries, by the ids of their calls.
    pub fn entries(&self) -> BTreeMap<u64, Entry> {
        self.0.borrow().clone()
    }

    /// Waits until the call `id` has an entry as `wanted` says.
    pub async fn wait_for(&self, id: u64, wanted: impl Fn(&Entry) -> bool) {
        let mut watched = self.0.subscribe();
        let found = watched.wait_for(|entries| entries.get(&id).is_some_and(&wanted));
        let found = timeout(LONG, found).await;
        assert!(found.is_ok(), "call {id}: {:?}", self.entries().get(&id));
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// Notes that the handler has come to its end.
    pub fn end(mut self) {
        self.has_ended = true;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.journal.0.send_modify(|entries| {
            let entry = entries.entry(self.id).or_default();
            match self.has_ended {
                true => entry.ended += 1,
                false => entry.dropped += 1,
            }
        });
    }
}
