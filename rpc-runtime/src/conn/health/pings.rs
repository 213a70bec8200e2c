//! Pings: whether the peer lives.

use prost::Message;

use crate::{
    conn::{
        Time,
        step::{Violation, protocol},
        tuning::PING_STRIKES,
        types::PING_LEN,
    },
    wire::frame::{
        Frame,
        control::{Pong, Progress},
    },
};

/// What a PING asks to be answered with.
pub(super) fn parse_ping(frame: &Frame) -> Result<[u8; PING_LEN], Violation> {
    match <[u8; PING_LEN]>::try_from(&frame.payload[..]) {
        Ok(ping) => Ok(ping),
        Err(_) => protocol(format!("PING of {} bytes", frame.payload.len())),
    }
}

/// Which PING of ours a PONG answers, and what the peer says became of our one-way requests.
pub(in crate::conn) fn parse_pong(frame: &Frame) -> Result<(u64, Progress), Violation> {
    let Ok(mut pong) = Pong::decode(frame.payload.clone()) else {
        return protocol("PONG cannot be parsed");
    };
    match <[u8; PING_LEN]>::try_from(&pong.ping[..]) {
        Ok(ping) => Ok((u64::from_le_bytes(ping), pong.progress.take().unwrap_or_default())),
        Err(_) => protocol(format!("PONG with {} bytes of PING", pong.ping.len())),
    }
}

/// Pings both ways, and when the peer was last heard.
#[derive(Debug, Default)]
pub(in crate::conn) struct KeepAlive {
    /// How many pings went out, and how many are answered: the number of a ping is its payload.
    sent: u64,
    answered: u64,
    sent_at: Time,
    /// How long the answer to a ping took that was the newest then.
    round_trip: Option<Time>,
    /// When the first unanswered ping went.
    waiting_since: Time,
    /// True if a CALL, SEND or DATA went since the last ping: then the floor does not matter.
    request_sent: bool,
    last_read: Time,
    last_written: Time,
    /// The last id that was given to a request when bytes came last: a request above it began after that.
    last_heard: u64,
    /// How many calls have missed their deadline without a byte since they began; 0 once a byte has come.
    doubts: u32,
    theirs: TheirPings,
}

/// The pings of the peer.
#[derive(Debug, Default)]
struct TheirPings {
    last: Option<Time>,
    request_read: bool,
    strikes: u32,
    unanswered: Option<[u8; PING_LEN]>,
}

impl KeepAlive {
    /// Notes that bytes came, behind the request `last_id`. True if that ends doubts.
    #[must_use]
    pub(in crate::conn) fn read(&mut self, now: Time, last_id: u64) -> bool {
        self.last_read = now;
        self.last_heard = last_id;
        std::mem::take(&mut self.doubts) > 0
    }

    /// Notes that call `id` has missed its deadline. True if nothing was read since it began: then the peer may be gone.
    ///
    /// The floor never forbids to ask at once: a request went, and no ping behind it was answered.
    #[must_use]
    pub(in crate::conn) fn missed(&mut self, id: u64) -> bool {
        let is_doubt = id > self.last_heard;
        self.doubts = self.doubts.saturating_add(u32::from(is_doubt));
        is_doubt
    }

    /// How many doubts there are that the peer lives.
    pub(in crate::conn) fn doubts(&self) -> u32 {
        self.doubts
    }

    /// Notes that the OS took bytes that had to wait: the peer has taken earlier ones.
    ///
    /// Other bytes say nothing: if the peer is gone, the OS still has room for megabytes.
    pub(in crate::conn) fn written(&mut self, now: Time) {
        self.last_written = now;
    }

    /// Notes that a CALL, SEND or DATA goes out.
    pub(in crate::conn) fn request_sent(&mut self) {
        self.request_sent = true;
    }

    /// Notes that a CALL, SEND or DATA came.
    pub(in crate::conn) fn request_read(&mut self) {
        self.theirs.request_read = true;
        self.theirs.strikes = 0;
    }

    /// Numbers a ping that goes out now; the number is its payload.
    pub(in crate::conn) fn send_ping(&mut self, now: Time) -> u64 {
        if !self.is_waiting() {
            self.waiting_since = now;
        }
        self.sent += 1;
        self.sent_at = now;
        self.request_sent = false;
        self.sent
    }

    /// Notes the answer to a ping, which answers all earlier ones; false if it was never sent, or is answered already.
    #[must_use]
    pub(in crate::conn) fn answer(&mut self, ping: u64, now: Time) -> bool {
        let is_expected = ping > self.answered && ping <= self.sent;
        if is_expected {
            self.answered = ping;
        }
        // Of the newest it is known when it went.
        if is_expected && ping == self.sent {
            self.round_trip = Some(now.saturating_sub(self.sent_at));
        }
        is_expected
    }

    /// How long the answer to a ping took last.
    pub(in crate::conn) fn round_trip(&self) -> Option<Time> {
        self.round_trip
    }

    /// When bytes came last; zero before the first.
    pub(in crate::conn) fn last_read(&self) -> Time {
        self.last_read
    }

    /// Notes a ping of the peer; it replaces earlier unanswered ones. True if it came too early.
    #[must_use]
    pub(in crate::conn) fn ping_read(&mut self, ping: [u8; PING_LEN], floor: Time, now: Time) -> bool {
        let theirs = &mut self.theirs;
        // Half of what we announced: the network may bring two closer together than they were sent.
        let too_early = theirs
            .last
            .is_some_and(|last| now < last.saturating_add(floor / 2));
        let is_strike = too_early && !theirs.request_read;
        theirs.strikes += u32::from(is_strike);
        theirs.last = Some(now);
        theirs.request_read = false;
        theirs.unanswered = Some(ping);
        is_strike
    }

    /// True if the peer sends pings too fast.
    pub(in crate::conn) fn has_struck_out(&self) -> bool {
        self.theirs.strikes >= PING_STRIKES
    }

    /// The newest ping that is to be answered.
    pub(in crate::conn) fn take_unanswered(&mut self) -> Option<[u8; PING_LEN]> {
        self.theirs.unanswered.take()
    }

    /// True if a ping of the peer is not answered.
    pub(in crate::conn) fn owes_pong(&self) -> bool {
        self.theirs.unanswered.is_some()
    }

    /// From when on a ping may go out; the peer's floor is `floor`.
    pub(in crate::conn) fn allowed_at(&self, floor: Time) -> Time {
        if self.sent == 0 || self.request_sent {
            Time::ZERO
        } else {
            self.sent_at.saturating_add(floor)
        }
    }

    /// When a ping should go out because nothing came for `silence`.
    pub(in crate::conn) fn due_at(&self, silence: Time, floor: Time) -> Option<Time> {
        if self.is_waiting() {
            return None;
        }
        Some(self.last_read.saturating_add(silence).max(self.allowed_at(floor)))
    }

    /// When the peer counts as dead, unless it is heard before.
    pub(in crate::conn) fn dead_at(&self, dead_after: Time) -> Option<Time> {
        if !self.is_waiting() {
            return None;
        }
        let heard = self.waiting_since.max(self.last_read).max(self.last_written);
        Some(heard.saturating_add(dead_after))
    }

    /// True if a ping is not answered.
    pub(in crate::conn) fn is_waiting(&self) -> bool {
        self.answered < self.sent
    }
}
