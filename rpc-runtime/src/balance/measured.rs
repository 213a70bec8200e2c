//! Measured: what a client has measured of one server.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::Code;

/// What a client has measured of one server. Time is an argument, so that tests need no clock.
#[derive(Debug)]
pub(crate) struct Measured(Mutex<Numbers>);

#[derive(Debug)]
struct Numbers {
    /// Calls that wait for a reply.
    waiting: u32,
    /// Calls with streams, and one-way calls that are not yet queued.
    others: u32,
    /// None before the first reply.
    latency: Option<Latency>,
    /// The share of good ends, at `success_at`.
    success: f64,
    success_at: Instant,
    /// When a reply arrived last, or the first of those that wait was sent.
    heard_at: Instant,
    /// All calls that have begun, and those that have failed.
    calls: u64,
    failures: u64,
    /// Failures since the last good end.
    in_a_row: u32,
    /// Ends since the outliers were looked for last: good ones and bad ones.
    recent: (u32, u32),
}

/// A moving average of latencies, in seconds.
#[derive(Clone, Copy, Debug)]
struct Latency {
    /// It follows a longer time at once, and a shorter one slowly.
    peak: f64,
    at: Instant,
    /// The plain average of the last samples or so, to which the peak falls while there is no call.
    usual: f64,
}

/// How a call ended, for its server's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Well, or by an error for which its server is not to blame.
    Good,
    Bad,
    /// Its caller gave it up, or it never reached the server.
    Unknown,
}

impl Ended {
    /// What a code says of the server.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unknown
            | Code::DataLoss => Self::Bad,
            Code::Cancelled => Self::Unknown,
            _ => Self::Good,
        }
    }
}

impl Measured {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Numbers {
            waiting: 0,
            others: 0,
            latency: None,
            success: 1.0,
            success_at: now,
            heard_at: now,
            calls: 0,
            failures: 0,
            in_a_row: 0,
            recent: (0, 0),
        }))
    }

    /// Notes that a call begins; `has_reply` is true if it waits for one reply.
    pub(crate) fn begin(&self, has_reply: bool, now: Instant) {
        let mut numbers = self.lock();
        numbers.calls += 1;
        if !has_reply {
            numbers.others += 1;
            return;
        }
        if numbers.waiting == 0 {
            numbers.heard_at = now;
        }
        numbers.waiting += 1;
    }

    /// Notes the end of a call that took `took`.
    pub(crate) fn end(&self, has_reply: bool, took: Duration, ended: Ended, now: Instant) {
        let mut numbers = self.lock();
        if has_reply {
            numbers.waiting = numbers.waiting.saturating_sub(1);
        } else {
            numbers.others = numbers.others.saturating_sub(1);
        }
        match ended {
            Ended::Good => {
                numbers.in_a_row = 0;
                numbers.recent.0 = numbers.recent.0.saturating_add(1);
            }
            Ended::Bad => {
                numbers.failures += 1;
                numbers.in_a_row = numbers.in_a_row.saturating_add(1);
                numbers.recent.1 = numbers.recent.1.saturating_add(1);
            }
            Ended::Unknown => {}
        }
        if ended != Ended::Unknown {
            let good = if ended == Ended::Good { 1.0 } else { 0.0 };
            let before = numbers.success(now);
            numbers.success = before + (good - before) * EACH;
            numbers.success_at = now;
        }
        if has_reply {
            if ended == Ended::Good {
                numbers.heard_at = now;
            }
            numbers.sample(took.as_secs_f64(), ended, now);
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        let numbers = self.lock();
        numbers.waiting.saturating_add(numbers.others)
    }

    /// How long replies take; none before the first one.
    pub(crate) fn latency(&self, now: Instant) -> Option<Duration> {
        let numbers = self.lock();
        let quiet = numbers.quiet(now);
        match &numbers.latency {
            Some(latency) => Some(Duration::from_secs_f64(latency.now(now)).max(quiet)),
            None => Some(quiet).filter(|quiet| *quiet >= UNKNOWN),
        }
    }

    /// The share of calls that have not failed lately.
    pub(crate) fn success(&self, now: Instant) -> f64 {
        self.lock().success(now)
    }

    /// For how long calls have waited without any reply.
    pub(crate) fn quiet(&self, now: Instant) -> Duration {
        self.lock().quiet(now)
    }

    /// True if calls have waited for far longer than replies take there.
    pub(super) fn hangs(&self, now: Instant) -> bool {
        let numbers = self.lock();
        let usual = numbers.latency.as_ref().map_or(0.0, |latency| latency.now(now));
        let quiet = numbers.quiet(now);
        quiet >= HANGS && quiet.as_secs_f64() > 3.0 * usual
    }

    /// The numbers of calls, and of failures.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let numbers = self.lock();
        (numbers.calls, numbers.failures)
    }

    /// How many calls have failed in a row.
    pub(super) fn failures_in_a_row(&self) -> u32 {
        self.lock().in_a_row
    }

    /// Sets how many calls have failed in a row, as far as outliers are concerned.
    pub(super) fn set_failures_in_a_row(&self, failures: u32) {
        self.lock().in_a_row = failures;
    }

    /// The ends since this was asked last: good ones and bad ones.
    pub(super) fn take_recent(&self) -> (u32, u32) {
        std::mem::take(&mut self.lock().recent)
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    fn success(&self, now: Instant) -> f64 {
        1.0 - (1.0 - self.success) * fade(now.saturating_duration_since(self.success_at))
    }

    fn quiet(&self, now: Instant) -> Duration {
        match self.waiting {
            0 => Duration::ZERO,
            _ => now.saturating_duration_since(self.heard_at),
        }
    }

    /// Takes a sample. A call that did not end well tells only that the server needs longer than that.
    fn sample(&mut self, took: f64, ended: Ended, now: Instant) {
        let is_good = ended == Ended::Good;
        match &mut self.latency {
            None if is_good => {
                self.latency = Some(Latency {
                    peak: took,
                    at: now,
                    usual: took,
                });
            }
            None => {}
            Some(latency) => {
                let before = latency.now(now);
                if took > before {
                    latency.peak = took;
                } else if is_good {
                    let keeps = fade(now.saturating_duration_since(latency.at));
                    latency.peak = took + (before - took) * keeps;
                } else {
                    return;
                }
                latency.at = now;
                if is_good {
                    latency.usual += (took - latency.usual) * EACH;
                }
            }
        }
    }
}

