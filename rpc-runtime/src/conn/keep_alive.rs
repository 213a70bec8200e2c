//! Whether the peer lives: pings, their floor, and barriers.

use std::task::{Context, Poll, Waker};

use super::{
    Cause, Time,
    ids::IdMap,
    wakers::{Woken, set_waker},
};
use crate::wire::frame::control::Progress;

/// Pings both ways, and what was heard of the peer.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    /// How many pings went out, and how many are answered: the number of a ping is its payload.
    sent: u64,
    answered: u64,
    sent_at: Time,
    /// When the first of those went that are not answered.
    waiting_since: Time,
    /// Whether a CALL, SEND or DATA went since the last ping: then the floor does not matter.
    request_sent: bool,
    last_read: Time,
    last_written: Time,
    /// The last id that was given to a request when bytes came last: nothing was read since a later one began.
    last_heard: u64,
    /// How many calls have missed their deadline without a byte since they began; none once one has come.
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

/// How long the payload of a ping is.
pub(super) const PING_LEN: usize = 8;

impl KeepAlive {
    /// How many pings below the floor are one too many.
    const STRIKES: u32 = 3;

    /// Bytes came, behind the request `last_id`. True if that ends doubts.
    #[must_use]
    pub(super) fn read(&mut self, now: Time, last_id: u64) -> bool {
        self.last_read = now;
        self.last_heard = last_id;
        std::mem::take(&mut self.doubts) > 0
    }

    /// The call `id` has missed its deadline. True if nothing was read since it began: then the peer may be gone.
    ///
    /// The floor never forbids to ask that at once: a request went, and a ping that went behind it is not answered.
    #[must_use]
    pub(super) fn missed(&mut self, id: u64) -> bool {
        let is_doubt = id > self.last_heard;
        self.doubts = self.doubts.saturating_add(u32::from(is_doubt));
        is_doubt
    }

    /// How many doubts there are that the peer lives.
    pub(super) fn doubts(&self) -> u32 {
        self.doubts
    }

    /// Bytes went that had to wait, so the peer has taken earlier ones.
    ///
    /// Others say nothing: a peer that is gone leaves room for megabytes in the OS.
    pub(super) fn written(&mut self, now: Time) {
        self.last_written = now;
    }

    /// A CALL, SEND or DATA goes out.
    pub(super) fn request_sent(&mut self) {
        self.request_sent = true;
    }

    /// A CALL, SEND or DATA came.
    pub(super) fn request_read(&mut self) {
        self.theirs.request_read = true;
        self.theirs.strikes = 0;
    }

    /// A ping goes out now; returns its number, which is its payload.
    pub(super) fn send_ping(&mut self, now: Time) -> u64 {
        if !self.is_waiting() {
            self.waiting_since = now;
        }
        self.sent += 1;
        self.sent_at = now;
        self.request_sent = false;
        self.sent
    }

    /// A ping was answered, and all earlier ones with it; false if it was never sent, or is answered already.
    #[must_use]
    pub(super) fn answer(&mut self, ping: u64) -> bool {
        let is_expected = ping > self.answered && ping <= self.sent;
        if is_expected {
            self.answered = ping;
        }
        is_expected
    }

    /// A ping came: it replaces earlier ones that are not answered yet. True if it came too early.
    #[must_use]
    pub(super) fn ping_read(&mut self, ping: [u8; PING_LEN], floor: Time, now: Time) -> bool {
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

    /// Whether the peer sends pings too fast.
    pub(super) fn has_struck_out(&self) -> bool {
        self.theirs.strikes >= Self::STRIKES
    }

    /// The newest ping that is to be answered.
    pub(super) fn take_unanswered(&mut self) -> Option<[u8; PING_LEN]> {
        self.theirs.unanswered.take()
    }

    /// Whether there is one.
    pub(super) fn owes_pong(&self) -> bool {
        self.theirs.unanswered.is_some()
    }

    /// From when on a ping may go out; the peer's floor is `floor`.
    pub(super) fn allowed_at(&self, floor: Time) -> Time {
        if self.sent == 0 || self.request_sent {
            Time::ZERO
        } else {
            self.sent_at.saturating_add(floor)
        }
    }

    /// When a ping should go out because nothing came for `silence`.
    pub(super) fn due_at(&self, silence: Time, floor: Time) -> Option<Time> {
        if self.is_waiting() {
            return None;
        }
        Some(self.last_read.saturating_add(silence).max(self.allowed_at(floor)))
    }

    /// When the peer counts as dead, unless something is heard of it before.
    pub(super) fn dead_at(&self, dead_after: Time) -> Option<Time> {
        if !self.is_waiting() {
            return None;
        }
        let heard = self.waiting_since.max(self.last_read).max(self.last_written);
        Some(heard.saturating_add(dead_after))
    }

    /// Whether a ping is not answered.
    pub(super) fn is_waiting(&self) -> bool {
        self.answered < self.sent
    }
}

/// Those who wait for the peer's account.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    table: IdMap<Waiting>,
    next: u64,
    /// Whether any of them waits for its ping to go out.
    unsent: usize,
}

