//! Drain: what becomes of each open call of the peer when its time is over.

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

impl Theirs {
    /// Ends all requests because the drain's time is over: handlers become unwanted, the others are refused.
    pub(in crate::conn) fn abort_all(&mut self, step: &mut Step<'_>) {
        for id in self.requests.select(|_| true) {
            self.abort(id, step);
        }
        self.abort_rows(step);
    }

    /// As [`Theirs::abort_all`] for the one-way requests of a connection that is gone.
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
    }

    fn abort(&mut self, id: u64, step: &mut Step<'_>) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        match (&request.stage, request.one_way) {
            (RequestStage::Discarding(_), _) => {}
            (
                RequestStage::Queued(_)
                | RequestStage::Taken
                | RequestStage::Starting(_)
                | RequestStage::Running(_),
                _,
            ) if request.control => {}
            (RequestStage::Taken | RequestStage::Starting(_) | RequestStage::Running(_), _) => {
                self.requests.unwant(id, Unwanted::Drained, step.wakes.woken());
            }
            (RequestStage::Receiving(_), true) => {
                self.requests.discard(id, Fate::Dropped(DropReason::Draining));
                self.tally.one_way_dropped += u64::from(self.is_counting);
            }
            (RequestStage::Queued(_), true) => {
                self.requests.remove(id);
                self.account.ended(Fate::Dropped(DropReason::Draining));
                self.tally.one_way_dropped += u64::from(self.is_counting);
            }
            (&RequestStage::Withdrawn(Withdrawn { code, text, .. }), _) => {
                self.refuse_call(id, code, text, step);
            }
            (stage @ (RequestStage::Receiving(_) | RequestStage::Queued(_)), false) => {
                if let RequestStage::Receiving(partial) = stage {
                    step.faults.expect_late(partial.assembly.missing());
                }
                self.tally.aborted += u64::from(self.is_counting);
                self.refuse_call(id, Code::Unavailable, "server is draining", step);
            }
        }
        self.note_drained(step.wakes);
    }
}
