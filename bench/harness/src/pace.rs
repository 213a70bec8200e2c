//! When the next one-way message is due, and the time that it carries: for latencies at a fixed rate.

use crate::proc::monotonic_ns;
use std::num::NonZeroU64;
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
    end_ns: u64,
    /// When the latest message was taken. The clock is read once for each, at every rate.
    now_ns: u64,
    sent: u64,
    ticks: Option<Arc<Notify>>,
}

/// Whether the next message is to be sent now.
pub(crate) enum Next {
    Due,
    Later,
    End,
}

impl Pacer {
    /// A schedule that starts now.
    pub fn new(pace: Pace, warmup: Duration, window: Duration) -> Self {
        let start_ns = monotonic_ns();
        Self {
            pace,
            start_ns,
            marked_from_ns: start_ns + warmup.as_nanos() as u64,
            end_ns: start_ns + (warmup + window).as_nanos() as u64,
            now_ns: start_ns,
            sent: 0,
            ticks: None,
        }
    }

    /// Takes the next message from the schedule.
    pub fn take(&mut self) -> Next {
        self.now_ns = monotonic_ns();
        if self.now_ns >= self.end_ns {
            return Next::End;
        }
        let seconds = (self.now_ns - self.start_ns) as f64 / 1e9;
        if self
            .pace
            .per_s
            .is_some_and(|per_s| self.sent as f64 >= seconds * per_s)
        {
            return Next::Later;
        }
        self.sent += 1;
        Next::Due
    }

    /// Writes the mark, and the time at which the latest message was taken, to the start of its value.
    pub fn stamp(&self, value: &mut [u8]) {
        value[..8].copy_from_slice(&self.now_ns.to_le_bytes());
        let is_marked = self.now_ns >= self.marked_from_ns;
        value[8] = if is_marked { self.pace.mark } else { 0 };
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
    // Sleeps of this thread are late by 1 ns at most, as far as the kernel can choose. Without it, they are merely later.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    std::thread::sleep(Duration::from_micros(100));
}
