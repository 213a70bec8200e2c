//! Outcomes: how requests of the peer end, and what the peer is told of them.

use super::{
    Theirs,
    account::Fate,
    request::{Departure, RequestStage, TheirRequest},
    requests::EndedInRow,
};
use crate::{
    Code, Executed, Metadata, Priority, Status,
    conn::{
        End, RefusalReason, Time, Unwanted,
        outbox::Outbox,
        step::{Step, Violation},
        types::micros,
        wakers::{WakeList, Woken},
    },
    wire::frame::{Flags, control::DropReason},
};

impl Theirs {
    /// Removes a request whose handler has replied, or ended a one-way request well.
    #[inline]
    pub(in crate::conn) fn finish(&mut self, id: u64, woken: &mut Woken) -> Option<Departure> {
        let departure = self.requests.finish(id, woken)?;
        self.count_completed(departure.control);
        Some(departure)
    }

    /// Counts a one-way request whose handler ended well.
    pub(in crate::conn) fn handled(&mut self, request: &Departure) {
        self.account.ended(Fate::Handled, request.counts);
    }

    /// Counts the requests of the running row below `next`: their handlers have ended well, those left out that have left the row.
    pub(in crate::conn) fn advance_row(&mut self, next: u64, woken: &mut Woken) {
        let ended = self.requests.advance_row(next, woken);
        self.count_handled(ended);
    }

    /// Gives request `id` of the running row a record of its own; the handlers of those before it have ended well.
    pub(in crate::conn) fn part_from_row(&mut self, id: u64, woken: &mut Woken) {
        let ended = self.requests.part_from_row(id, woken);
        self.count_handled(ended);
    }

    /// Ends the running row. What is left of it is next again, or ends, too, if it is unwanted.
    pub(in crate::conn) fn put_row_back(&mut self) {
        let Some((last_id, unwanted)) = self.requests.put_row_back() else {
            return;
        };
        let fate = match unwanted {
            Unwanted::Deadline => Fate::Expired,
            // They have not started.
            Unwanted::Drained => Fate::Dropped(DropReason::Draining),
            _ => Fate::Dropped(DropReason::Aborted),
        };
        let count = self.end_row(last_id, fate);
        if unwanted == Unwanted::Drained && self.is_counting {
            self.tally.one_way_dropped += count;
        }
    }

    fn count_handled(&mut self, EndedInRow { count, counts }: EndedInRow) {
        if count > 0 {
            self.account.ended_many(Fate::Handled, count, counts);
            if self.is_counting {
                self.tally.completed += count;
            }
        }
    }

    /// Removes a request whose handler is gone without a reply message.
    pub(in crate::conn) fn remove(
        &mut self,
        id: u64,
        step: &mut Step<'_>,
    ) -> Option<(TheirRequest, Metadata)> {
        let flow = self.requests.flow_mut(id);
        let added = flow.map_or(Metadata::new(), |(flow, _)| std::mem::take(&mut flow.metadata));
        let late = self.on_its_way(id, step);
        let mut request = self.requests.remove(id)?;
        request.wake(step.wakes.woken());
        step.faults.expect_late(late);
        Some((request, added))
    }

    /// Counts what became of a one-way request whose handler is gone.
    pub(in crate::conn) fn end_one_way(&mut self, request: &TheirRequest, end: &End<'_>) {
        let fate = match (end, request.unwanted) {
            (End::Refused { reason, .. }, _) => Fate::Dropped(reason.drop_reason()),
            // The server at the other end takes no calls of this connection.
            (End::Reported { executed, .. }, _) if *executed == Executed::No => {
                Fate::Dropped(DropReason::Draining)
            }
            (End::Reported { executed, .. }, _) if *executed == Executed::Maybe => {
                Fate::Dropped(DropReason::Aborted)
            }
            (End::Failed(_) | End::Reported { .. }, _) => Fate::Failed,
            (End::Dropped, Some(Unwanted::Deadline)) => Fate::Expired,
            (End::Dropped, _) => Fate::Dropped(DropReason::Aborted),
        };
        if self.is_cut(request, end) {
            self.tally.one_way_dropped += 1;
        }
        self.account.ended(fate, request.counts);
    }

