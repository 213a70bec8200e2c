//! Traffic: the bytes of connections, how requests wait, and the one-way calls that are sent.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{
    histogram::{AtomicHistogram, Histogram},
    labels::{FATES, FateLabel, Protocol, Side},
    shard::{MOST, Shard},
};

/// One part of the bytes that connections have read and written.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

static TRAFFIC: [[Traffic; MOST]; 4] = [const { [const { Traffic::new() }; MOST] }; 4];

impl Traffic {
    const fn new() -> Self {
        Self {
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Returns the part in which `shard` counts.
    pub(crate) fn of(side: Side, protocol: Protocol, shard: Shard) -> &'static Self {
        shard.of_most(&TRAFFIC[index(side, protocol)])
    }

    /// Counts bytes that were read.
    #[inline]
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts bytes that were written.
    #[inline]
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }
}

/// How many bytes were read and written.
pub(super) fn bytes(side: Side, protocol: Protocol) -> (u64, u64) {
    let parts = &TRAFFIC[index(side, protocol)];
    let sum = |of: fn(&Traffic) -> &AtomicU64| parts.iter().map(|part| of(part).load(Relaxed)).sum::<u64>();
    (sum(|part| &part.received), sum(|part| &part.sent))
}

fn index(side: Side, protocol: Protocol) -> usize {
    2 * side as usize + protocol as usize
}

/// One part of how long requests have waited for their handlers.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct QueueAges(AtomicHistogram);

static QUEUE_AGES: [[QueueAges; MOST]; 2] =
    [const { [const { QueueAges(AtomicHistogram::new()) }; MOST] }; 2];

impl QueueAges {
    /// Returns the part in which `shard` counts.
    pub(super) fn of(protocol: Protocol, shard: Shard) -> &'static Self {
        shard.of_most(&QUEUE_AGES[protocol as usize])
    }

    /// Counts a request that has waited for `micros` microseconds.
    #[inline]
    pub(super) fn record(&self, micros: u64) {
        self.0.record(micros);
    }
}

/// How long requests have waited for their handlers.
pub(super) fn queue_ages(protocol: Protocol) -> Histogram {
    let mut ages = Histogram::new();
    for part in &QUEUE_AGES[protocol as usize] {
        ages.add(&part.0);
    }
    ages
}

/// The one-way calls that clients send, and what servers tell of them.
#[derive(Debug)]
pub(crate) struct SendCounts {
    sent: AtomicU64,
    fates: [AtomicU64; FATES.len()],
}

static SENDS: [SendCounts; 2] = [const { SendCounts::new() }; 2];

impl SendCounts {
    const fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            fates: [const { AtomicU64::new(0) }; FATES.len()],
        }
    }

    /// Returns the counters of clients that speak `protocol`.
    pub(crate) fn of(protocol: Protocol) -> &'static Self {
        &SENDS[protocol as usize]
    }

    /// Counts one-way calls that are in the output.
    pub(crate) fn sent(&self, count: u64) {
        self.sent.fetch_add(count, Relaxed);
    }

    /// Counts what became of one-way calls, as the server tells it.
    pub(crate) fn told(&self, fate: FateLabel, count: u64) {
        self.fates[fate.index()].fetch_add(count, Relaxed);
    }
}

/// How many one-way calls were sent.
pub(super) fn sends(protocol: Protocol) -> u64 {
    SENDS[protocol as usize].sent.load(Relaxed)
}

/// How many one-way calls came to which fate, as servers have told.
pub(super) fn told_fates(protocol: Protocol) -> [u64; FATES.len()] {
    let fates = &SENDS[protocol as usize].fates;
    std::array::from_fn(|index| fates[index].load(Relaxed))
}
