//! Ending: the steps to a connection's end, which concern most of its parts.

use super::EndState;
use crate::{
    conn::{
        Cause, Cut, Settings, Time,
        ours::Ours,
        outbox::Outbox,
        peer::PeerState,
        step::Violation,
        streams::StreamTotals,
        theirs::Theirs,
        types::Reach,
        wakers::{WaitingFor, WakeList},
    },
    wire::frame::control::Reason,
};

/// A connection's end, and the parts that it touches.
#[derive(Debug)]
pub(in crate::conn) struct Ending<'a> {
    pub(in crate::conn) end: &'a mut EndState,
    pub(in crate::conn) peer: &'a mut PeerState,
    pub(in crate::conn) ours: &'a mut Ours,
    pub(in crate::conn) theirs: &'a mut Theirs,
    pub(in crate::conn) streams: &'a mut StreamTotals,
    pub(in crate::conn) outbox: &'a mut Outbox,
    pub(in crate::conn) wakes: &'a mut WakeList,
    pub(in crate::conn) settings: &'a Settings,
    pub(in crate::conn) now: Time,
}

impl Ending<'_> {
    /// Ends the connection: the peer broke the protocol, or made us refuse too much.
    #[cold]
    pub(in crate::conn) fn violation(&mut self, violation: Violation) {
        if !self.end.is_live() {
            return;
        }
        let (cut, reason, text) = match violation {
            Violation::Protocol(text) => (Cut::Protocol, Reason::Protocol, text),
            Violation::Excess(text) => (Cut::Excess, Reason::Excess, text),
        };
        self.end.note_cut(cut, self.settings);
        let last_id = self.theirs.last_id();
        self.end.put_goaway(reason, last_id, &text, self.outbox);
        self.begin_closing(Cause::Protocol { text }, Reach::Output);
    }

    /// Ends the connection: the peer did not do in time what it had to, and nothing above `last_id` is taken.
    ///
    /// It has refused nothing, so another try may succeed.
    pub(in crate::conn) fn time_out(&mut self, cut: Cut, last_id: u64, text: String) {
        self.end.note_cut(cut, self.settings);
        self.end.put_goaway(Reason::Timeout, last_id, &text, self.outbox);
        self.begin_closing(Cause::Lost { text, source: None }, Reach::Output);
    }

    /// Starts nothing more: what is in the output is still written, for a short time, then the peer may end its side.
    pub(in crate::conn) fn begin_closing(&mut self, cause: Cause, reach: Reach) {
        let soon = self.settings.soon(self.now);
        self.begin_closing_until(soon, cause, reach);
    }

    /// As [`Ending::begin_closing`]: the output is written until `until`.
    pub(super) fn begin_closing_until(&mut self, until: Time, cause: Cause, reach: Reach) {
        if !self.end.is_live() {
            return;
        }
        self.fail_all(&cause, reach);
        self.end.begin_closing(cause, until);
        self.end.linger_if_written(self.outbox, self.settings, self.now);
    }

    /// Ends the connection: nothing is written or read any more.
    pub(in crate::conn) fn close(&mut self, cause: Cause) {
        self.ours.reached(self.outbox.reached());
        self.ours.count_sent();
        if self.end.is_live() {
            self.fail_all(&cause, Reach::Taken);
        } else {
            // What was in the output when it began to close may have been written since, or never was.
            self.ours.lose_unwritten();
        }
        self.end.close(cause);
        self.outbox.close();
        self.ours.release();
        self.theirs.release();
        self.wakes.wake(WaitingFor::Closed);
        self.wakes.wake(WaitingFor::Flush);
    }

    /// Completes everything that is pending, exactly once (R1). One-way requests that were read still run.
    fn fail_all(&mut self, cause: &Cause, reach: Reach) {
        let reached = self.outbox.reached();
        self.ours.fail_all(cause, reached, reach, self.outbox, self.wakes);
        self.outbox.fail_all(self.wakes.woken());
        self.streams.take_owing();
        for what in [WaitingFor::Ready, WaitingFor::Flush, WaitingFor::Drained] {
            self.wakes.wake(what);
        }
        self.theirs.disconnect_all(self.wakes);
    }
}
