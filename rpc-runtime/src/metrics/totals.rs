//! Totals: counters of the process that few events change.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::labels::{Protocol, Side};

/// A counter of the process.
#[derive(Debug)]
pub(crate) struct Total(AtomicU64);

impl Total {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one more.
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    /// Counts `count` more.
    pub(crate) fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What clients that speak one protocol count.
#[derive(Debug)]
pub(crate) struct ClientTotals {
    /// Connections that were made after an earlier one to the same service.
    pub(crate) reconnects: Total,
    /// Attempts to connect that failed on all addresses.
    pub(crate) connect_failures: Total,
    /// Calls that were sent again because of their connection.
    pub(crate) retries_of_connection: Total,
    /// Calls that were sent again when the server had said so.
    pub(crate) retries_of_hint: Total,
    /// Calls that were not sent again, because the retry budget was empty.
    pub(crate) retries_denied: Total,
}

static CLIENTS: [ClientTotals; 2] = [const { ClientTotals::new() }; 2];

impl ClientTotals {
    const fn new() -> Self {
        Self {
            reconnects: Total::new(),
            connect_failures: Total::new(),
            retries_of_connection: Total::new(),
            retries_of_hint: Total::new(),
            retries_denied: Total::new(),
        }
    }

    /// Those of clients that speak `protocol`.
    pub(crate) fn of(protocol: Protocol) -> &'static Self {
        &CLIENTS[protocol as usize]
    }
}

/// What middleware of [`limit`](crate::limit) has refused.
#[derive(Debug)]
pub(crate) struct LimitTotals {
    pub(crate) rate: Total,
    pub(crate) concurrency: Total,
    pub(crate) shed: Total,
}

/// What middleware of [`limit`](crate::limit) has refused.
pub(crate) static LIMITS: LimitTotals = LimitTotals {
    rate: Total::new(),
    concurrency: Total::new(),
    shed: Total::new(),
};

/// Drains, and what became of calls in those that have ended.
#[derive(Debug)]
pub(crate) struct DrainTotals {
    pub(crate) begun: Total,
    pub(crate) completed: Total,
    pub(crate) aborted: Total,
    pub(crate) one_ways_dropped: Total,
    pub(crate) stuck: Total,
    pub(crate) starved: Total,
}

/// Drains, and what became of calls in those that have ended.
pub(crate) static DRAINS: DrainTotals = DrainTotals {
    begun: Total::new(),
    completed: Total::new(),
    aborted: Total::new(),
    one_ways_dropped: Total::new(),
    stuck: Total::new(),
    starved: Total::new(),
};

/// TLS handshakes of one side.
#[derive(Debug)]
pub(crate) struct TlsTotals {
    pub(crate) ok: Total,
    pub(crate) failed: Total,
}

static TLS: [TlsTotals; 2] = [const {
    TlsTotals {
        ok: Total::new(),
        failed: Total::new(),
    }
}; 2];

impl TlsTotals {
    /// Those of one side.
    pub(crate) fn of(side: Side) -> &'static Self {
        &TLS[side as usize]
    }

    /// Counts a handshake that has ended.
    #[cfg_attr(not(feature = "_tls"), allow(dead_code, reason = "only TLS has handshakes"))]
    pub(crate) fn ended(&self, is_ok: bool) {
        match is_ok {
            true => self.ok.add(),
            false => self.failed.add(),
        }
    }
}
