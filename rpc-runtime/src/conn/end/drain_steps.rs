//! Drain steps: what this side says and when, from the first GOAWAY to the end of the connection.

use super::{
    drain::{Drain, DrainStep},
    ending::Ending,
};
use crate::{
    conn::{Cause, ids::MAX_ID, types::Reach, wakers::WaitingFor},
    wire::frame::control::Reason,
};

impl Ending<'_> {
    /// Begins a drain, and tells the peer: the first GOAWAY. False if the connection ends at once, because nothing has to be
    /// finished.
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
            // `leave` began this drain, and the peer got no GOAWAY yet. A drain by `close` is final already.
            self.finalise_drain();
        }
    }

    /// Begins the drain of a connection that is over: one-way requests may outlive it, and the report counts them.
    pub(in crate::conn) fn drain_what_is_left(&mut self) {
        self.theirs.start_counting();
        if !self.end.is_draining() {
            self.end.set_drain(Drain::of_close(self.theirs.last_id()));
        }
        self.wakes.wake(WaitingFor::Draining);
    }

    /// Begins a drain, or changes how.
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

    /// True if the drain has come so far that requests of the peer are waited for no longer.
    pub(in crate::conn) fn gives_up(&self) -> bool {
        let Some(drain) = self.end.drain().filter(|drain| drain.aborted.is_some()) else {
            return false;
        };
        let only_stuck = self.theirs.control_calls() == 0 && drain.gives_handlers_up(self.now);
        let is_answered = (self.theirs.is_idle() || only_stuck) && !self.outbox.remainders().has_reply();
        is_answered || drain.gives_all_up(self.now)
    }

    /// Ends a drain: answers `ping`, the last one of the peer, sends the last account, and half-closes.
    pub(in crate::conn) fn finish_drain(&mut self, ping: Option<[u8; 8]>) {
        // The last that can be said, and a caller may wait for it, whenever it is read.
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

    /// Tells the peer unasked what became of all its one-way requests up to the last id, behind everything else: it may
    /// have no processor at the moment, and this side be gone when it gets one.
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