impl Latency {
    fn now(&self, now: Instant) -> f64 {
        let floor = self.usual.min(self.peak);
        floor + (self.peak - floor) * fade(now.saturating_duration_since(self.at))
    }
}

/// What is left of something after `time`, with a time constant of 10 s.
fn fade(time: Duration) -> f64 {
    (-time.as_secs_f64() / 10.0).exp()
}

/// How much a single call counts beside those before it.
const EACH: f64 = 0.1;
/// A shorter time without a reply is no reason to leave a server alone.
const HANGS: Duration = Duration::from_secs(2);
/// Less says nothing of a server that has never replied.
const UNKNOWN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn call(measured: &Measured, took: Duration, ended: Ended, now: Instant) {
        measured.begin(true, now);
        measured.end(true, took, ended, now + took);
    }

    #[test]
    fn a_longer_time_counts_at_once_and_a_shorter_one_slowly() {
        let begin = Instant::now();
        let measured = Measured::new(begin);
        assert_eq!(measured.latency(begin), None);
        call(&measured, MS, Ended::Good, begin);
        call(&measured, 100 * MS, Ended::Good, begin);
        let after = begin + 100 * MS;
        assert!(measured.latency(after).unwrap() >= 99 * MS);
        call(&measured, MS, Ended::Good, after);
        assert!(measured.latency(after + MS).unwrap() > 90 * MS);
        // Unused, it falls to what is usual there, and not to zero.
        let later = measured.latency(after + Duration::from_secs(200)).unwrap();
        assert!((5 * MS..15 * MS).contains(&later), "{later:?}");
    }

    #[test]
    fn a_quick_failure_does_not_look_quick() {
        let now = Instant::now();
        let measured = Measured::new(now);
        call(&measured, 50 * MS, Ended::Good, now);
        for _ in 0..50 {
            call(&measured, MS / 10, Ended::Bad, now + 50 * MS);
        }
        assert!(measured.latency(now + 51 * MS).unwrap() >= 49 * MS);
        assert!(measured.success(now + 51 * MS) < 0.01);
        assert!(measured.success(now + Duration::from_secs(30)) > 0.9);
        assert_eq!(measured.totals(), (51, 50));
    }

    #[test]
    fn the_time_without_a_reply_counts_as_latency() {
        let now = Instant::now();
        let measured = Measured::new(now);
        call(&measured, MS, Ended::Good, now);
        let asked = now + Duration::from_secs(60);
        measured.begin(true, asked);
        assert_eq!(measured.quiet(asked + 3000 * MS), 3000 * MS);
        assert_eq!(measured.latency(asked + 3000 * MS), Some(3000 * MS));
        // Streams may say nothing for hours.
        measured.end(true, 3000 * MS, Ended::Good, asked + 3000 * MS);
        measured.begin(false, asked);
        assert_eq!(measured.quiet(asked + Duration::from_secs(3600)), Duration::ZERO);
        assert_eq!(measured.in_flight(), 1);
    }

    #[test]
    fn a_call_that_its_caller_gave_up_is_no_failure_but_may_show_a_longer_time() {
        let now = Instant::now();
        let measured = Measured::new(now);
        call(&measured, MS, Ended::Good, now);
        call(&measured, 500 * MS, Ended::Unknown, now);
        assert!(measured.latency(now + 500 * MS).unwrap() >= 499 * MS);
        assert_eq!(measured.success(now + 500 * MS), 1.0);
        call(&measured, MS / 2, Ended::Unknown, now + 500 * MS);
        assert!(measured.latency(now + 501 * MS).unwrap() >= 499 * MS);
    }
}