    /// Tells the caller how a call without a reply message ended; returns what of its status is left out.
    pub(in crate::conn) fn end_call(
        &mut self,
        id: u64,
        request: &TheirRequest,
        end: &End<'_>,
        added: &Metadata,
        is_live: bool,
        step: &mut Step<'_>,
    ) -> Option<String> {
        let is_started = matches!(
            request.stage,
            RequestStage::Starting(_) | RequestStage::Running(_)
        );
        let dropped;
        let (status, flags) = match *end {
            // NOT_EXECUTED is only true if the handler never began. A refusal after it began is a bug, so send no flag.
            End::Refused { status, .. } if is_started => (status, Flags::NONE),
            End::Refused { status, .. } => (status, Flags::NOT_EXECUTED),
            End::Failed(status) => (status, Flags::NONE),
            End::Reported { status, executed } => (status, flags_of(executed)),
            End::Dropped => {
                dropped = dropped_status(request.unwanted);
                let flags = match is_started {
                    true => Flags::ABORTED,
                    false => Flags::NOT_EXECUTED,
                };
                (&dropped, flags)
            }
        };
        if self.is_cut(request, end) {
            self.tally.aborted += 1;
        }
        let receipt = receipt(request, step.now);
        // A caller that has gone has given its call up.
        let is_gone = matches!(end, End::Dropped) && request.unwanted == Some(Unwanted::Disconnected);
        let code = if is_gone { Code::Cancelled } else { status.code() };
        match is_started {
            true => self.count_ran(request.counts, code, receipt),
            false => request.count_unstarted(code, receipt.0),
        }
        if !is_live {
            return None;
        }
        // Nobody needs the unfinished rest of its stream.
        step.outbox.drop_fragments(id);
        step.outbox.put_refusal(id, status, added, flags, receipt)
    }

    /// Counts a request that was taken in and refused: as a fault of the peer, unless it could not know.
    #[cold]
    pub(in crate::conn) fn count_refusal(
        request: &TheirRequest,
        text: &str,
        reason: RefusalReason,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        let one_way = request.one_way;
        match reason {
            _ if request.control => step.fault(|counts| &counts.other_faults, text),
            RefusalReason::UnknownProcedure | RefusalReason::BadPayload => {
                fault_of(reason, one_way, text, step)
            }
            RefusalReason::Over(_) | RefusalReason::Rule => {
                count_refused(reason, one_way, 1, step);
                Ok(())
            }
        }
    }

    /// Counts a handler that ran to its end, for a drain's report.
    #[inline]
    pub(in crate::conn) fn count_completed(&mut self, control: bool) {
        if self.is_counting && !control {
            self.tally.completed += 1;
        }
    }

    /// True if the end of a drain that is reported cut a handler.
    fn is_cut(&self, request: &TheirRequest, end: &End<'_>) -> bool {
        let is_dropped = request.unwanted == Some(Unwanted::Drained) && matches!(end, End::Dropped);
        is_dropped && self.is_counting && !request.control
    }

    /// Refuses a call that was not started.
    pub(in crate::conn) fn refuse_call(&mut self, id: u64, code: Code, text: &str, step: &mut Step<'_>) {
        let late = self.on_its_way(id, step);
        let Some(request) = self.requests.remove(id) else {
            return;
        };
        step.faults.expect_late(late);
        let status = Status::new(code, text);
        let receipt = receipt(&request, step.now);
        request.count_unstarted(code, receipt.0);
        let flags = Flags::NOT_EXECUTED;
        step.outbox
            .put_refusal(id, &status, &Metadata::new(), flags, receipt);
    }

    /// Writes the REPLYs that waited for room, as far as there is any.
    pub(in crate::conn) fn put_withdrawn(&mut self, outbox: &mut Outbox, wakes: &mut WakeList) {
        while outbox.has_room(Priority::Normal, 0) {
            let Some((id, withdrawn)) = self.requests.take_withdrawn() else {
                return;
            };
            let status = Status::new(withdrawn.code, withdrawn.text);
            let receipt = (withdrawn.queue_us, 0);
            outbox.put_refusal(id, &status, &Metadata::new(), Flags::NOT_EXECUTED, receipt);
            self.note_drained(wakes);
        }
    }

    /// Stops the reading of a handler's stream: its call fails with `status`, whatever its handler returns.
    pub(in crate::conn) fn stop_reading(&mut self, id: u64, status: Status, wakes: &mut WakeList) {
        if let Some((flow, held)) = self.requests.flow_mut(id) {
            flow.broken.get_or_insert(status);
            flow.release(held);
            flow.wake(wakes.woken());
        }
    }

