//! Known: the servers of a service, as etcd has told them.

use std::{collections::BTreeMap, time::Duration};

use rpc_runtime::{Bytes, discover::Endpoint};
use tokio::time::Instant;

use crate::{
    naming,
    proto::{Event, KeyValue, RangeResponse, event::EventType},
};

/// The servers of a service, as etcd has told them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By their keys.
    servers: BTreeMap<Bytes, Server>,
    /// The servers that etcd had before it lost its data. They are kept for a while, so that they can register again.
    lost: BTreeMap<Bytes, Server>,
    lost_until: Option<Instant>,
    cluster: u64,
    /// The number of the last change that is known.
    revision: i64,
}

#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    /// The number of its last change.
    revision: i64,
}

impl Known {
    /// Takes all servers that there are now.
    pub(crate) fn set(&mut self, all: RangeResponse, now: Instant) {
        let header = all.header.unwrap_or_default();
        let is_new = self.revision > 0 && header.cluster_id != self.cluster;
        if (is_new || header.revision < self.revision) && !self.servers.is_empty() {
            tracing::warn!(
                known = self.revision,
                told = header.revision,
                "etcd has lost its data, or is another one: keeping the servers that it knew for {KEEP_LOST:?}"
            );
            self.lost.append(&mut self.servers);
            self.lost_until = Some(now + KEEP_LOST);
        }
        if self.lost_until.is_some_and(|until| until <= now) {
            self.lost.clear();
            self.lost_until = None;
        }
        self.cluster = header.cluster_id;
        self.revision = header.revision;
        self.servers.clear();
        for kv in all.kvs {
            self.put(kv);
        }
    }

    /// Takes changes that came after the last ones; returns whether there were any.
    pub(crate) fn change(&mut self, events: Vec<Event>) -> bool {
        let before = self.revision;
        let mut has_changed = false;
        for event in events {
            let kind = event.r#type();
            let Some(kv) = event.kv.filter(|kv| kv.mod_revision > before) else {
                continue;
            };
            has_changed = true;
            self.revision = self.revision.max(kv.mod_revision);
            match kind {
                EventType::Put => self.put(kv),
                EventType::Delete => {
                    self.servers.remove(&kv.key);
                    self.lost.remove(&kv.key);
                }
            }
        }
        has_changed
    }

    /// Returns the number of the last change that is known.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Returns when servers are forgotten that etcd has lost.
    pub(crate) fn lost_until(&self) -> Option<Instant> {
        self.lost_until
    }

    /// Returns the endpoints, those that were registered last before others, so that of two with one address the newer one counts.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let mut servers: Vec<_> = self.servers.values().collect();
        servers.sort_by_key(|server| std::cmp::Reverse(server.revision));
        let all = servers.into_iter().chain(self.lost.values());
        all.map(|server| server.endpoint.clone()).collect()
    }

    fn put(&mut self, kv: KeyValue) {
        self.lost.remove(&kv.key);
        match naming::parse(&kv.value) {
            Ok(endpoint) => {
                let revision = kv.mod_revision;
                self.servers.insert(kv.key, Server { endpoint, revision });
            }
            Err(error) => {
                self.servers.remove(&kv.key);
                tracing::warn!(key = ?kv.key, error, "etcd: skipping a value that is no server");
            }
        }
    }
}

/// How long servers are kept that etcd has lost: two times the usual time of a lease.
const KEEP_LOST: Duration = Duration::from_secs(30);
