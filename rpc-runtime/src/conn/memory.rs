//! Memory: what all connections of a server hold together, and how much that may be.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::tuning::REPORT_STEP;

/// What all connections of a server hold together, and how much that may be.
///
/// All connections share it, so each reports only larger steps of what it holds, and when it holds nothing.
#[derive(Debug)]
pub(crate) struct Memory {
    max: u64,
    held: AtomicU64,
}

impl Memory {
    /// Nothing is held, and `max` bytes may be.
    pub(crate) const fn new(max: u64) -> Self {
        Self {
            max,
            held: AtomicU64::new(0),
        }
    }

    /// How much may be held.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// How much is held.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// How much more may be held.
    pub(crate) fn room(&self) -> u64 {
        self.max.saturating_sub(self.held())
    }

    /// True if that is too much for one connection.
    #[inline]
    pub(crate) fn is_large(&self, held: u64) -> bool {
        held >= self.room() / 2
    }

    /// True if nine tenths are held: peers that hold much and read nothing are given up early, and requests that are not whole are refused.
    pub(crate) fn is_tight(&self) -> bool {
        self.is_tight_with(0)
    }

    /// True if nine tenths are held once `more` bytes are.
    pub(crate) fn is_tight_with(&self, more: u64) -> bool {
        self.held().saturating_add(more) >= self.max - self.max / 10
    }

    /// True if nineteen twentieths are held: no further connections are taken.
    pub(crate) fn is_scarce(&self) -> bool {
        self.held() >= self.max - self.max / 20
    }

    /// True if nothing more may be held: one-way calls are dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.held() >= self.max
    }
}

/// No limit: for a client, whose own limits bound it.
impl Default for Memory {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

/// What one connection holds of it; nothing once it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    memory: Arc<Memory>,
    reported: u64,
}

impl Share {
    /// The share of a connection that holds nothing.
    pub(crate) const fn new(memory: Arc<Memory>) -> Self {
        Self { memory, reported: 0 }
    }

    /// True if the connection has reported that it holds memory.
    #[inline]
    pub(crate) fn is_reported(&self) -> bool {
        self.reported > 0
    }

    /// True if the connection holds more than its part: half of what is left.
    ///
    /// One alone may hold a third of all, two a quarter each; and however many hold much, something is left for others. Switches share their buffers out like this: Choudhury and Hahne, "Dynamic queue length thresholds for
    /// shared-memory packet switches", 1998.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.memory.is_large(self.reported)
    }

    /// Reports that the connection holds `held` bytes now, if that has changed much.
    #[inline]
    pub(crate) fn hold(&mut self, held: u64) {
        if held.abs_diff(self.reported) >= REPORT_STEP || (held == 0 && self.reported > 0) {
            self.report(held);
        }
    }

    #[cold]
    fn report(&mut self, held: u64) {
        if held > self.reported {
            self.memory
                .held
                .fetch_add(held - self.reported, Ordering::Relaxed);
        } else {
            self.memory
                .held
                .fetch_sub(self.reported - held, Ordering::Relaxed);
        }
        self.reported = held;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.report(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_are_not_reported_and_a_release_of_all_is() {
        let memory = Arc::new(Memory::new(1 << 20));
        let mut share = Share::new(Arc::clone(&memory));
        share.hold(REPORT_STEP - 1);
        assert_eq!(memory.held(), 0);
        share.hold(REPORT_STEP);
        share.hold(2 * REPORT_STEP - 1);
        assert_eq!(memory.held(), REPORT_STEP);
        share.hold(0);
        assert_eq!(memory.held(), 0);
        share.hold(1 << 20);
        assert!(memory.is_tight() && memory.is_scarce() && memory.is_full());
        drop(share);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn slow_readers_are_cut_before_connections_are_refused() {
        let memory = Arc::new(Memory::new(1_000_000));
        let mut share = Share::new(Arc::clone(&memory));
        for (held, refused) in [
            (899_999, [false, false, false]),
            (930_000, [true, false, false]),
            (950_000, [true, true, false]),
            (1_000_000, [true, true, true]),
        ] {
            share.hold(held);
            let found = [memory.is_tight(), memory.is_scarce(), memory.is_full()];
            assert_eq!(found, refused, "{held}");
        }
    }

    #[test]
    fn more_than_4_gib_may_be_held() {
        let memory = Arc::new(Memory::new(10 << 30));
        let mut share = Share::new(Arc::clone(&memory));
        share.hold(5 << 30);
        assert_eq!((memory.held(), memory.room()), (5 << 30, 5 << 30));
        assert!(!memory.is_tight() && !memory.is_scarce() && !memory.is_full());
        share.hold((9 << 30) + (1 << 29));
        assert!(memory.is_tight() && memory.is_scarce() && !memory.is_full());
        drop(share);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn each_connection_may_hold_half_of_the_free_memory() {
        let memory = Arc::new(Memory::new(1_200_000));
        let shares = || Share::new(Arc::clone(&memory));
        let (mut one, mut two, three) = (shares(), shares(), shares());
        one.hold(390_000);
        assert!(!one.is_large());
        one.hold(410_000);
        assert!(one.is_large() && !two.is_large());
        two.hold(410_000);
        assert!(two.is_large() && !three.is_large());
        one.hold(790_000);
        assert!(three.is_large(), "nothing is left");
    }
}
