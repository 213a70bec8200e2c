//! Registry: the servers and clients of the process that are there, and what each of them shows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{LimitSource, Side, StreamTraffic};
use crate::{
    Procedure, Transport,
    api::{limit_value::LimitValue, limits::LimitInForce},
    conn::CallId,
    driver::SharedConnection,
};

/// A server or a client, as those see it who look into the process.
pub(crate) trait Owner: Send + Sync {
    fn side(&self) -> Side;

    /// The addresses that it listens on, or those that it connects to.
    fn name(&self) -> Arc<str>;

    /// All its connections of which something is left.
    fn connections(&self) -> Vec<Box<dyn InspectedConnection>>;

    /// Its limits: those of all connections together, and those of each.
    fn limits(&self) -> Vec<OwnerLimit>;
}

/// A connection, as those see it who look into the process.
pub(crate) trait InspectedConnection: Send + Sync {
    fn shared(&self) -> &SharedConnection;

    fn facts(&self) -> ConnectionFacts;

    /// The procedure of this id, if it is served here.
    fn procedure(&self, id: u64) -> Option<&'static Procedure>;

    /// The handlers that block their threads.
    fn blocked(&self) -> Vec<BlockedHandler>;
}

/// What a connection's own state does not know.
pub(crate) struct ConnectionFacts {
    pub(crate) peer: Arc<str>,
    pub(crate) transport: Transport,
    pub(crate) protocol: &'static str,
    /// The first caller that was found.
    pub(crate) caller: Option<Arc<str>>,
    pub(crate) has_several_callers: bool,
    /// What goes over the stream of a guest's peer; none if the connection itself has the stream.
    pub(crate) traffic: Option<Arc<StreamTraffic>>,
}

/// A handler that blocks its thread.
pub(crate) struct BlockedHandler {
    pub(crate) call: CallId,
    /// For how long, about.
    pub(crate) time: Duration,
}

/// A limit of a server or a client.
pub(crate) struct OwnerLimit {
    pub(crate) name: &'static str,
    pub(crate) value: LimitValue,
    pub(crate) source: LimitSource,
    /// How much of it all connections use together; none if it is a limit of each connection, or of a time.
    pub(crate) used: Option<u64>,
}

impl From<LimitInForce> for OwnerLimit {
    fn from(limit: LimitInForce) -> Self {
        Self {
            name: limit.name,
            value: limit.value,
            source: match limit.is_default {
                true => LimitSource::Default,
                false => LimitSource::Program,
            },
            used: None,
        }
    }
}

/// Shows `owner` until the result is dropped.
pub(crate) fn list(owner: Arc<dyn Owner>) -> Listed {
    let mut owners = lock();
    owners.last_key += 1;
    let key = owners.last_key;
    owners.all.insert(key, owner);
    Listed { key }
}

/// All owners that are there, in the order in which they came.
pub(super) fn owners() -> Vec<Arc<dyn Owner>> {
    lock().all.values().cloned().collect()
}

/// Shows an owner until it is dropped.
pub(crate) struct Listed {
    key: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        // Dropped when the lock is free.
        let _owner = lock().all.remove(&self.key);
    }
}

static OWNERS: Mutex<Owners> = Mutex::new(Owners {
    last_key: 0,
    all: BTreeMap::new(),
});

struct Owners {
    last_key: u64,
    /// In the order in which they came. None keeps its server or client.
    all: BTreeMap<u64, Arc<dyn Owner>>,
}

fn lock() -> MutexGuard<'static, Owners> {
    OWNERS.lock().unwrap_or_else(PoisonError::into_inner)
}
