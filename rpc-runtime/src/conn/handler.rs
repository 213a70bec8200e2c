//! What handlers and the server do: take requests, reply, drain.
#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "`cx` has the shape that every poll function has"
)]

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Arrived, ArrivedRow, CallId, Cause, Connection, End, Tally, Time, Unstarted, Unwanted,
    end::{
        age,
        drain_state::{Drain, DrainDue, DrainStep},
        ending::Ending,
    },
    memory_held::Holdings,
    outbox::remainders::MessageKind,
    step::step_of,
    theirs::{HandOut, ReplyRooms, Theirs, receipt},
    tuning::NOTICE,
    wakers::WaitingFor,
};
use crate::{
    Code, Load, Metadata, Priority, Status,
    api::server_limit::ServerLimit,
    wire::frame::{
        Flags, Header, Kind, Payload,
        control::{Progress, Reason},
    },
};

/// A reply of any priority has room.
const ALL_ROOMS: ReplyRooms = [true; Priority::ALL.len()];

/// Requests and replies.
impl Connection {
    /// The next request whose handler is to be started, in the order of arrival; `None` when no more can come.
    /// Pending as long as there is no room for a reply, too; requests of a higher priority need less of it, and go ahead
    /// of others then.
    ///
    /// The handler asks by [`Connection::started`] before it starts. The request must come to its end by
    /// [`Connection::reply`] or [`Connection::end`].
    pub(crate) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrived>> {
        self.poll_next(HandOut::Asks, cx)
    }

