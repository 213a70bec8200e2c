//! What callers do: calls, one-way requests, streams, flushes, barriers, and closing.
#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "`cx` has the shape that every poll function has"
)]

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use super::{
    Barrier, CallFailure, CallId, Cause, Connection, Flush, JoiningSend, News, Next, PeerGoaway, PeerHello,
    ReceivedReply, Request, Shape, State, Ticket, Time, Uncovered, Unsent,
    either_call::EitherCall,
    end::drain_state::{Drain, DrainStep},
    ours::{
        calls::PutCall,
        credit::{CreditClaim, RequestKind},
        request_header::{request_header, timeout_us},
    },
    outbox::{
        open_frame::{Added, OpenFrame},
        remainders::MessageKind,
    },
    step::step_of,
    streams::flow::Flow,
    tuning::{ALL_CLOSED, PACKABLE},
    types::{UNFINISHED, earliest},
    wakers::WaitingFor,
};
use crate::{
    Executed, Metadata, Phase, Priority,
    wire::frame::{Encoded, Flags, Header, Kind, Payload, Size, control::Progress},
};

/// The state of the connection.
impl Connection {
    /// Where the connection stands.
    pub(crate) fn state(&self) -> State {
        self.end.state(self.peer.goaway().is_some())
    }

    /// True if a new call can still start here (now or after a wait).
    pub(crate) fn takes_calls(&self) -> bool {
        self.find_hindrance(&Ticket::default()).is_none()
    }

    /// What the peer announced, once it has.
    pub(crate) fn peer_hello(&self) -> Option<&PeerHello> {
        self.peer.hello()
    }

    /// Takes the entries of the peer's HELLO out of the connection.
    pub(crate) fn take_peer_metadata(&mut self) -> Metadata {
        self.peer.take_metadata()
    }

    /// True if the peer takes messages in this compression.
    pub(crate) fn peer_takes(&self, encoding: u32) -> bool {
        self.peer.hello().is_some_and(|hello| hello.takes(encoding))
    }

    /// The peer's GOAWAY, once it is here.
    pub(crate) fn peer_goaway(&self) -> Option<&PeerGoaway> {
        self.peer.goaway()
    }

    /// Ready when the handshake has succeeded or failed.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        match (self.peer.hello(), self.end.cause()) {
            (Some(_), _) => Poll::Ready(Ok(())),
            (None, Some(cause)) => Poll::Ready(Err(cause.clone())),
            (None, None) => {
                self.wakes.wait(WaitingFor::Ready, cx);
                Poll::Pending
            }
        }
    }

    /// Ready when the connection is closed.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        match self.end.cause() {
            Some(cause) if self.end.is_closed() => Poll::Ready(cause.clone()),
            _ => {
                self.wakes.wait(WaitingFor::Closed, cx);
                Poll::Pending
            }
        }
    }

    /// Ready when the connection is closed, or when there are other than `known` doubts that its peer lives.
    pub(crate) fn poll_news(&mut self, known: u32, cx: &mut Context<'_>) -> Poll<News> {
        if self.end.is_closed() {
            return Poll::Ready(News::Closed);
        }
        match self.health.doubts() {
            doubts if doubts == known => {
                self.wakes.wait(WaitingFor::Closed, cx);
                Poll::Pending
            }
            0 => Poll::Ready(News::Heard),
            doubts => Poll::Ready(News::Doubts(doubts)),
        }
    }
}

