//! What handlers do: take requests, and reply.
#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "`cx` has the shape that every poll function has"
)]

use std::task::{Context, Poll};

use crate::conn::{
    Arrived, CallId, Connection, End, Time, Unstarted, Unwanted,
    assembly::Part,
    theirs::account::Fate,
    theirs::requests::{Request, Stage},
};
use crate::{
    Code, Metadata, Priority, Status,
    wire::frame::{
        Flags, Header, Kind, Payload,
        control::{DropReason, Progress},
    },
};

/// What handlers do.
impl Connection {
    /// The next request whose handler is to be started, in the order of arrival; `None` when no more can come.
    /// Pending as long as there is no room for a reply, too; requests of a higher priority need less of it, and go ahead
    /// of others then.
    ///
    /// Each request that this gives must come to its end by [`Connection::reply`] or [`Connection::end`].
    pub(crate) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrived>> {
        let is_live = self.is_live();
        if self.theirs.requests.is_any_queued() {
            let mut rooms = if is_live {
                let rooms = self.backlog().rooms();
                // Most replies are short. One that is not waits with its handler, and few may.
                if self.outbox.room.long() < LONG_REPLIES {
                    rooms.short
                } else {
                    rooms.long
                }
            } else {
                [true; Priority::ALL.len()]
            };
            if self.has_many_handlers() {
                // One-ways have no slots, so their credit alone would let a peer take all the handlers of a server. They
                // outlive their connection, and wait all the same.
                rooms = Priority::ALL.map(|priority| priority == Priority::Control && rooms[priority.rank()]);
                self.theirs.requests.held_back = true;
            }
            if let Some(arrived) = self.theirs.requests.take_next(rooms) {
                return Poll::Ready(Some(arrived));
            }
        }
        if !is_live && !self.theirs.requests.held_back {
            return Poll::Ready(None);
        }
        self.theirs.requests.takers.register(cx, &mut self.wakes.woken);
        Poll::Pending
    }

    /// Whether the peer has as many handlers at work as it may: twice its slots, for one-ways have none.
    #[inline]
    fn has_many_handlers(&self) -> bool {
        self.theirs.requests.running() >= 2 * self.settings.max_calls as usize
    }

    /// How many requests wait for their handlers, about.
    pub(crate) fn waiting_requests(&self) -> usize {
        self.theirs.requests.waiting()
    }

    /// Whether several requests are open.
    pub(crate) fn has_more_requests(&self) -> bool {
        self.theirs.requests.open() > 1
    }

    /// Marks that the handler is polled for the first time: from here on it counts as executed.
    ///
    /// # Errors
    ///
    /// Why it is not to start; then it must not be polled, but ended.
    pub(crate) fn started(&mut self, id: CallId, now: Time) -> Result<(), Unstarted> {
        let lacks_memory = self.lacks_memory() && self.replies_hold_much();
        self.theirs.requests.start(id.number(), lacks_memory, now)
    }

    /// A call is to be answered before everything else.
    pub(crate) fn urgent(&mut self, now: Time) {
        self.outbox.pace.urgent(now);
    }

    /// Ready when the handler is no longer wanted. Several may wait; all are woken.
    pub(crate) fn poll_unwanted(&mut self, id: CallId, cx: &mut Context<'_>) -> Poll<Unwanted> {
        let Some(request) = self.theirs.requests.get_mut(id.number()) else {
            return Poll::Ready(Unwanted::Disconnected);
        };
        match request.unwanted {
            Some(unwanted) => Poll::Ready(unwanted),
            None => {
                request.waiters.register(cx, &mut self.wakes.woken);
                Poll::Pending
            }
        }
    }

    /// Ready when all one-way requests that came before call `id` have ended, with the account, which its reply tells.
    pub(crate) fn poll_settled(&mut self, id: CallId, cx: &mut Context<'_>) -> Poll<Progress> {
        let settled = self.theirs.requests.poll_settled(id.number(), cx);
        settled.map(|()| self.theirs.account.tell())
    }

    /// Ready when the reply of a call, of `len` bytes, may be encoded: behind the last message of its stream.
    pub(crate) fn poll_room(&mut self, id: CallId, len: usize, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_live() {
            return Poll::Ready(());
        }
        if self.outbox.bulk.has(id.number()) {
            self.wait_for_data(id.number(), cx);
            return Poll::Pending;
        }
        let priority = self.theirs.requests.priority(id.number());
        if self.has_room(priority, len as u64) {
            return Poll::Ready(());
        }
        self.outbox.room.wait(id.number(), priority, len as u64, None, cx);
        self.note_held();
        Poll::Pending
    }

    /// The handler of a one-way request succeeded. It has no stream and no reply: nothing is timed or written for it.
    pub(crate) fn handled(&mut self, id: CallId, now: Time) {
        let Some(ended) = self.theirs.requests.finish(id.number(), &mut self.wakes.woken) else {
            return;
        };
        debug_assert!(ended.one_way, "a call ends with a reply");
        self.count_completed(ended.control);
        self.theirs.account.ended(Fate::Handled);
        self.request_ended(now);
    }