    /// Ends the calls of a peer that is gone: drops unfinished ones, and calls whose handler was not polled. One-way requests
    /// that were read still run.
    pub(in crate::conn) fn disconnect_all(&mut self, wakes: &mut WakeList) {
        self.requests.takers.wake(wakes.woken());
        for id in self.requests.select(|_| true) {
            self.disconnect(id, wakes);
        }
        self.requests.forget_withdrawn();
    }

    fn disconnect(&mut self, id: u64, wakes: &mut WakeList) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        match request.stage {
            RequestStage::Receiving(_) | RequestStage::Discarding(_) | RequestStage::Withdrawn(_) => {
                self.forget(id);
            }
            RequestStage::Queued(_) if !request.one_way => self.forget(id),
            RequestStage::Taken | RequestStage::Starting(_) | RequestStage::Running(_)
                if !request.one_way =>
            {
                self.requests.unwant(id, Unwanted::Disconnected, wakes.woken());
            }
            RequestStage::Queued(_)
            | RequestStage::Taken
            | RequestStage::Starting(_)
            | RequestStage::Running(_) => {}
        }
    }

    /// Removes a request that has not started. If it is a call, its caller has given it up.
    fn forget(&mut self, id: u64) {
        if let Some(request) = self.requests.remove(id) {
            request.count_unstarted(Code::Cancelled, 0);
        }
    }

    /// Counts the one-way requests that will never be complete: what was decided of them is their end.
    pub(in crate::conn) fn count_unfinished_sends(&mut self) {
        for (id, fate, counts) in self.requests.discarded_sends() {
            self.account.received(id);
            self.account.ended(fate, counts);
        }
    }

    /// How many bytes of a caller's stream may still come.
    fn on_its_way(&self, id: u64, step: &Step<'_>) -> u64 {
        let max = step.settings.max_message;
        self.requests.get(id).map_or(0, |request| request.on_its_way(max))
    }
}

/// Counts a request that is not taken as a fault of the peer.
pub(super) fn fault_of(
    reason: RefusalReason,
    one_way: bool,
    text: &str,
    step: &mut Step<'_>,
) -> Result<(), Violation> {
    count_refused(reason, one_way, 1, step);
    step.blame(text)
}

/// Counts `count` requests that are not taken for this reason.
pub(super) fn count_refused(reason: RefusalReason, one_way: bool, count: usize, step: &Step<'_>) {
    let (counts, count) = (&step.settings.counts, count as u64);
    match reason {
        RefusalReason::UnknownProcedure => counts.unknown_procedures.add_many(count),
        RefusalReason::BadPayload => counts.malformed_messages.add_many(count),
        RefusalReason::Over(limit) => counts.refuse(limit, one_way, count),
        // The policy has counted it.
        RefusalReason::Rule => {}
    }
}

/// How long a request waited and its handler ran, in microseconds.
#[inline]
pub(in crate::conn) fn receipt(request: &TheirRequest, now: Time) -> (u64, u64) {
    let micros = |from: Time, to: Time| micros(to.saturating_sub(from));
    match request.stage {
        RequestStage::Starting(started) | RequestStage::Running(started) => {
            (micros(request.at, started), micros(started, now))
        }
        _ => (micros(request.at, now), 0),
    }
}

/// How a refusal says whether the handler ran.
fn flags_of(executed: Executed) -> Flags {
    match executed {
        Executed::No => Flags::NOT_EXECUTED,
        Executed::Maybe => Flags::ABORTED,
        Executed::Yes => Flags::NONE,
    }
}

/// What the caller is told of a handler that was dropped.
pub(in crate::conn) fn dropped_status(unwanted: Option<Unwanted>) -> Status {
    let (code, text) = match unwanted {
        Some(Unwanted::Cancelled) => (Code::Cancelled, "cancelled by the caller"),
        Some(Unwanted::Deadline) => (
            Code::DeadlineExceeded,
            "handler dropped at its deadline: the caller's Call::timeout",
        ),
        Some(Unwanted::Drained) => (Code::Unavailable, DROPPED_AT_DRAIN),
        Some(Unwanted::Disconnected) | None => (Code::Unavailable, "handler dropped"),
    };
    Status::new(code, text)
}

/// The text for the caller of a handler that the end of a drain has dropped: of the server, or of one connection.
const DROPPED_AT_DRAIN: &str = "handler dropped at the end of the drain: the server's ServerBuilder::drain_timeout, or \
                                Limits::max_age_grace";
