//! Drain GOAWAYs: what this side tells the peer in a drain, and how the drain ends.

use super::{
    drain_state::{Drain, DrainStep},
    ending::Ending,
};
use crate::{
    conn::{Cause, ids::MAX_ID, types::Reach, wakers::WaitingFor},
    wire::frame::control::Reason,
};

impl Ending<'_> {
    /// Begins a drain, and tells the peer: the first GOAWAY. False if the handshake is not over: then
    /// nothing is open, and the connection ends at once.
    #[must_use]
    pub(in crate::conn) fn start_drain(&mut self, drain: Drain) -> bool {
        let (reason, text) = (drain.reason, drain.text.clone());
        self.set_drain(drain);
        if self.end.is_handshaking() {
            // Nothing was dispatched.
            self.end.put_goaway(reason, 0, &text, self.outbox);
            self.begin_closing(Cause::Closed, Reach::Output);
            return false;
        }
        self.end.put_goaway(reason, MAX_ID, &text, self.outbox);
        true
    }

    /// Begins the drain of a side that closes: it takes no more calls and starts none.
    pub(in crate::conn) fn start_close(&mut self) {
        let last_id = self.theirs.last_id();
        let Some(drain) = self.end.drain_mut() else {
            self.set_drain(Drain::of_close(last_id));
            // Before the peer's HELLO only requests may be sent: then this follows when it comes.
            if self.end.is_open() {
                self.end.put_goaway(Reason::Drain, last_id, "", self.outbox);
            }
            return;
        };
        drain.own = true;
        if drain.announced.is_none() {
            // `Connection::leave` began this drain without a GOAWAY: it goes now. A drain by `close` is final already.
            self.finalise_drain();
        }
    }

    /// Marks a connection that is gone as draining: its one-way requests may still run, and the report counts how they end.
    pub(in crate::conn) fn count_what_is_left(&mut self) {
        self.theirs.start_counting();
        if !self.end.is_draining() {
            self.end.set_drain(Drain::of_close(self.theirs.last_id()));
        }
        self.wakes.wake(WaitingFor::Draining);
    }

    /// Sets the drain, and wakes the tasks that wait for one.
    pub(in crate::conn) fn set_drain(&mut self, drain: Drain) {
        self.end.set_drain(drain);
        self.wakes.wake(WaitingFor::Draining);
    }

    /// Sends the second GOAWAY, if it has not gone yet.
    pub(in crate::conn) fn finalise_drain(&mut self) {
        let Some(drain) = self.end.drain().filter(|drain| !drain.is_final()) else {
            return;
        };
        let last_id = self.theirs.last_id();
        self.end
            .put_goaway(drain.reason, last_id, &drain.text, self.outbox);
        self.end.set_step(DrainStep::Final { last_id });
        self.theirs.note_drained(self.wakes);
    }

    /// True if the drain's time is over, and all requests are answered or have had their time to end.
    pub(in crate::conn) fn may_finish(&self) -> bool {
        let Some(drain) = self.end.drain().filter(|drain| drain.aborted.is_some()) else {
            return false;
        };
        let only_overdue_handlers = self.theirs.control_calls() == 0 && drain.gives_handlers_up(self.now);
        let is_answered =
            (self.theirs.is_idle() || only_overdue_handlers) && !self.outbox.remainders().has_reply();
        is_answered || drain.gives_all_up(self.now)
    }

    /// Ends a drain: answers `ping`, the peer's newest unanswered one, sends the last account, and half-closes.
    pub(in crate::conn) fn finish_drain(&mut self, ping: Option<[u8; 8]>) {
        // Nothing can be sent after this, and a caller may wait for the account. So it must count unfinished requests, too.
        self.theirs.count_unfinished_sends();
        let has_news = self.theirs.has_news();
        if let Some(ping) = ping {
            self.outbox.put_pong(ping, self.theirs.tell_account());
        }
        if has_news {
            self.put_last_account();
        }
        let soon = self.settings.soon(self.now);
        let until = match (self.end.hard_limit(), self.end.drain_until()) {
            (Some(limit), _) => limit,
            (None, Some(until)) => until.max(soon),
            (None, None) => self.now.saturating_add(self.settings.write_stall),
        };
        self.begin_closing_until(until, Cause::Closed, Reach::Output);
    }

    /// Tells the peer unasked what became of all its one-way requests up to the last id, behind everything else. It
    /// may be too busy to ask now, and this side may be gone when it asks.
    fn put_last_account(&mut self) {
        let Some(drain) = self.end.drain() else { return };
        if let DrainStep::Final { last_id } = drain.step {
            let account = Some(self.theirs.tell_account());
            let announced = self.end.announced();
            self.outbox
                .put_goaway(drain.reason, last_id, &drain.text, announced, account);
        }
    }
}