    /// The handler of a call succeeded: encodes the reply in place.
    pub(crate) fn reply<P: Payload>(&mut self, id: CallId, message: &P, now: Time) {
        let number = id.number();
        self.outbox.room.leave(number);
        let Some(request) = self.theirs.requests.get_mut(number) else {
            return;
        };
        if request.one_way {
            return self.handled(id, now);
        }
        let mut metadata = None;
        if let Some(flow) = &mut request.flow {
            if let Some(status) = flow.broken.take() {
                return self.end(id, End::Failed(&status), now);
            }
            metadata = Some(std::mem::take(&mut flow.metadata)).filter(|metadata| !metadata.is_empty());
        }
        let id = number;
        let (priority, receipt) = (request.priority, receipt(request, now));
        let late = request.on_its_way(self.settings.max_message);
        debug_assert!(!self.outbox.bulk.has(id), "the reply would overtake its stream");
        if self.is_live() {
            let mut header = Header::new(Kind::Reply, id);
            (header.queue_us, header.run_us) = receipt;
            header.metadata = metadata.as_ref();
            // If the message panics, the request is still there, and its handler's end is told.
            self.put_reply(header, priority, message);
            self.peer.abuse.expect_late(late);
        }
        let Some(ended) = self.theirs.requests.finish(id, &mut self.wakes.woken) else {
            return;
        };
        self.count_completed(ended.control);
        self.request_ended(now);
    }

    /// The handler is gone without a reply message.
    pub(crate) fn end(&mut self, id: CallId, end: End<'_>, now: Time) {
        self.end_noting(id, end, now);
    }

    /// As [`Connection::end`]; returns what of its status is left out because it may not travel.
    pub(crate) fn end_noting(&mut self, id: CallId, end: End<'_>, now: Time) -> Option<String> {
        let id = id.number();
        self.outbox.room.leave(id);
        let flow = self
            .theirs
            .requests
            .get_mut(id)
            .and_then(|request| request.flow.as_mut());
        let (told, broken) = flow.map_or((false, None), |flow| (flow.told, flow.broken.take()));
        let end = match (end, &broken) {
            // It passes on what its streams told it: it did not get to its end, any more than one that is dropped.
            (End::Failed(_), _) if told => End::Dropped,
            (End::Failed(_), Some(status)) => End::Failed(status),
            (end, _) => end,
        };
        let flow = self.theirs.requests.flow_mut(id);
        let added = flow.map_or(Metadata::new(), |(flow, _)| std::mem::take(&mut flow.metadata));
        let late = self
            .theirs
            .requests
            .get(id)
            .map_or(0, |request| request.on_its_way(self.settings.max_message));
        let mut request = self.theirs.requests.remove(id)?;
        request.wake(&mut self.wakes.woken);
        self.peer.abuse.expect_late(late);
        if matches!(end, End::Failed(_)) {
            self.count_completed(request.control);
        }
        let mut left_out = None;
        if request.one_way {
            self.end_one_way(&request, &end);
        } else {
            left_out = self.end_call(id, &request, &end, &added, now);
        }
        if let End::Refused { status, reason } = end {
            self.count_refusal(&request, status.message(), reason, now);
        }
        self.request_ended(now);
        left_out
    }

    /// Counts a request that was taken in and refused: as a fault of the peer's, unless it could not know.
    #[cold]
    fn count_refusal(&mut self, request: &Request, text: &str, reason: DropReason, now: Time) {
        let one_way = request.one_way;
        match reason {
            _ if request.control => self.fault(|counts| &counts.other_faults, text, now),
            DropReason::UnknownProcedure | DropReason::BadPayload => {
                self.fault_of(reason, one_way, text, now);
            }
            DropReason::Overload => {
                self.count_refused(reason, one_way);
            }
            DropReason::Draining | DropReason::Aborted => {}
        }
    }

    fn put_reply<P: Payload>(&mut self, header: Header<'_>, priority: Priority, message: &P) {
        let size = message.size();
        let len = size.len;
        let max = self.ours.credit.max_message().unwrap_or(u64::MAX);
        if len as u64 > max {
            let text = format!("reply of {len} bytes exceeds the caller's limit of {max}");
            let status = Status::new(Code::ResourceExhausted, text);
            let receipt = (header.queue_us, header.run_us);
            self.put_refusal(header.id, &status, &Metadata::new(), Flags::NONE, receipt);
            return;
        }
        self.put_message(header, message, size, Part::Reply, priority);
    }

