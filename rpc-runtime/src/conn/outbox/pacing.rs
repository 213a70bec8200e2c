//! Pacing: holds long messages back while messages go by that must not wait behind them.

use std::{collections::VecDeque, time::Duration};

use crate::conn::{
    Time,
    tuning::{
        FRAGMENT, PACED_FRAGMENT, PACED_QUEUED, PACING_LEAST, PACING_MARKS, PACING_MOST, SHORT_REMEMBERED,
        URGENT_REMEMBERED,
    },
};

/// Holds long messages back while messages go by that must not wait behind them.
///
/// Nothing can overtake what the OS and the network hold, and that may be megabytes: the peer's receive buffer alone grows to
/// 6 MB. So while messages of priority control go by, or short ones beside megabytes, PINGs mark the fragments, and only a
/// window of them may be unanswered. The window adapts to the link: it grows while that makes the round trip no longer, and
/// shrinks when it does. Without such messages nothing is held back.
#[derive(Debug)]
pub(in crate::conn) struct Pacing {
    /// Until when messages that must not wait are expected, because some went by lately.
    until: Option<Time>,
    /// None until a fragment goes by beside such messages.
    window: Option<Box<PacingWindow>>,
}

#[derive(Debug)]
struct PacingWindow {
    /// How many bytes of fragments were sent since it began, and how many of them the peer has read.
    sent: u64,
    read: u64,
    marks: VecDeque<PingMark>,
    len: u64,
    /// True if it has held something back since it was looked at.
    is_used_up: bool,
    /// The shortest round trip.
    best: Option<Duration>,
}

/// A PING behind a fragment.
#[derive(Clone, Copy, Debug)]
struct PingMark {
    ping: u64,
    sent: u64,
    at: Time,
}

impl Pacing {
    pub(in crate::conn) fn new() -> Self {
        Self {
            until: None,
            window: None,
        }
    }

    /// Notes a message that must not wait.
    pub(in crate::conn) fn urgent(&mut self, now: Time) {
        self.expect(now.saturating_add(URGENT_REMEMBERED));
    }

    /// Notes a short message beside long ones: it may wait, but not for megabytes.
    pub(in crate::conn) fn short(&mut self, now: Time) {
        self.expect(now.saturating_add(SHORT_REMEMBERED));
    }

    fn expect(&mut self, until: Time) {
        self.until = self.until.max(Some(until));
    }

    /// True if a fragment may go.
    pub(in crate::conn) fn admits(&self) -> bool {
        !self.is_on() || self.window.as_ref().is_none_or(|window| window.admits())
    }

    /// True if long messages are held back.
    pub(in crate::conn) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// The longest fragment: a short one while something may have to wait behind it.
    pub(in crate::conn) fn fragment(&self) -> usize {
        if self.is_on() { PACED_FRAGMENT } else { FRAGMENT }
    }

    /// Counts a fragment of `len` bytes; true if a PING is to go behind it.
    #[must_use]
    pub(in crate::conn) fn sent(&mut self, len: u64, now: Time) -> bool {
        self.until = self.until.filter(|until| now < *until);
        if !self.is_on() {
            if let Some(window) = &mut self.window {
                window.begin();
            }
            return false;
        }
        let window = self.window.get_or_insert_with(|| Box::new(PacingWindow::new()));
        window.sent(len)
    }

    /// Marks the last fragment by a PING that went out behind it.
    pub(in crate::conn) fn mark(&mut self, ping: u64, now: Time) {
        if let Some(window) = &mut self.window {
            window.mark(ping, now);
        }
    }

    /// Notes the answer to a PING, which answers all earlier ones.
    pub(in crate::conn) fn answered(&mut self, ping: u64, now: Time) {
        if let Some(window) = &mut self.window {
            window.answered(ping, now);
        }
    }
}

impl PacingWindow {
    fn new() -> Self {
        Self {
            sent: 0,
            read: 0,
            marks: VecDeque::new(),
            len: PACING_LEAST,
            is_used_up: false,
            best: None,
        }
    }

    /// Begins anew: what was on its way has arrived long before something is urgent again.
    fn begin(&mut self) {
        (self.sent, self.read) = (0, 0);
        self.marks.clear();
    }

    fn admits(&self) -> bool {
        self.sent - self.read < self.len
    }

    fn sent(&mut self, len: u64) -> bool {
        self.sent += len;
        self.is_used_up |= !self.admits();
        let marked = self.marks.back().map_or(self.read, |mark| mark.sent);
        self.sent - marked >= self.len / PACING_MARKS
    }

    fn mark(&mut self, ping: u64, now: Time) {
        self.marks.push_back(PingMark {
            ping,
            sent: self.sent,
            at: now,
        });
    }

    fn answered(&mut self, ping: u64, now: Time) {
        while let Some(&mark) = self.marks.front().filter(|mark| mark.ping <= ping) {
            self.marks.pop_front();
            self.read = mark.sent;
            self.adapt(now.saturating_sub(mark.at));
        }
    }

    /// Adapts its length to the link: about [`PACED_QUEUED`] bytes should wait on their way, so that the link is never idle.
    fn adapt(&mut self, round_trip: Duration) {
        let round_trip = round_trip.max(Duration::from_micros(1));
        let best = self.best.map_or(round_trip, |best| best.min(round_trip));
        self.best = Some(best);
        let waiting = self.len as f64 * (1.0 - best.as_secs_f64() / round_trip.as_secs_f64());
        if waiting < PACED_QUEUED as f64 {
            if std::mem::take(&mut self.is_used_up) {
                self.len = (self.len + PACED_FRAGMENT as u64).min(PACING_MOST);
            }
        } else if waiting > 2.0 * PACED_QUEUED as f64 {
            self.len = (self.len - PACED_FRAGMENT as u64).max(PACING_LEAST);
        }
    }
}
