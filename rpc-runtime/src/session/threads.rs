//! Threads: whether a server may use threads of its own, decided once when it is made.

use crate::net::is_simulated;

/// Whether a server may use threads of its own: workers, the thread for signals, the stall monitor, the pool for `blocking`
/// handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    Many,
    /// All runs on the current thread, in a simulation: with more threads, or with a monitor that measures real time, no run
    /// could be repeated.
    One,
}

impl Threads {
    /// Returns what applies to a server that is made here.
    pub(crate) fn here() -> Self {
        match is_simulated() {
            true => Self::One,
            false => Self::Many,
        }
    }
}
