//! Shard: the part of each counter that a connection or a client uses, so that cores do not share a cache line for each call.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// The most parts that a counter has.
pub(super) const MOST: usize = 16;

/// The part of each counter that a connection or a client uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shard(u8);

impl Shard {
    /// Takes the parts in turn. Two connections may have the same.
    pub(crate) fn next() -> Self {
        static TURNS: AtomicUsize = AtomicUsize::new(0);
        Self((TURNS.fetch_add(1, Relaxed) % count()) as u8)
    }

    /// The part of `all`, which has [`count`] parts.
    #[inline]
    pub(super) fn of<T>(self, all: &[T]) -> &T {
        &all[usize::from(self.0)]
    }

    /// The part of an array of all parts that there may be.
    #[inline]
    pub(super) fn of_most<T>(self, all: &[T; MOST]) -> &T {
        &all[usize::from(self.0) % MOST]
    }
}

/// How many parts a counter has: one for each core, at most 16.
pub(super) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        cores.next_power_of_two().min(MOST)
    })
}