    /// Takes up to `most` requests whose handlers are to start now, in the order of [`Connection::poll_request`]. The first is
    /// returned, and the others are added to `rest`.
    ///
    /// Their handlers start without asking: each request counts as executed until [`Connection::not_started`] or
    /// [`Connection::take_back`] says that its handler did not start. So a handler that nobody speaks for any more has run.
    /// Each request must come to its end by [`Connection::reply`] or [`Connection::end`].
    ///
    /// There is only one, which asks by [`Connection::started`], while memory is short: then the replies before it decide
    /// whether it starts. There is only one, too, unless a reply of any length has room: then those replies decide which
    /// request is next.
    #[inline]
    pub(crate) fn take_requests(
        &mut self,
        rest: &mut VecDeque<Arrived>,
        most: usize,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Option<TakenRequests>> {
        if self.lacks_memory() && self.replies_hold_much() {
            let first = ready!(self.poll_request(cx));
            return Poll::Ready(first.map(|first| TakenRequests {
                first,
                asks: true,
                has_more: true,
            }));
        }
        let how = HandOut::Starts(now);
        let is_row = self.theirs.is_row_next();
        let Some(first) = ready!(self.poll_next(how, cx)) else {
            return Poll::Ready(None);
        };
        if self.has_room_for_all() {
            let max_calls = self.settings.max_calls;
            let waiting = self.theirs.waiting().min(most - 1);
            rest.reserve(waiting);
            for _ in 0..waiting {
                if !is_row && self.theirs.is_row_next() {
                    // It is for `take_row`.
                    break;
                }
                let next = self.theirs.take_next(ALL_ROOMS, max_calls, how);
                let Some(arrived) = next else { break };
                rest.push_back(arrived);
            }
        }
        Poll::Ready(Some(TakenRequests {
            first,
            asks: false,
            has_more: self.theirs.waiting() > 0,
        }))
    }

    /// Takes the limit by which requests were refused last when they came; none if none was since the last question.
    #[inline]
    pub(crate) fn take_limit(&mut self) -> Option<ServerLimit> {
        self.theirs.take_limit()
    }

    /// The procedure and the depth of the one-way requests that are next, if they came in one frame and
    /// [`Connection::take_row`] may hand them out now.
    ///
    /// It may not while memory is short, nor unless a reply of any length has room: then other requests may go ahead.
    #[inline]
    pub(crate) fn next_row(&self) -> Option<(u64, u8)> {
        let next = self.theirs.next_row(self.settings.max_calls)?;
        let is_short = self.lacks_memory() && self.replies_hold_much();
        (self.has_room_for_all() && !is_short).then_some(next)
    }

    /// Takes the one-way requests that are next, whose handlers start now, one after the other and in order.
    ///
    /// They count as executed, as by [`Connection::take_requests`]. They have no records: what became of them is told together, by
    /// [`Connection::put_row_back`], and of one that does not end well at once by [`Connection::part_from_row`]. No other row is to be
    /// taken before that.
    pub(crate) fn take_row(&mut self, now: Time) -> Option<ArrivedRow> {
        self.theirs.take_row(now)
    }

    /// Gives a request of the running row, whose handler runs, a record of its own. The handlers before it have ended well, those
    /// left out whose requests were parted before. The request must come to its end by [`Connection::handled`] or
    /// [`Connection::end`]. Changes nothing if it was parted before.
    pub(crate) fn part_from_row(&mut self, id: CallId) {
        self.theirs.part_from_row(id.number(), self.wakes.woken());
    }

    /// Ends the running row. The handlers before `next` have ended well, those left out whose requests were parted. The others did
    /// not start: they are next again, unless they are no longer wanted.
    pub(crate) fn put_row_back(&mut self, next: CallId, now: Time) {
        self.theirs.advance_row(next.number(), self.wakes.woken());
        self.theirs.put_row_back();
        self.request_ended(now);
    }

    #[inline]
    fn poll_next(&mut self, how: HandOut, cx: &mut Context<'_>) -> Poll<Option<Arrived>> {
        let is_live = self.end.is_live();
        let max_calls = self.settings.max_calls;
        // A dead connection has room for everything: only one-way requests are left, which have no reply.
        let rooms = match is_live && !self.has_room_for_all() {
            true => Theirs::rooms_for_replies(&self.outbox),
            false => ALL_ROOMS,
        };
        if let Some(arrived) = self.theirs.take_next(rooms, max_calls, how) {
            return Poll::Ready(Some(arrived));
        }
        if !is_live && !self.theirs.is_held_back() {
            return Poll::Ready(None);
        }
        self.theirs.wait_for_request(cx, self.wakes.woken());
        Poll::Pending
    }

    /// Takes requests back whose handlers did not start: they are the next ones again, in their order. What is no longer
    /// wanted ends as not executed.
    pub(crate) fn take_back(&mut self, requests: &mut VecDeque<Arrived>, now: Time) {
        while let Some(arrived) = requests.pop_back() {
            let id = arrived.id;
            if !self.theirs.take_back(arrived) {
                self.end(id, End::Dropped, now);
            }
        }
    }

    /// True if a reply of any priority and length may be encoded now.
    #[inline]
    pub(crate) fn has_room_for_all(&self) -> bool {
        self.outbox.has_room_for_all()
    }

    /// Notes when the handler of a request from [`Connection::take_requests`] was polled first.
    #[inline]
    pub(crate) fn began(&mut self, id: CallId, at: Time) {
        self.theirs.note_began(id.number(), at);
    }

    /// Notes that the handler of a request from [`Connection::take_requests`] was not polled: from here on it asks before it
    /// starts. Changes nothing if it has asked already.
    pub(crate) fn not_started(&mut self, id: CallId) {
        self.theirs.note_not_started(id.number());
        self.theirs
            .release_held_back(self.settings.max_calls, self.wakes.woken());
    }

    /// How many requests wait for their handlers, about.
    pub(crate) fn waiting_requests(&self) -> usize {
        self.theirs.waiting()
    }

    /// True if several requests are open.
    pub(crate) fn has_more_requests(&self) -> bool {
        self.theirs.open_requests() > 1
    }

    /// Notes that the handler is polled for the first time: from here on it counts as executed.
    ///
    /// # Errors
    ///
    /// Why it is not to start; then it must not be polled, but ended.
    #[inline]
    pub(crate) fn started(&mut self, id: CallId, now: Time) -> Result<(), Unstarted> {
        let lacks_memory = self.lacks_memory() && self.replies_hold_much();
        self.theirs.start(id.number(), lacks_memory, now)
    }

    /// True if the replies that wait are more than this connection's part of the memory: no taken request is to start.
    #[cold]
    fn replies_hold_much(&self) -> bool {
        let waiting = self.outbox.waiters().bytes();
        let replies = self.outbox.unwritten().saturating_add(waiting);
        Holdings::replies_hold_much(&self.settings.memory, replies)
    }

    /// Notes a call that is to be answered before everything else.
    pub(crate) fn urgent(&mut self, now: Time) {
        self.outbox.note_urgent(now);
    }

    /// The time since the last byte of a request was read; zero once the request is over.
    pub(crate) fn time_since_read(&self, id: CallId, now: Time) -> Duration {
        let read_at = self.theirs.read_at(id.number());
        read_at.map_or(Duration::ZERO, |at| now.saturating_sub(at))
    }

    /// Why the handler is no longer wanted; none while it is. It leaves nothing behind, unlike a wait.
    pub(crate) fn unwanted(&self, id: CallId) -> Option<Unwanted> {
        self.theirs.unwanted(id.number())
    }

    /// Ready when the handler is no longer wanted. Several tasks may wait; all are woken.
    pub(crate) fn poll_unwanted(&mut self, id: CallId, cx: &mut Context<'_>) -> Poll<Unwanted> {
        let Some(request) = self.theirs.watched_mut(id.number()) else {
            return Poll::Ready(Unwanted::Disconnected);
        };
        match request.unwanted {
            Some(unwanted) => Poll::Ready(unwanted),
            None => {
                request.waiters.register(cx, self.wakes.woken());
                Poll::Pending
            }
        }
    }

    /// Ready when all one-way requests that came before call `id` have ended, with the account, which its reply tells.
    pub(crate) fn poll_settled(&mut self, id: CallId, cx: &mut Context<'_>) -> Poll<Progress> {
        self.theirs.poll_settled(id.number(), cx)
    }

    /// Ready when the reply of a call, of `len` bytes, may be encoded: behind the last message of its stream.
    #[inline]
    pub(crate) fn poll_room(&mut self, id: CallId, len: usize, cx: &mut Context<'_>) -> Poll<()> {
        // Where there is room for all, nothing remains of any stream either.
        if !self.end.is_live() || self.has_room_for_all() {
            return Poll::Ready(());
        }
        let id = id.number();
        if self.outbox.remainders().has(id) {
            let granted = self.peer.stream_window();
            if let Some(outflow) = self.call(id).outflow(granted) {
                outflow.wait(cx);
            }
            return Poll::Pending;
        }
        let (priority, len) = (self.theirs.priority(id), len as u64);
        if self.outbox.has_room(priority, len) {
            return Poll::Ready(());
        }
        self.outbox.wait(id, priority, len, None, cx);
        self.note_held();
        Poll::Pending
    }

    /// Ends a one-way request whose handler succeeded. It has no stream and no reply: nothing is timed or written for it.
    pub(crate) fn handled(&mut self, id: CallId, now: Time) {
        let Some(ended) = self.theirs.finish(id.number(), self.wakes.woken()) else {
            return;
        };
        debug_assert!(ended.one_way, "a call ends with a reply");
        self.theirs.handled(&ended);
        self.request_ended(now);
    }

    /// Ends a call whose handler succeeded: encodes the reply in place.
    #[inline]
    pub(crate) fn reply<P: Payload>(&mut self, id: CallId, message: &P, now: Time) {
        let number = id.number();
        self.outbox.leave(number);
        let Some(request) = self.theirs.get_mut(number) else {
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
        let (priority, receipt) = (request.priority, receipt(request, now));
        let (counts, mut code) = (request.counts, Code::Ok);
        let late = request.on_its_way(self.settings.longest_item());
        debug_assert!(
            !self.outbox.remainders().has(number),
            "the reply would overtake its stream"
        );
        if self.end.is_live() {
            let mut header = Header::new(Kind::Reply, number);
            (header.queue_us, header.run_us) = receipt;
            header.metadata = metadata.as_ref();
            // If the message panics, the request is still there, and its handler's end is told.
            code = self.put_reply(header, priority, message);
            self.peer.faults.expect_late(late);
        }
        self.theirs.count_ran(counts, code, receipt);
        if self.theirs.finish(number, self.wakes.woken()).is_some() {
            self.request_ended(now);
        }
    }

    /// Encodes a reply; returns the code that the caller gets.
    #[inline]
    fn put_reply<P: Payload>(&mut self, header: Header<'_>, priority: Priority, message: &P) -> Code {
        let size = message.size();
        let len = size.len;
        let max = self.ours.credit().max_message().unwrap_or(u64::MAX);
        if len as u64 > max {
            let text =
                format!("reply of {len} bytes exceeds the caller's limit of {max}: its Limits::max_message");
            let status = Status::new(Code::ResourceExhausted, text);
            let receipt = (header.queue_us, header.run_us);
            self.outbox
                .put_refusal(header.id, &status, &Metadata::new(), Flags::NONE, receipt);
            return Code::ResourceExhausted;
        }
        self.put_message(header, message, size, MessageKind::Reply, priority);
        Code::Ok
    }

    /// Ends a request whose handler is gone without a reply message.
    pub(crate) fn end(&mut self, id: CallId, end: End<'_>, now: Time) {
        self.end_noting(id, end, now);
    }

    /// As [`Connection::end`]; returns what of its status is left out because it may not travel.
    pub(crate) fn end_noting(&mut self, id: CallId, end: End<'_>, now: Time) -> Option<String> {
        let id = id.number();
        self.outbox.leave(id);
        let flow = self.theirs.flow_mut(id);
        let (told, broken) = flow.map_or((false, None), |(flow, _)| {
            (flow.knows_unwanted, flow.broken.take())
        });
        let end = match (end, &broken) {
            // It passes on what its streams told it: it did not get to its end, any more than one that is dropped.
            (End::Failed(_) | End::Reported { .. }, _) if told => End::Dropped,
            (End::Failed(_) | End::Reported { .. }, Some(status)) => End::Failed(status),
            (end, _) => end,
        };
        let is_live = self.end.is_live();
        let step = &mut step_of!(self, now);
        let (request, added) = self.theirs.remove(id, step)?;
        if matches!(end, End::Failed(_)) {
            self.theirs.count_completed(request.control);
        }
        let mut left_out = None;
        if request.one_way {
            self.theirs.end_one_way(&request, &end);
        } else {
            left_out = self.theirs.end_call(id, &request, &end, &added, is_live, step);
        }
        if let End::Refused { status, reason } = end {
            let counted = Theirs::count_refusal(&request, status.message(), reason, step);
            if let Err(violation) = counted {
                self.ending(now).violation(violation);
            }
        }
        self.let_in_if_room();
        self.request_ended(now);
        left_out
    }

    /// Does what follows when a handler is gone.
    #[inline]
    fn request_ended(&mut self, now: Time) {
        self.health.note_use(now);
        self.theirs.note_drained(&mut self.wakes);
        self.note_held_if_much();
        self.theirs
            .release_held_back(self.settings.max_calls, self.wakes.woken());
        self.finish_if_idle(now);
        if self.end.is_closed() && self.theirs.is_empty() {
            self.theirs.release();
            self.wakes.set_check_at(None);
        }
    }

    /// Fails a handler's call with `status`, whatever the handler returns: a message of its stream cannot be parsed.
    pub(crate) fn break_stream(&mut self, id: CallId, status: Status, now: Time) {
        let text = status.message().to_owned();
        self.theirs.stop_reading(id.number(), status, &mut self.wakes);
        let counted = step_of!(self, now).fault(|counts| &counts.malformed_messages, &text);
        if let Err(violation) = counted {
            self.ending(now).violation(violation);
        }
    }

    /// Adds an entry that travels beside the reply of a handler's call; false if there is no room for it, or nothing is
    /// replied any more.
    pub(crate) fn add_reply_metadata(&mut self, id: CallId, key: String, value: Bytes) -> bool {
        let Some((request, _)) = self.theirs.call_mut(id.number()) else {
            return false;
        };
        let flow = request.flow.get_or_insert_default();
        let mut metadata = flow.metadata.clone();
        metadata.append(key, value);
        let fits = metadata.fits();
        if fits {
            flow.metadata = metadata;
        }
        fits
    }
}

/// What [`Connection::take_requests`] has taken.
#[derive(Debug)]
pub(crate) struct TakenRequests {
    /// The first request.
    pub(crate) first: Arrived,
    /// True if its handler asks by [`Connection::started`] before it starts.
    pub(crate) asks: bool,
    /// False if no further request waits.
    pub(crate) has_more: bool,
}

/// The drain.
impl Connection {
    /// Wants no more calls: sends the two GOAWAYs of docs/reference/wire.md. `drain` is how long open calls may take.
    ///
    /// Of several drains the shortest counts.
    pub(crate) fn begin_drain(&mut self, reason: Reason, text: &str, drain: Duration, now: Time) {
        self.theirs.start_counting();
        if !self.end.is_live() {
            return self.ending(now).count_what_is_left();
        }
        match self.end.drain_mut() {
            Some(old) => old.shorten(now.saturating_add(drain)),
            None => self.start_drain(Drain::new(reason, text, drain, now), now),
        }
    }

    /// Begins a drain, and tells the peer.
    pub(super) fn start_drain(&mut self, drain: Drain, now: Time) {
        if !self.ending(now).start_drain(drain) {
            return;
        }
        let is_allowed = self.ping_allowed_at() <= now;
        let ping = is_allowed.then(|| self.put_ping(now));
        self.end.set_step(DrainStep::Announced {
            until: now + NOTICE,
            ping,
        });
        self.finish_if_idle(now);
    }

    /// Ends the drain's time: handlers that run become unwanted, the others are refused, and the connection closes as soon
    /// as its output is written.
    ///
    /// Calls of the control service may still be answered, for a short time.
    pub(crate) fn abort_calls(&mut self, now: Time) {
        if !self.end.is_live() {
            self.ending(now).count_what_is_left();
            let step = &mut step_of!(self, now);
            return self.theirs.abort_one_ways(step);
        }
        if !self.end.is_draining() {
            self.begin_drain(Reason::Drain, "", Duration::ZERO, now);
        }
        self.ending(now).finalise_drain();
        let Some(drain) = self.end.drain_mut() else { return };
        if !drain.note_abort(now) {
            return;
        }
        let step = &mut step_of!(self, now);
        self.theirs.abort_all(step);
        self.finish_if_idle(now);
    }

    /// Ready when this side has begun the connection's end: handlers that can end early are to do so.
    pub(crate) fn poll_draining(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_draining() {
            return Poll::Ready(());
        }
        self.wakes.wait(WaitingFor::Draining, cx);
        Poll::Pending
    }

    /// True if this side has begun the connection's end.
    pub(crate) fn is_draining(&self) -> bool {
        self.end.is_draining()
    }

    /// Ready when the drain's second GOAWAY is out and no request of the peer is open, control calls left out.
    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_final = self.end.drain().is_some_and(Drain::is_final);
        if self.end.is_live() && !(is_final && self.theirs.open_requests() == 0) {
            self.wakes.wait(WaitingFor::Drained, cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Ready when no request of the peer is open, control calls left out: those of a lost peer that still run, say.
    pub(crate) fn poll_no_request(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.theirs.open_requests() > 0 {
            self.wakes.wait(WaitingFor::Drained, cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// How many requests of the peer are open, control calls left out: queued and running, calls and one-ways.
    pub(crate) fn open_requests(&self) -> usize {
        self.theirs.open_requests()
    }

    /// How many handlers are started and not gone, control calls left out.
    pub(crate) fn running_handlers(&self) -> usize {
        self.theirs.running()
    }

    /// What became of the peer's requests here, for the report. Handlers that should have ended and run on count as if they
    /// had.
    pub(crate) fn tally(&self) -> Tally {
        self.theirs.tally()
    }

    /// Half-closes when this side has said that it takes no more and nothing is open. To be called after whatever may have
    /// ended something.
    #[inline]
    pub(super) fn finish_if_idle(&mut self, now: Time) {
        if self.end.is_draining() {
            self.finish_drain_if_idle(now);
        }
    }

    fn finish_drain_if_idle(&mut self, now: Time) {
        let is_final = self.end.drain().is_some_and(Drain::is_final);
        if !is_final || !self.end.is_live() {
            return;
        }
        if self.ending(now).may_finish() || self.is_accounted_for(now) {
            let ping = self.health.take_unanswered();
            self.ending(now).finish_drain(ping);
        }
    }

    /// True if nothing is open any more, and this side knows what became of its one-way requests, or the peer had time
    /// enough to answer: nothing comes back for those, so their sender asks by a last ping (G4). The peer need not ask for
    /// its own, because it is told at the end.
    fn is_accounted_for(&mut self, now: Time) -> bool {
        let is_quiet = self.is_quiet();
        let is_in_doubt = is_quiet && self.ours.is_in_doubt();
        if is_in_doubt {
            self.put_pings(now);
        }
        let dead_after = self.settings.dead_after;
        let drain = self.end.drain_mut();
        let awaits_answer = drain.is_some_and(|drain| drain.wait_for_answer(is_in_doubt, dead_after, now));
        is_quiet && !awaits_answer
    }

    /// True if nothing is open or unfinished, one-way requests left out that were sent whole.
    pub(super) fn is_quiet(&self) -> bool {
        self.theirs.is_idle() && self.outbox.remainders().is_empty() && self.ours.is_done_calling()
    }

    /// When the connection is too old, or was idle for too long.
    pub(super) fn age_due(&self) -> Option<Time> {
        match self.end.is_draining() {
            true => None,
            false => age::due(&self.settings, self.unused_since()),
        }
    }

    /// Drains this connection, and nothing but it, if it is too old or was idle for too long.
    pub(super) fn run_age(&mut self, now: Time) {
        // A handshake has a limit of its own.
        if self.end.is_draining() || !self.end.is_open() {
            return;
        }
        if let Some(drain) = age::retire(&self.settings, self.side, self.unused_since(), now) {
            self.start_drain(drain, now);
        }
    }

    /// Since when nothing is open, unfinished or unwritten, one-way requests left out that were sent whole; none if
    /// something is.
    fn unused_since(&self) -> Option<Time> {
        let is_unused =
            self.ours.is_empty() && self.theirs.is_empty() && !self.outbox.is_unwritten() && self.is_quiet();
        is_unused.then(|| self.health.last_used())
    }

    /// Does what is due in a drain.
    pub(super) fn run_drain(&mut self, now: Time) {
        let due = self.end.drain_mut().map(|drain| drain.take_due(now));
        match due {
            Some(DrainDue::Abort) => self.abort_calls(now),
            Some(DrainDue::Finalise) => self.ending(now).finalise_drain(),
            Some(DrainDue::Nothing) | None => {}
        }
    }
}

/// The end.
impl Connection {
    /// The connection's end, and the parts that it touches.
    pub(super) fn ending(&mut self, now: Time) -> Ending<'_> {
        Ending {
            end: &mut self.end,
            peer: &mut self.peer,
            ours: &mut self.ours,
            theirs: &mut self.theirs,
            streams: &mut self.streams,
            outbox: &mut self.outbox,
            wakes: &mut self.wakes,
            settings: &self.settings,
            now,
        }
    }

    /// Ends the connection: nothing is written or read any more.
    pub(super) fn close_now(&mut self, cause: Cause, now: Time) {
        if !self.end.is_closed() {
            self.ending(now).close(cause);
            self.set_check(now);
            self.note_held();
        }
    }
}

/// Numbers.
impl Connection {
    /// What is open, waits, and is kept right now.
    pub(crate) fn load(&self) -> Load {
        let (their_calls, their_sends, buffered) = self.theirs.load();
        let (our_calls, our_sends, waiting) = self.ours.load();
        let is_closed = self.end.is_closed();
        // What the OS does not have when the connection ends is gone.
        let unwritten = if is_closed { 0 } else { self.outbox.unwritten() };
        Load {
            connections: usize::from(!is_closed),
            handshakes: usize::from(self.end.is_handshaking()),
            calls: their_calls + our_calls,
            one_ways: their_sends + our_sends,
            handler_tasks: 0,
            waiting: waiting + self.outbox.waiters().len(),
            buffered_bytes: unwritten + self.held().bytes + buffered,
        }
    }
}
