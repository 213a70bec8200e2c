//! Open at a drain: what becomes of each open request of the peer when the drain's time is over.

use super::{
    Theirs,
    account::Fate,
    request::{RequestStage, Withdrawn},
};
use crate::{
    Code,
    conn::{Unwanted, step::Step},
    wire::frame::control::DropReason,
};

/// What callers are told whose calls a drain refuses.
pub(crate) const DRAINING: &str = "server is draining";

impl Theirs {
    /// Ends all requests because the drain's time is over: running handlers are told to stop, calls that have not started are
    /// refused, one-way requests that have not started are dropped. Requests of the control service that are here whole go on.
    pub(in crate::conn) fn abort_all(&mut self, step: &mut Step<'_>) {
        for id in self.requests.select(|_| true) {
            self.abort(id, step);
        }
        self.abort_rows(step);
    }

    /// Does the same with one-way requests only: the connection is gone, so no call can be answered.
    pub(in crate::conn) fn abort_one_ways(&mut self, step: &mut Step<'_>) {
        for id in self.requests.select(|request| request.one_way) {
            self.abort(id, step);
        }
        self.abort_rows(step);
    }

    fn abort_rows(&mut self, step: &mut Step<'_>) {
        for last_id in self.requests.select_rows(|row| !row.control) {
            let count = self.end_row(last_id, Fate::Dropped(DropReason::Draining));
            if self.is_counting {
                self.tally.one_way_dropped += count;
            }
            self.note_drained(step.wakes);
        }
        self.requests.unwant_row(Unwanted::Drained, |row| !row.control);
    }

    fn abort(&mut self, id: u64, step: &mut Step<'_>) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        match (&request.stage, request.one_way) {
            // It was dropped before.
            (RequestStage::Discarding(_), _) => {}
            // The control service may still answer.
            (
                RequestStage::Queued(_)
                | RequestStage::Taken
                | RequestStage::Starting(_)
                | RequestStage::Running(_),
                _,
            ) if request.control => {}
            // Its handler is told to stop.
            (RequestStage::Taken | RequestStage::Starting(_) | RequestStage::Running(_), _) => {
                self.requests.unwant(id, Unwanted::Drained, step.wakes.woken());
            }
            // Fragments are still to come: they are dropped.
            (RequestStage::Receiving(_), true) => {
                self.requests.discard(id, Fate::Dropped(DropReason::Draining));
                self.tally.one_way_dropped += u64::from(self.is_counting);
            }
            (RequestStage::Queued(_), true) => {
                let counts = self.requests.remove(id).and_then(|request| request.counts);
                self.account.ended(Fate::Dropped(DropReason::Draining), counts);
                self.tally.one_way_dropped += u64::from(self.is_counting);
            }
            // It was to be refused anyway, for another reason.
            (&RequestStage::Withdrawn(Withdrawn { code, text, .. }), _) => {
                self.refuse_call(id, code, text, step);
            }
            (stage @ (RequestStage::Receiving(_) | RequestStage::Queued(_)), false) => {
                if let RequestStage::Receiving(partial) = stage {
                    step.faults.expect_late(partial.assembly.missing());
                }
                self.tally.aborted += u64::from(self.is_counting);
                self.refuse_call(id, Code::Unavailable, DRAINING, step);
            }
        }
        self.note_drained(step.wakes);
    }
}
