//! When the next one-way message is due, and the time that it carries: for latencies at a fixed rate.

use crate::proc::monotonic_ns;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How a load sends its one-way messages.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Where the server counts the delays of the messages; see [`crate::delays`].
    pub mark: u8,
    /// Messages per second. None: as many as the peer takes.
    pub per_s: Option<f64>,
}

/// One sender's place in its schedule.
pub(crate) struct Pacer {
    pace: Pace,
    start_ns: u64,
    /// Messages that are sent before this, while all warms up, carry a time but no mark.
    marked_from_ns: u64,
    sent: u64,
    ticks: Option<Arc<Notify>>,
}

impl Pacer {
    /// A schedule that starts now.
    pub fn new(pace: Pace, warmup: Duration) -> Self {
        let start_ns = monotonic_ns();
        Self {
            pace,
            start_ns,
            marked_from_ns: start_ns + warmup.as_nanos() as u64,
            sent: 0,
            ticks: None,
        }
    }

    /// Takes the next message from the schedule, if it is due.
    pub fn take(&mut self) -> bool {
        let Some(per_s) = self.pace.per_s else {
            return true;
        };
        let due = (monotonic_ns() - self.start_ns) as f64 / 1e9 * per_s;
        let is_due = (self.sent as f64) < due;
        self.sent += u64::from(is_due);
        is_due
    }

    /// Writes the time and the mark to the start of a message's value.
    pub fn stamp(&self, value: &mut [u8]) {
        let now = monotonic_ns();
        value[..8].copy_from_slice(&now.to_le_bytes());
        value[8] = if now < self.marked_from_ns {
            0
        } else {
            self.pace.mark
        };
    }

    /// Waits about 100 µs. A thread keeps the time, for the timers of tokio have steps of 1 ms.
    pub async fn tick(&mut self) {
        self.ticks.get_or_insert_with(ticks).notified().await;
    }
}

/// Is notified every 100 µs, until it is dropped.
fn ticks() -> Arc<Notify> {
    let ticks = Arc::new(Notify::new());
    let weak: Weak<Notify> = Arc::downgrade(&ticks);
    std::thread::spawn(move || {
        while let Some(ticks) = weak.upgrade() {
            ticks.notify_one();
            drop(ticks);
            nap();
        }
    });
    ticks
}

/// Blocks for 100 µs.
pub fn nap() {
    // SAFETY: takes a number of nanoseconds, by which sleeps of this thread may be late.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
    std::thread::sleep(Duration::from_micros(100));
}