/// Calls and one-way requests.
impl Connection {
    /// Opens a call as soon as its turn has come, and returns the id that its reply will carry.
    ///
    /// The request is put into the output whole, or, if it is longer than a frame, its first fragment. The task of `cx` is
    /// woken when the outcome is there.
    pub(crate) fn poll_call<P: Payload>(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        message: &P,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Result<CallId, CallFailure>> {
        let (kind, priority) = match request.control {
            true => (RequestKind::Control, Priority::Control),
            false => (RequestKind::Call, request.priority),
        };
        let size = message.size();
        let claim = match self.poll_admission(kind, ticket, request, size, now, cx) {
            Poll::Ready(Ok(claim)) => claim,
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Pending => return Poll::Pending,
        };
        let id = self.ours.next_id();
        let header = request_header(kind, id, request, now);
        let end = self.put_message(header, message, size, MessageKind::Call, priority);
        // Not before: if the message panics, nothing was sent.
        self.ours.charge(claim);
        self.note_request(now);
        if request.priority == Priority::Control {
            self.outbox.note_urgent(now);
        }
        let flow = self.flow_of_call(request, now);
        self.wakes.watch(flow.as_ref().and_then(|flow| flow.idle_at()));
        let put = PutCall { id, end, at: now };
        self.ours.open(put, request, claim, flow, cx);
        self.wakes.watch(request.deadline);
        Poll::Ready(Ok(CallId(id)))
    }

    /// Puts a one-way request into the output as soon as its turn has come: into the frame of the one before it, if that is the last
    /// of the output and takes it.
    pub(crate) fn poll_send<P: Payload>(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        message: &P,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CallFailure>> {
        let (kind, size) = (RequestKind::Send, message.size());
        let claim = match self.poll_admission(kind, ticket, request, size, now, cx) {
            Poll::Ready(Ok(claim)) => claim,
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Pending => return Poll::Pending,
        };
        let id = self.ours.next_id();
        let header = request_header(kind, id, request, now);
        let takes = |open: &OpenFrame| size.encoding == 0 && open.takes_send(&header);
        let joined = match self.outbox.open_frame().is_some_and(takes) {
            true => self.outbox.add_to_frame(message, size.len),
            false => None,
        };
        match joined {
            Some(Added { charged, end }) => self.ours.join(id, end, charged),
            None => {
                let start = self.outbox.end();
                let end = self.put_message(header, message, size, MessageKind::Send, request.priority);
                if end != UNFINISHED && size.encoding == 0 {
                    self.outbox.leave_open(&header, size.len, start);
                }
                self.ours.charge(claim);
                self.ours.send(id, end);
            }
        }
        self.note_request(now);
        Poll::Ready(Ok(()))
    }

    /// Puts a one-way request into the frame of the one before it, if that is the last of the output and takes it. False if the
    /// request has to go by [`Connection::poll_send`], because of this or of anything else.
    ///
    /// It needs no time: its frame waits for the driver, so it has all of its time left.
    #[inline]
    pub(crate) fn join_send<P: Payload>(&mut self, send: &JoiningSend, message: &P) -> bool {
        let Some(open) = self.outbox.open_frame().filter(|_| self.is_unhindered()) else {
            return false;
        };
        let size = message.size();
        let mut header = Header::new(Kind::Send, self.ours.following_id());
        header.flags = Flags::END;
        header.procedure = send.procedure;
        header.timeout_us = timeout_us(send.timeout);
        let may_join = size.encoding == 0
            && open.takes_send(&header)
            && self.ours.send_goes_at_once(size.len, send.priority, &self.outbox);
        if !may_join {
            return false;
        }
        let Some(Added { charged, end }) = self.outbox.add_to_frame(message, size.len) else {
            return false;
        };
        let id = self.ours.next_id();
        self.ours.join(id, end, charged);
        self.health.request_sent();
        true
    }

    /// Ready when a request of any kind may go into the output.
    #[inline(always)]
    fn poll_admission(
        &mut self,
        kind: RequestKind,
        ticket: &mut Ticket,
        request: &Request<'_>,
        size: Size,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Result<CreditClaim, CallFailure>> {
        let hindrance = match self.is_unhindered() {
            true => None,
            false => self.find_hindrance(ticket),
        };
        if let Some(cause) = hindrance {
            return self.refuse(ticket, cause);
        }
        if let Some(cause) = self.ours.find_obstacle(kind, request, size.len as u64, now) {
            return self.refuse(ticket, cause);
        }
        let claim = self.ours.claim(kind, request, size.len, now);
        if !self.ours.goes_at_once(ticket, request, claim, &self.outbox) {
            match self.poll_turn(ticket, request, claim, now, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(cause)) => return self.refuse(ticket, cause),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(claim))
    }

    /// Notes that a request is in the output.
    #[inline(always)]
    fn note_request(&mut self, now: Time) {
        self.health.request_sent();
        self.health.note_use(now);
    }

    /// Lets a request go that others may go ahead of, or wait for its turn.
    #[inline(never)]
    fn poll_turn(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        claim: CreditClaim,
        now: Time,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Cause>> {
        let is_nested = request.depth > 0 && self.theirs.open_requests() > 0;
        let step = &mut step_of!(self, now);
        let turn = match is_nested {
            true => self.ours.admit_nested(ticket, request, claim, step, cx),
            false => self.ours.admit_in_turn(ticket, request, claim, step, cx),
        };
        if turn.is_pending() {
            // Its caller keeps the message until then.
            self.note_held();
        }
        turn
    }

    /// Fails a request that never went.
    #[cold]
    fn refuse<T>(&mut self, ticket: &mut Ticket, cause: Cause) -> Poll<Result<T, CallFailure>> {
        self.drop_ticket(ticket);
        Poll::Ready(Err(CallFailure {
            cause,
            phase: Phase::Queue,
            executed: Executed::No,
            times: None,
        }))
    }

    /// True if neither side has said anything about an end.
    #[inline]
    fn is_unhindered(&self) -> bool {
        let is_ending = self.peer.goaway().is_some() || self.end.is_draining();
        self.end.is_live() && !is_ending && !self.ours.is_exhausted()
    }

    /// Why no request can start here, if the end of one of the sides is the reason; one that waits already may still go when
    /// only this side wants no more.
    #[cold]
    fn find_hindrance(&self, ticket: &Ticket) -> Option<Cause> {
        let is_new = ticket.0.is_none();
        if is_new && (self.end.is_closing_own() || self.ours.is_exhausted()) {
            return self.end.cause().cloned().or(Some(Cause::Closed));
        }
        match self.end.cause() {
            Some(cause) => Some(cause.clone()),
            None => self.peer.goaway_cause(),
        }
    }

    /// Gives a place in the queue up; nothing to do for a ticket that never waited.
    pub(crate) fn drop_ticket(&mut self, ticket: &mut Ticket) {
        self.ours.drop_ticket(ticket, &mut self.outbox);
        self.note_held_if_reported();
    }

    /// Takes the outcome of a call; afterwards the id is forgotten. `handle_timeout` watches the deadline.
    #[inline(always)]
    pub(crate) fn poll_reply(
        &mut self,
        id: CallId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ReceivedReply, CallFailure>> {
        let outcome = self.ours.poll(id.number(), cx);
        if outcome.is_ready() {
            self.note_held_if_reported();
        }
        outcome
    }

    /// Gives a call up: CANCEL goes out, a late reply is discarded.
    pub(crate) fn drop_call(&mut self, id: CallId, now: Time) {
        let id = id.number();
        let was_waiting = self.ours.abandon(id, self.wakes.woken());
        self.note_held_if_reported();
        if was_waiting {
            self.end_call_here(id, now);
        }
    }

    /// Fails a call of ours for a reason on this side: it has its outcome at once, and the peer is told.
    pub(crate) fn fail_call(&mut self, id: CallId, cause: Cause, now: Time) {
        let id = id.number();
        if self.ours.is_waiting(id) {
            let taken = self.outbox.taken();
            self.ours.fail_here(id, cause, taken, self.wakes.woken());
            self.end_call_here(id, now);
        }
    }

    fn end_call_here(&mut self, id: u64, now: Time) {
        self.withdraw(id);
        self.let_in_if_room();
        self.health.note_use(now);
        self.finish_if_idle(now);
    }

    /// Tells the peer that a call that was sent is no longer wanted.
    pub(super) fn withdraw(&mut self, id: u64) {
        self.outbox.drop_fragments(id);
        if self.end.is_live() && self.ours.is_open(id) {
            let is_handshaking = self.end.is_handshaking();
            self.ours.put_cancel(id, is_handshaking, &mut self.outbox);
        }
    }

    /// Encodes a message, or its beginning; returns where it ends.
    #[inline]
    pub(super) fn put_message<P: Payload>(
        &mut self,
        header: Header<'_>,
        message: &P,
        size: Size,
        kind: MessageKind,
        priority: Priority,
    ) -> u64 {
        let last_used = self.health.last_used();
        let end = self
            .outbox
            .put_message(header, message, size, kind, priority, last_used);
        self.ours.note_put(end, &self.outbox);
        end
    }

    /// The streams of a call that is about to be opened.
    #[inline]
    fn flow_of_call(&self, request: &Request<'_>, now: Time) -> Option<Box<Flow>> {
        if request.shape == Shape::Unary {
            return None;
        }
        let granted = self.peer.stream_window();
        let flow = Flow::of_call(request, granted, &self.settings, now);
        Some(Box::new(flow))
    }
}

/// Streams: the same methods serve callers and handlers, because an id's parity tells whose call it is.
impl Connection {
    /// The call with this id, of either side.
    #[inline]
    pub(super) fn call(&mut self, id: u64) -> EitherCall<'_> {
        EitherCall::new(self.side, id, &mut self.ours, &mut self.theirs)
    }

    /// The next message of a stream of the peer; short ones that come behind it go into `ahead`, if the reader has one and all
    /// that it was given before is read.
    ///
    /// One task may wait for it. Taking a message gives its credit back; of what is `ahead`, the next time.
    pub(crate) fn poll_message(
        &mut self,
        id: CallId,
        ahead: Option<&mut VecDeque<Encoded>>,
        now: Time,
        cx: &Context<'_>,
    ) -> Poll<Next> {
        let id = id.number();
        let call = EitherCall::new(self.side, id, &mut self.ours, &mut self.theirs);
        let stream = match call.read_stream() {
            Ok(stream) => stream,
            Err(next) => return Poll::Ready(next),
        };
        let read = stream.flow.poll_next(stream.held, ahead, now, cx);
        if read.has_moved {
            let idle_at = stream.flow.idle_at().filter(|_| stream.is_waiting);
            if read.is_owed {
                self.streams.owe(id);
            }
            self.wakes.watch(idle_at);
            self.note_held_if_reported();
        }
        read.next
    }

    /// Adds a message of a stream of ours to the last frame of the output, if that is of the same stream and takes it. False if
    /// the message has to go by [`Self::poll_data`].
    ///
    /// It asks only what may change from one message of a frame to the next. The rest was asked when the frame began: the
    /// driver knows of it, there was room for it, and its time is that of the frame.
    #[inline]
    pub(crate) fn add_data<P: Payload>(&mut self, id: CallId, message: &P) -> bool {
        debug_assert!(!self.outbox.is_leased(), "the lease has ended");
        let id = id.number();
        if !self.outbox.is_open_for(id) || !self.end.is_live() {
            return false;
        }
        let size = message.size();
        let max = self.ours.credit().max_message().unwrap_or(u64::MAX);
        if size.encoding != 0 || size.len as u64 > max {
            return false;
        }
        let call = EitherCall::new(self.side, id, &mut self.ours, &mut self.theirs);
        let Some(outflow) = call.begun_stream().filter(|outflow| outflow.may_send()) else {
            return false;
        };
        let last_used = self.health.last_used();
        let Some(added) = self.outbox.add_data(message, size.len, last_used) else {
            return false;
        };
        outflow.charge(added.charged);
        true
    }

    /// As [`Self::add_data`], without its questions if the frame is leased to the stream. If it adds the message after asking them,
    /// it leases the frame.
    ///
    /// The lease holds while nobody else visits the connection: [`Self::end_lease`] is to come before each other visit.
    #[inline]
    pub(crate) fn add_on_lease<P: Payload>(&mut self, id: CallId, message: &P) -> bool {
        self.outbox.add_on_lease(id.number(), message) || self.add_and_lease(id, message)
    }

    #[inline(never)]
    fn add_and_lease<P: Payload>(&mut self, id: CallId, message: &P) -> bool {
        self.end_lease();
        let is_added = self.add_data(id, message);
        let takes_all = self
            .ours
            .credit()
            .max_message()
            .is_none_or(|max| max >= PACKABLE as u64);
        if is_added && takes_all {
            let outflow = self.call(id.number()).begun_stream();
            let credit = outflow.map_or(0, |outflow| outflow.left());
            self.outbox.lease(credit);
        }
        is_added
    }

    /// Ends the lease of the frame at the end of the output: who visits the connection now may change what the lease relies on.
    #[inline]
    pub(crate) fn end_lease(&mut self) {
        if self.outbox.is_leased() {
            self.settle_lease();
        }
    }

    #[inline(never)]
    fn settle_lease(&mut self) {
        let Some((id, charged)) = self.outbox.end_lease() else {
            return;
        };
        if let Some(outflow) = self.call(id).begun_stream() {
            outflow.charge(charged);
        }
    }

    /// Puts a message of a stream of ours into the output, as soon as the peer takes it and there is room.
    ///
    /// One task may wait for it. A short message joins the frame at the end of the output if that is of the same stream.
    pub(crate) fn poll_data<P: Payload>(
        &mut self,
        id: CallId,
        message: &P,
        now: Time,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        debug_assert!(!self.outbox.is_leased(), "the lease has ended");
        let (id, size) = (id.number(), message.size());
        let (is_live, granted) = (self.end.is_live(), self.peer.stream_window());
        let max = self.ours.credit().max_message().unwrap_or(u64::MAX);
        // The entry is looked up once: what follows works on it, beside the output.
        let mut call = EitherCall::new(self.side, id, &mut self.ours, &mut self.theirs);
        let Some((priority, flow)) = call.send_stream(granted).filter(|_| is_live) else {
            self.outbox.leave(id);
            return Poll::Ready(Err(call.end_sender()));
        };
        let len = size.len as u64;
        if len > max {
            return Poll::Ready(Err(Unsent::TooLong { len, max }));
        }
        match flow.poll_send(id, priority, len, &mut self.outbox, cx) {
            Poll::Ready(Ok(())) => {}
            waits_or_fails => return waits_or_fails,
        }
        let last_used = self.health.last_used();
        let (charged, end) = self.outbox.put_data(id, message, size, priority, last_used);
        flow.note_sent(charged, now);
        self.ours.note_put(end, &self.outbox);
        self.health.request_sent();
        self.health.note_use(now);
        Poll::Ready(Ok(()))
    }

    /// Ready when nothing more of a stream of ours can be sent. A task that waits for this does not wait for
    /// [`Self::poll_data`].
    pub(crate) fn poll_unsendable(&mut self, id: CallId, cx: &Context<'_>) -> Poll<Unsent> {
        let (is_live, granted) = (self.end.is_live(), self.peer.stream_window());
        self.call(id.number()).poll_unsendable(is_live, granted, cx)
    }

    /// Ends a stream of ours: END follows its last message.
    pub(crate) fn finish_data(&mut self, id: CallId, now: Time) {
        let id = id.number();
        let (is_live, granted) = (self.end.is_live(), self.peer.stream_window());
        let is_unfinished = self.outbox.remainders().has(id);
        if is_live && self.call(id).finish(granted, is_unfinished) {
            self.put_end(id);
            self.health.note_use(now);
        }
    }

    /// Notes that the last fragment of a message of a stream is in the output: what waited for that goes on.
    pub(super) fn data_finished(&mut self, id: u64) {
        let call = EitherCall::new(self.side, id, &mut self.ours, &mut self.theirs);
        let flow = call.flow();
        if flow.is_some_and(|(flow, _)| flow.message_finished(self.wakes.woken())) {
            self.put_end(id);
        }
    }

    fn put_end(&mut self, id: u64) {
        self.outbox.put_end(id);
        self.health.request_sent();
    }
}

/// Flushes and barriers.
impl Connection {
    /// Marks all one-ways and calls started so far; the flush is done when the OS has them.
    pub(crate) fn start_flush(&mut self) -> Flush {
        // What is added later would move the end of what the flush waits for.
        self.outbox.close_frame();
        self.ours.start_flush(&self.outbox)
    }

    /// Ready when the OS has what a flush was started for; fails if it never will.
    pub(crate) fn poll_flush(&mut self, flush: &Flush, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        let is_lost = self.ours.is_flush_lost(flush);
        if !is_lost && self.ours.is_flushed(flush, &self.outbox) {
            return Poll::Ready(Ok(()));
        }
        match self.end.cause() {
            Some(cause) if is_lost || self.end.is_closed() => Poll::Ready(Err(cause.clone())),
            _ => {
                self.wakes.wait(WaitingFor::Flush, cx);
                Poll::Pending
            }
        }
    }

    /// Starts a PING behind everything sent so far; it brings the peer's account.
    ///
    /// The peer takes a PING only every so often, unless a request went since the last one. See
    /// [`Connection::barrier_needs_call`].
    pub(crate) fn start_barrier(&mut self, now: Time) -> Barrier {
        let number = self.ours.start_barrier(self.settings.max_waiting);
        self.put_pings(now);
        Barrier(number)
    }

    /// True if a barrier that is started now would have to wait for the peer's floor.
    ///
    /// A call that does nothing (the control service has one) resets the floor: a caller that makes it first, and starts
    /// the barrier when it is in the output, does not wait.
    pub(crate) fn barrier_needs_call(&self, now: Time) -> bool {
        self.ping_allowed_at() > now
    }

    /// Ready with the account that the peer gives behind everything sent before the barrier.
    pub(crate) fn poll_barrier(
        &mut self,
        barrier: &Barrier,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Progress, Cause>> {
        let cut = || self.peer.goaway_cause();
        let max = self.settings.max_waiting;
        self.ours.poll_barrier(barrier.0, max, self.end.cause(), cut, cx)
    }

    /// Forgets a barrier that no task waits for any more.
    pub(crate) fn drop_barrier(&mut self, barrier: &Barrier) {
        self.ours.drop_barrier(barrier.0);
    }

    /// One-way requests of ours that no PONG has covered yet; after the connection's end, what became of them.
    ///
    /// Not only barriers cover them: the PONG of a keep-alive says the same.
    pub(crate) fn uncovered(&self) -> Uncovered {
        self.ours.uncovered()
    }

    /// What the peer has said last of what became of our one-way requests; none as long as it had received none.
    pub(crate) fn last_account(&self) -> Option<&Progress> {
        self.ours.last_account()
    }

    /// One-way requests of ours that the peer has read, and that had not ended when it told of them last.
    pub(crate) fn pending_sends(&self) -> u64 {
        self.ours.pending_sends()
    }

    /// Notes that the peer has replied to call `id`, which asked when the one-way requests before it have ended.
    pub(crate) fn sends_settled(&mut self, id: CallId, progress: &Progress) {
        self.ours.sends_settled(id.number(), progress);
    }

    /// True if a ping is to go out behind our last one-way requests, because one of the sides goes.
    pub(super) fn wants_last_ping(&self) -> bool {
        let has_goaway = self.peer.goaway().is_some();
        if !self.end.is_draining() && !has_goaway {
            return false;
        }
        let is_last = has_goaway || self.end.is_closing_own() || self.is_quiet();
        is_last && self.ours.wants_last_ping(&self.outbox)
    }
}

/// Deadlines, of both sides' calls.
impl Connection {
    /// Ends everything whose deadline has passed.
    pub(super) fn check_deadlines(&mut self, now: Time) {
        self.ours.queues_mut().expire(now, self.wakes.woken());
        self.outbox.expire(now, self.wakes.woken());
        for id in self.ours.expired(now) {
            let taken = self.outbox.taken();
            let is_missed = self.ours.expire(id, taken, now, self.wakes.woken());
            self.withdraw(id);
            if is_missed {
                self.doubt(id, now);
            }
        }
        let step = &mut step_of!(self, now);
        self.theirs.expire(step);
        self.set_check(now);
    }

    /// Finds out when the next deadline is.
    pub(super) fn set_check(&mut self, now: Time) {
        let next = earliest([
            self.ours.deadline(),
            self.theirs.deadline(),
            self.outbox.waiters().deadline(),
        ]);
        // One that has passed already is not left here: it would fire again and again.
        debug_assert!(!self.end.is_live() || next.is_none_or(|next| next > now));
        self.wakes.set_check_at(next);
    }

    /// Asks whether the peer lives, because call `id` has missed its deadline and nothing was read since it began.
    fn doubt(&mut self, id: u64, now: Time) {
        if !self.end.is_open() || !self.health.missed(id) {
            return;
        }
        self.wakes.wake(WaitingFor::Closed);
        let may_ask = self.ping_allowed_at() <= now;
        if may_ask && !self.health.is_ping_waiting() {
            self.put_ping(now);
        }
    }
}

/// Closing.
impl Connection {
    /// Takes no more calls, lets those of both sides finish, then half-closes, lingers and closes.
    pub(crate) fn close(&mut self, now: Time) {
        if !self.end.is_live() {
            return;
        }
        self.ending(now).start_close();
        self.put_pings(now);
        self.finish_if_idle(now);
    }

    /// Closes, unless the peer drains and may call us: then its handlers may go on doing so until its time is over, and the
    /// peer has to close.
    pub(crate) fn leave(&mut self, now: Time) {
        let Some(until) = self.lent_until().filter(|until| *until > now) else {
            return self.close(now);
        };
        let step = DrainStep::Announced { until, ping: None };
        self.ending(now).set_drain(Drain {
            step,
            ..Drain::of_close(0)
        });
        self.put_pings(now);
    }

    /// Until when a peer that drains may call us on a connection that this side has no use for.
    pub(crate) fn lent_until(&self) -> Option<Time> {
        let is_ours = !self.end.is_draining() && self.settings.serves && self.end.is_open();
        let goaway = self.peer.goaway().filter(|_| is_ours)?;
        Some(goaway.at.saturating_add(goaway.drain).saturating_add(ALL_CLOSED))
    }
}