    fn end_call(
        &mut self,
        id: u64,
        request: &Request,
        end: &End<'_>,
        added: &Metadata,
        now: Time,
    ) -> Option<String> {
        let is_started = matches!(request.stage, Stage::Running(_));
        let dropped;
        let (status, flags) = match *end {
            // Only if that is so: it was refused by mistake otherwise.
            End::Refused { status, .. } if is_started => (status, Flags::NONE),
            End::Refused { status, .. } => (status, Flags::NOT_EXECUTED),
            End::Failed(status) => (status, Flags::NONE),
            End::Dropped => {
                dropped = dropped_status(request.unwanted);
                (
                    &dropped,
                    if is_started {
                        Flags::ABORTED
                    } else {
                        Flags::NOT_EXECUTED
                    },
                )
            }
        };
        if self.is_cut(request, end) {
            self.end.tally.aborted += 1;
        }
        if self.is_live() {
            // What is unfinished of its stream is of no use.
            self.drop_fragments(id);
            return self.put_refusal(id, status, added, flags, receipt(request, now));
        }
        None
    }

    fn end_one_way(&mut self, request: &Request, end: &End<'_>) {
        let fate = match (end, request.unwanted) {
            (End::Refused { reason, .. }, _) => Fate::Dropped(*reason),
            (End::Failed(_), _) => Fate::Failed,
            (End::Dropped, Some(Unwanted::Deadline)) => Fate::Expired,
            (End::Dropped, _) => Fate::Dropped(DropReason::Aborted),
        };
        if self.is_cut(request, end) {
            self.end.tally.one_way_dropped += 1;
        }
        self.theirs.account.ended(fate);
    }

    /// Counts a handler that ran to its end, for the drain's report.
    fn count_completed(&mut self, control: bool) {
        if self.is_counting() && !control {
            self.end.tally.completed += 1;
        }
    }

    /// Whether a handler was cut by the end of a drain that is reported.
    fn is_cut(&self, request: &Request, end: &End<'_>) -> bool {
        let is_dropped = request.unwanted == Some(Unwanted::Drained) && matches!(end, End::Dropped);
        is_dropped && self.is_counting() && !request.control
    }

    /// What follows when a handler is gone.
    fn request_ended(&mut self, now: Time) {
        self.note_use(now);
        self.note_drained();
        self.note_held_if_much();
        if self.theirs.requests.held_back && !self.has_many_handlers() {
            self.theirs.requests.held_back = false;
            self.theirs.requests.takers.wake(&mut self.wakes.woken);
        }
        self.finish_if_idle(now);
        if self.is_closed() && self.theirs.requests.is_empty() {
            self.theirs.requests.release();
            self.wakes.check_at = None;
        }
    }

    /// Refuses a call that is in the table and was not started.
    pub(super) fn refuse_call(&mut self, id: u64, code: Code, text: &str, flags: Flags, now: Time) {
        let Some(late) = self
            .theirs
            .requests
            .get(id)
            .map(|request| request.on_its_way(self.settings.max_message))
        else {
            return;
        };
        let Some(request) = self.theirs.requests.remove(id) else {
            return;
        };
        self.peer.abuse.expect_late(late);
        let status = Status::new(code, text);
        self.put_refusal(id, &status, &Metadata::new(), flags, receipt(&request, now));
    }

    /// Puts a REPLY without a message into the output.
    pub(super) fn put_status(&mut self, id: u64, code: Code, text: &str, flags: Flags) {
        self.put_refusal(id, &Status::new(code, text), &Metadata::new(), flags, (0, 0));
    }

    /// Puts the REPLYs that waited for room into the output, as far as there is any.
    pub(super) fn put_withdrawn(&mut self) {
        while self.has_room(Priority::Normal, 0) {
            let Some((id, withdrawn)) = self.theirs.requests.take_withdrawn() else {
                return;
            };
            let status = Status::new(withdrawn.code, withdrawn.text);
            let receipt = (withdrawn.queue_us, 0);
            self.put_refusal(id, &status, &Metadata::new(), Flags::NOT_EXECUTED, receipt);
            self.note_drained();
        }
    }
}

/// So many replies may wait for the rests of others before only requests are taken whose reply has room, however long it is.
pub(super) const LONG_REPLIES: usize = 2;

/// How long a request waited and its handler ran, in microseconds.
pub(super) fn receipt(request: &Request, now: Time) -> (u64, u64) {
    let micros = |from: Time, to: Time| {
        let time = to.saturating_sub(from);
        // Not `as_micros`, which computes in 128 bits: no clock runs for half a million years.
        time.as_secs() * 1_000_000 + u64::from(time.subsec_micros())
    };
    match request.stage {
        Stage::Running(started) => (micros(request.at, started), micros(started, now)),
        _ => (micros(request.at, now), 0),
    }
}

/// What the caller is told of a handler that was dropped.
pub(super) fn dropped_status(unwanted: Option<Unwanted>) -> Status {
    let (code, text) = match unwanted {
        Some(Unwanted::Cancelled) => (Code::Cancelled, "cancelled by the caller"),
        Some(Unwanted::Deadline) => (Code::DeadlineExceeded, "handler dropped at its deadline"),
        Some(Unwanted::Drained) => (Code::Unavailable, "handler dropped at the end of the drain"),
        Some(Unwanted::Disconnected) | None => (Code::Unavailable, "handler dropped"),
    };
    Status::new(code, text)
}
