//! Outliers: when a server that fails, or is far slower than the others, gets no calls for a while.

use std::time::Duration;

use tokio::time::Instant;

use super::Measured;

/// When a server that fails gets no calls for a while. [`ClientBuilder::outliers`](crate::client::ClientBuilder::outliers) takes one.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_runtime::{Client, balance::Outliers};
///
/// let client: Client = Client::builder("dns:///kv.example.com:5005")
///     .outliers(Outliers::default().failures(10).time(Duration::from_secs(60)))
///     .connect_lazy();
/// ```
///
/// A server is out after a number of failures in a row, or if more than half of at least 20 calls in ten seconds have failed. It
/// comes back after a time, with a tenth of its weight, which grows to the whole within ten seconds. If the next call fails, it is out
/// again, for longer: two times, three times, up to ten times as long.
///
/// At most a share of all servers is out, so a fault that all of them have does not put all of them out. If no server is left that can take
/// calls, those that are out take them.
#[derive(Clone, Copy, Debug)]
pub struct Outliers {
    failures: u32,
    time: Duration,
    share: f64,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            failures: 5,
            time: Duration::from_secs(30),
            share: 0.5,
        }
    }
}

impl Outliers {
    /// Sets after how many failures in a row a server is out, at least 1. Default: 5.
    #[must_use]
    pub fn failures(self, failures: u32) -> Self {
        let failures = failures.max(1);
        Self { failures, ..self }
    }

    /// Sets how long a server is out the first time. Default: 30 s.
    #[must_use]
    pub fn time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Sets which share of the servers may be out together, from 0 to 1. Default: 0.5. It is rounded down, so of three servers one may be.
    #[must_use]
    pub fn share(self, share: f64) -> Self {
        let share = share.clamp(0.0, 1.0);
        Self { share, ..self }
    }

    /// How many of `servers` may be out together.
    pub(super) fn most(&self, servers: usize) -> usize {
        (servers as f64 * self.share) as usize
    }
}

/// Whether one server is out, and for how long.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// None while it is in.
    out: Option<Ejection>,
    /// How often it was out lately.
    times: u32,
    /// When it came back last.
    back_at: Option<Instant>,
    /// When the recent calls were looked at last.
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct Ejection {
    until: Instant,
    why: String,
}

impl Standing {
    /// Why the server is out; none if it is in.
    pub(super) fn why_out(&self) -> Option<&str> {
        self.out.as_ref().map(|out| &*out.why)
    }

    /// When it came back last; none if it never was out.
    pub(super) fn back_at(&self) -> Option<Instant> {
        self.back_at
    }

    /// Lets it come back if its time is over.
    pub(super) fn look_back(&mut self, measured: &Measured, rule: &Outliers, now: Instant) {
        if self.out.as_ref().is_some_and(|out| out.until <= now) {
            self.out = None;
            self.back_at = Some(now);
            self.looked_at = Some(now);
            let _ = measured.take_recent();
            // One more failure puts it out again.
            measured.set_failures_in_a_row(rule.failures - 1);
        }
    }

    /// Returns why the server should be out, if it should.
    pub(super) fn judge(&mut self, measured: &Measured, rule: &Outliers, now: Instant) -> Option<String> {
        if self.out.is_some() {
            return None;
        }
        let looked_at = *self.looked_at.get_or_insert(now);
        let in_a_row = measured.failures_in_a_row();
        if in_a_row >= rule.failures {
            return Some(format!("{in_a_row} calls in a row have failed"));
        }
        if now.saturating_duration_since(looked_at) < WINDOW {
            return None;
        }
        self.looked_at = Some(now);
        let (good, bad) = measured.take_recent();
        let is_bad = good.saturating_add(bad) >= ENOUGH && bad > good;
        if !is_bad && self.times > 0 && bad == 0 {
            self.times -= 1;
        }
        is_bad.then(|| format!("{bad} of {} calls have failed", good.saturating_add(bad)))
    }

    /// Puts it out.
    pub(super) fn eject(&mut self, why: String, rule: &Outliers, now: Instant) {
        self.times = (self.times + 1).min(10);
        let time = rule.time.saturating_mul(self.times);
        self.out = now.checked_add(time).map(|until| Ejection { until, why });
    }
}

/// How often the share of failures is looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// How many calls say something of that share.
const ENOUGH: u32 = 20;