#[derive(Debug)]
struct Waiting {
    state: BarrierState,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum BarrierState {
    /// Its ping is to follow the last fragment of all sends up to this id.
    Unsent(u64),
    /// Its ping is out.
    Sent(u64),
    /// Its ping is answered.
    Answered(Progress),
    /// There is no room for it.
    Refused,
    /// Its ping is answered, and the peer did not take all that was sent.
    Cut,
}

impl Barriers {
    /// Adds a barrier behind the sends up to `last_id`; one of too many fails when it is polled.
    pub(super) fn start(&mut self, last_id: u64, max: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        let state = if self.table.len() < max {
            self.unsent += 1;
            BarrierState::Unsent(last_id)
        } else {
            BarrierState::Refused
        };
        self.table.insert(number, Waiting { state, waker: None });
        number
    }

    /// A ping goes out: for all barriers whose sends are in the output, which `is_behind` says of the last id.
    pub(super) fn sent(&mut self, ping: u64, is_behind: impl Fn(u64) -> bool) {
        for waiting in self.table.values_mut() {
            if matches!(waiting.state, BarrierState::Unsent(last_id) if is_behind(last_id)) {
                waiting.state = BarrierState::Sent(ping);
                self.unsent -= 1;
            }
        }
    }

    /// A ping was answered, and all earlier ones with it; without an account if the peer did not take all that was sent.
    pub(super) fn answered(&mut self, ping: u64, account: Option<&Progress>, woken: &mut Woken) {
        for waiting in self.table.values_mut() {
            if matches!(waiting.state, BarrierState::Sent(sent) if sent <= ping) {
                waiting.state = account.map_or(BarrierState::Cut, |account| {
                    BarrierState::Answered(account.clone())
                });
                woken.push(waiting.waker.take());
            }
        }
    }

    /// The peer has given its last account: that is what all wait for.
    pub(super) fn settled(&mut self, account: Option<&Progress>, woken: &mut Woken) {
        self.sent(u64::MAX, |_| true);
        self.answered(u64::MAX, account, woken);
    }

    /// Takes the account of a barrier; `cause` is why none will come any more, `cut` why sends were not taken.
    pub(super) fn poll(
        &mut self,
        number: u64,
        max: usize,
        cause: Option<&Cause>,
        cut: impl FnOnce() -> Option<Cause>,
        cx: &Context<'_>,
    ) -> Poll<Result<Progress, Cause>> {
        let result = match self.table.get_mut(&number) {
            Some(Waiting {
                state: BarrierState::Answered(progress),
                ..
            }) => Ok(std::mem::take(progress)),
            Some(Waiting {
                state: BarrierState::Refused,
                ..
            }) => Err(Cause::QueueFull { max }),
            Some(Waiting {
                state: BarrierState::Cut,
                ..
            }) => Err(cut().unwrap_or(Cause::Closed)),
            found => match (cause, found) {
                (Some(cause), _) => Err(cause.clone()),
                (None, Some(waiting)) => {
                    set_waker(&mut waiting.waker, cx);
                    return Poll::Pending;
                }
                (None, None) => Err(Cause::Closed),
            },
        };
        self.remove(number);
        Poll::Ready(result)
    }

    /// Nobody waits for a barrier any more.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(waiting) = self.table.remove(&number) {
            self.unsent -= usize::from(matches!(waiting.state, BarrierState::Unsent(_)));
        }
    }

    /// Wakes everybody: the connection is over.
    pub(super) fn wake_all(&mut self, woken: &mut Woken) {
        for waiting in self.table.values_mut() {
            woken.push(waiting.waker.take());
        }
    }

    /// Whether a barrier waits for its ping, and all its sends are in the output.
    pub(super) fn wants_ping(&self, is_behind: impl Fn(u64) -> bool) -> bool {
        let mut waiting = self.table.values();
        self.unsent > 0
            && waiting
                .any(|waiting| matches!(waiting.state, BarrierState::Unsent(last_id) if is_behind(last_id)))
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}
