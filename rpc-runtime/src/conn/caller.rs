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
    Barrier, CallFailure, CallId, Cause, Connection, Flush, News, Next, PeerGoaway, PeerHello, ReceivedReply,
    Request, Shape, State, Ticket, Time, Uncovered, Unsent, Unwanted,
    end::drain::{Drain, DrainStep},
    ours::{
        admission::{self, Capacity},
        credit::{CreditClaim, RequestKind},
        next_call::QueueClass,
    },
    outbox::{remainders::MessageKind, room_waiters::RoomWaiters},
    streams::{flow::Flow, inbox::InboxUse, outflow::Outflow},
    theirs::{TheirRequest, dropped_status},
    tuning::{ALL_CLOSED, CONTROL_BYTES},
    types::UNFINISHED,
    wakers::WaitingFor,
};
use crate::{
    Code, Executed, Metadata, Phase, Priority, Status,
    wire::frame::{
        Encoded, Flags, Header, Kind, Payload, Size,
        control::{Progress, Reason},
    },
};

/// The state of the connection.
impl Connection {
    /// Where the connection stands.
    pub(crate) fn state(&self) -> State {
        self.end.state(self.peer.goaway().is_some())
    }

    /// True if a new call can still start here (now or after a wait).
    pub(crate) fn takes_calls(&self) -> bool {
        self.refusal().is_none()
    }

    /// What the peer announced, once it has.
    pub(crate) fn peer_hello(&self) -> Option<&PeerHello> {
        self.peer.hello()
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
        let kind = match request.control {
            true => RequestKind::Control,
            false => RequestKind::Call,
        };
        let started = match self.poll_start(kind, ticket, request, message, now, cx) {
            Poll::Ready(Ok(started)) => started,
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Pending => return Poll::Pending,
        };
        if request.priority == Priority::Control {
            self.outbox.note_urgent(now);
        }
        let flow = self.flow_of_call(request, now);
        self.wakes.watch(flow.as_ref().and_then(|flow| flow.idle_at()));
        let StartedRequest { id, end, claim } = started;
        self.ours.open(id, end, request.deadline, claim, flow, cx);
        self.wakes.watch(request.deadline);
        Poll::Ready(Ok(CallId(id)))
    }

    /// Puts a one-way request into the output as soon as its turn has come.
    pub(crate) fn poll_send<P: Payload>(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        message: &P,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CallFailure>> {
        match self.poll_start(RequestKind::Send, ticket, request, message, now, cx) {
            Poll::Ready(Ok(started)) => {
                self.ours.send(started.id, started.end);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(failure)) => Poll::Ready(Err(failure)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Puts a request of any kind into the output as soon as its turn has come.
    #[inline(always)]
    fn poll_start<P: Payload>(
        &mut self,
        kind: RequestKind,
        ticket: &mut Ticket,
        request: &Request<'_>,
        message: &P,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StartedRequest, CallFailure>> {
        let size = message.size();
        let claim = match self.poll_admit(kind, ticket, request, size.len, now, cx) {
            Poll::Ready(Ok(claim)) => claim,
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Pending => return Poll::Pending,
        };
        let id = self.ours.next_id();
        let (frame, message_kind) = match kind {
            RequestKind::Send => (Kind::Send, MessageKind::Send),
            RequestKind::Call | RequestKind::Control => (Kind::Call, MessageKind::Call),
        };
        let mut header = header(frame, id, request, now);
        if claim.streams {
            header.flags = Flags::NONE;
        }
        let priority = match kind {
            RequestKind::Control => Priority::Control,
            RequestKind::Call | RequestKind::Send => request.priority,
        };
        let end = self.put_message(header, message, size, message_kind, priority);
        // Not before: if the message panics, nothing was sent.
        self.ours.charge(claim);
        self.health.request_sent();
        self.health.note_use(now);
        Poll::Ready(Ok(StartedRequest { id, end, claim }))
    }

    /// Gives a place in the queue up; nothing to do for a ticket that never waited.
    pub(crate) fn drop_ticket(&mut self, ticket: &mut Ticket) {
        match ticket.0.take() {
            Some(number) if number >= RoomWaiters::FIRST_KEY => self.outbox.leave(number),
            Some(number) => self.ours.queues_mut().remove(number),
            None => {}
        }
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
        if end == UNFINISHED && self.outbox.remainders().is_turn_of_lowest() {
            self.ours.queues_mut().note_more();
        }
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

/// A request whose message, or the beginning of it, is in the output.
struct StartedRequest {
    id: u64,
    /// Where it ends.
    end: u64,
    claim: CreditClaim,
}

/// Admission.
impl Connection {
    /// Lets a request go, or wait for its turn; one that goes is to be charged.
    #[inline(always)]
    fn poll_admit(
        &mut self,
        kind: RequestKind,
        ticket: &mut Ticket,
        request: &Request<'_>,
        len: usize,
        now: Time,
        cx: &Context<'_>,
    ) -> Poll<Result<CreditClaim, CallFailure>> {
        if let Some(cause) = self.find_obstacle(kind, ticket, request, len as u64, now) {
            return self.refuse(ticket, cause);
        }
        let claim = CreditClaim {
            kind,
            len: len as u64,
            frame_len: match self.ours.credit().is_floor() {
                // The id and the flags are not known, or do not matter: they are short.
                true => header(Kind::Call, u64::MAX, request, now).frame_len(len) as u64,
                false => 0,
            },
            streams: request.shape.has_request_stream(),
        };
        // Most requests find no other that waits, and are not made by a handler.
        let is_alone = ticket.0.is_none() && request.depth == 0 && self.ours.queues().are_empty();
        if is_alone {
            let outbox = &self.outbox;
            let has_room = |priority, len| outbox.has_room(priority, len);
            if admission::may_go(claim, request.priority, self.ours.credit(), has_room) {
                return Poll::Ready(Ok(claim));
            }
        }
        self.admit_in_turn(ticket, request, claim, cx)
    }

    /// As [`Connection::poll_admit`], for a request that others may go ahead of.
    #[inline(never)]
    fn admit_in_turn(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        claim: CreditClaim,
        cx: &Context<'_>,
    ) -> Poll<Result<CreditClaim, CallFailure>> {
        if request.depth > 0 && self.theirs.open_requests() > 0 {
            return self.admit_nested(ticket, request, claim, cx);
        }
        if ticket.0.is_some_and(|number| number >= RoomWaiters::FIRST_KEY) {
            // It was nested until the last request of the peer ended.
            self.drop_ticket(ticket);
        }
        let class = QueueClass::new(claim.kind, request.priority);
        let admission = Capacity::new(self.ours.credit(), &self.outbox);
        let queues = self.ours.queues_mut();
        if queues.may_pass(class, ticket.0, claim, &admission) {
            queues.pass(class, ticket.0.take(), &admission);
            return Poll::Ready(Ok(claim));
        }
        self.wait_in_turn(ticket, class, claim, request.deadline, cx)
    }

    /// Lets a request go that a handler makes while requests of the peer are open here.
    ///
    /// Nested calls are not queued, to avoid deadlock: credit and slots may come back only when the handlers around them
    /// end. Room comes back by itself.
    fn admit_nested(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        claim: CreditClaim,
        cx: &Context<'_>,
    ) -> Poll<Result<CreditClaim, CallFailure>> {
        if !self.ours.credit().admits(claim) {
            return self.refuse(ticket, Cause::Nested);
        }
        let admission = Capacity::new(self.ours.credit(), &self.outbox);
        if admission.admits(claim, request.priority) {
            self.drop_ticket(ticket);
            return Poll::Ready(Ok(claim));
        }
        if ticket.0.is_none_or(|number| number < RoomWaiters::FIRST_KEY) {
            self.drop_ticket(ticket);
            ticket.0 = Some(self.outbox.new_key());
        }
        if let Some(key) = ticket.0 {
            let (priority, deadline) = (request.priority, request.deadline);
            self.outbox.wait(key, priority, claim.len, deadline, cx);
        }
        self.wakes.watch(request.deadline);
        Poll::Pending
    }

    fn wait_in_turn(
        &mut self,
        ticket: &mut Ticket,
        class: QueueClass,
        claim: CreditClaim,
        deadline: Option<Time>,
        cx: &Context<'_>,
    ) -> Poll<Result<CreditClaim, CallFailure>> {
        if let QueueClass::Of(priority) = class {
            self.outbox.note_refused(priority);
        }
        let queues = self.ours.queues_mut();
        if ticket.0.is_some_and(|number| queues.renew(number, cx)) {
            return Poll::Pending;
        }
        let max = self.settings.max_waiting;
        let Some(number) = queues.push(class, claim, max, deadline, cx) else {
            ticket.0 = None;
            return self.refuse(ticket, Cause::QueueFull { max });
        };
        ticket.0 = Some(number);
        self.wakes.watch(deadline);
        Poll::Pending
    }

    /// Fails a request that never went.
    #[cold]
    fn refuse<T>(&mut self, ticket: &mut Ticket, cause: Cause) -> Poll<Result<T, CallFailure>> {
        self.drop_ticket(ticket);
        Poll::Ready(Err(CallFailure {
            cause,
            phase: Phase::Queue,
            executed: Executed::No,
        }))
    }

    /// Why a request will never go.
    #[inline(always)]
    fn find_obstacle(
        &self,
        kind: RequestKind,
        ticket: &Ticket,
        request: &Request<'_>,
        len: u64,
        now: Time,
    ) -> Option<Cause> {
        if !self.is_unhindered() {
            let refusal = match ticket.0 {
                None => self.refusal(),
                Some(_) => self.late_refusal(),
            };
            if refusal.is_some() {
                return refusal;
            }
        }
        if request.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Cause::Deadline);
        }
        if request.metadata.is_some_and(|metadata| !metadata.fits()) {
            return Some(Cause::Metadata);
        }
        let max = match (kind, self.ours.credit().max_message()) {
            (RequestKind::Control, Some(max)) => max.min(CONTROL_BYTES),
            (RequestKind::Control, None) => CONTROL_BYTES,
            (_, max) => max?,
        };
        (len > max).then_some(Cause::TooLong { len, max })
    }

    /// True if neither side has said anything about an end.
    #[inline]
    fn is_unhindered(&self) -> bool {
        let is_ending = self.peer.goaway().is_some() || self.end.is_draining();
        self.end.is_live() && !is_ending && !self.ours.is_exhausted()
    }

    /// Why no new call can start here.
    #[cold]
    fn refusal(&self) -> Option<Cause> {
        if self.end.is_closing_own() || self.ours.is_exhausted() {
            return self.end.cause().cloned().or(Some(Cause::Closed));
        }
        self.late_refusal()
    }

    /// Why not even a call can start that waits already.
    #[cold]
    fn late_refusal(&self) -> Option<Cause> {
        match self.end.cause() {
            Some(cause) => Some(cause.clone()),
            None => self.peer.goaway_cause(),
        }
    }
}

/// Streams: the same methods serve callers and handlers, because an id's parity tells whose call it is.
impl Connection {
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
        let found = if self.side.gives(id) {
            self.ours.read_flow(id)
        } else {
            let Some((request, held)) = self.theirs.call_mut(id) else {
                let text = "the call is over: its handler has ended";
                return Poll::Ready(Next::Broken(Status::new(Code::Cancelled, text)));
            };
            if let Some(status) = broken_status(request) {
                return Poll::Ready(Next::Broken(status));
            }
            request.flow.as_deref_mut().map(|flow| (flow, held, false))
        };
        let Some((flow, held, is_waiting)) = found else {
            return Poll::Ready(Next::End);
        };
        let Some(inflow) = &mut flow.inflow else {
            return Poll::Ready(Next::End);
        };
        let mut read = inflow.settle();
        let message = inflow.take();
        if let Some(message) = &message {
            read.bytes += message.len();
            read.messages += 1;
            if let Some(ahead) = ahead {
                inflow.take_ahead(ahead);
            }
        }
        let next = match message {
            Some(message) => Poll::Ready(Next::Message(message)),
            None if inflow.is_ended() => Poll::Ready(Next::End),
            None => {
                inflow.wait(cx);
                Poll::Pending
            }
        };
        if read.messages > 0 {
            held.remove(read);
            let is_owed = inflow.list();
            flow.note_move(now);
            let idle_at = flow.idle_at().filter(|_| is_waiting);
            if is_owed {
                self.streams.owe(id);
            }
            self.wakes.watch(idle_at);
            self.note_held_if_reported();
        }
        next
    }

    /// Puts a message of a stream of ours into the output, as soon as the peer takes it and there is room.
    ///
    /// One task may wait for it.
    pub(crate) fn poll_data<P: Payload>(
        &mut self,
        id: CallId,
        message: &P,
        now: Time,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        let id = id.number();
        let size = message.size();
        let len = size.len as u64;
        let is_live = self.end.is_live();
        let max = self.ours.credit().max_message().unwrap_or(u64::MAX);
        let granted = self.peer.stream_window();
        // The entry is looked up once: what follows works on it, beside the output.
        let found = if self.side.gives(id) {
            let flow = self.ours.waiting_flow_mut(id);
            flow.map(|(flow, _)| (flow.priority, flow))
        } else {
            sendable_flow(self.theirs.get_mut(id))
        };
        let Some((priority, flow)) = found.filter(|_| is_live) else {
            self.outbox.leave(id);
            return Poll::Ready(Err(self.find_end(id)));
        };
        if len > max {
            return Poll::Ready(Err(Unsent::TooLong { len, max }));
        }
        let is_theirs = !self.side.gives(id);
        if is_theirs && flow.outflow.is_none() {
            // A handler's stream begins with its first message.
            flow.outflow = Some(Outflow::new(granted));
        }
        let Some(outflow) = flow.outflow.as_mut().filter(|outflow| !outflow.is_ended()) else {
            return Poll::Ready(Err(Unsent::Over(None)));
        };
        if !outflow.may_send() || self.outbox.remainders().has(id) {
            outflow.wait(cx);
            return Poll::Pending;
        }
        if !self.outbox.has_room(priority, len) {
            // The end of the call is to wake it, too.
            outflow.wait(cx);
            self.outbox.wait(id, priority, len, None, cx);
            return Poll::Pending;
        }
        self.outbox.leave(id);
        let last_used = self.health.last_used();
        let header = Header::new(Kind::Data, id);
        let end = self
            .outbox
            .put_message(header, message, size, MessageKind::Data, priority, last_used);
        outflow.charge(len);
        flow.note_move(now);
        if end == UNFINISHED && self.outbox.remainders().is_turn_of_lowest() {
            self.ours.queues_mut().note_more();
        }
        self.health.request_sent();
        self.health.note_use(now);
        Poll::Ready(Ok(()))
    }

    /// Ready when nothing more of a stream of ours can be sent. A task that waits for this does not wait for
    /// [`Self::poll_data`].
    pub(crate) fn poll_unsendable(&mut self, id: CallId, cx: &Context<'_>) -> Poll<Unsent> {
        let id = id.number();
        if !self.is_sendable(id) {
            return Poll::Ready(self.find_end_quietly(id));
        }
        if let Some(outflow) = self.outflow_mut(id) {
            outflow.wait(cx);
        }
        Poll::Pending
    }

    /// Ends a stream of ours: END follows its last message.
    pub(crate) fn finish_data(&mut self, id: CallId, now: Time) {
        let id = id.number();
        if !self.is_sendable(id) {
            return;
        }
        let is_unfinished = self.outbox.remainders().has(id);
        let Some(outflow) = self.outflow_mut(id).filter(|outflow| !outflow.is_ended()) else {
            return;
        };
        if is_unfinished {
            return outflow.want_end();
        }
        outflow.put_end();
        self.put_end(id);
        self.health.note_use(now);
    }

    /// The last fragment of a message of a stream went into the output: what waited for that goes on.
    pub(super) fn data_finished(&mut self, id: u64) {
        let flow = match self.side.gives(id) {
            true => self.ours.flow_mut(id),
            false => self.theirs.flow_mut(id),
        };
        let Some(outflow) = flow.and_then(|(flow, _)| flow.outflow.as_mut()) else {
            return;
        };
        outflow.wake(self.wakes.woken());
        if outflow.wants_end() {
            outflow.put_end();
            self.put_end(id);
        }
    }

    fn put_end(&mut self, id: u64) {
        self.outbox.put_end(id);
        self.health.request_sent();
    }

    /// The streams of a call of either side, and what is held of all of that side.
    pub(super) fn flow_mut(&mut self, id: u64) -> Option<(&mut Flow, &mut InboxUse)> {
        match self.side.gives(id) {
            true => self.ours.flow_mut(id),
            false => self.theirs.flow_mut(id),
        }
    }

    /// What is sent of a stream of ours; a handler's begins with its first message.
    pub(super) fn outflow_mut(&mut self, id: u64) -> Option<&mut Outflow> {
        if self.side.gives(id) {
            return self.ours.flow_mut(id)?.0.outflow.as_mut();
        }
        let granted = self.peer.stream_window();
        let (request, _) = self.theirs.call_mut(id)?;
        let flow = request.flow.get_or_insert_default();
        Some(flow.outflow.get_or_insert_with(|| Outflow::new(granted)))
    }

    /// True if more of a stream of ours may go out.
    fn is_sendable(&mut self, id: u64) -> bool {
        let is_wanted = match self.side.gives(id) {
            true => self.ours.is_waiting(id),
            false => self.theirs.get(id).is_some_and(|request| request.may_stream()),
        };
        is_wanted && self.end.is_live()
    }

    /// Why nothing more of a stream of ours goes out; a handler learns that it is no longer wanted.
    #[cold]
    fn find_end(&mut self, id: u64) -> Unsent {
        if !self.side.gives(id) {
            self.tell_handler(id);
        }
        self.find_end_quietly(id)
    }

    fn find_end_quietly(&self, id: u64) -> Unsent {
        let failure = match self.side.gives(id) {
            true => self.ours.failure(id).cloned(),
            false => None,
        };
        Unsent::Over(failure)
    }

    /// A handler has learned by its streams that it is no longer wanted: if it fails, that is why.
    fn tell_handler(&mut self, id: u64) {
        let request = self.theirs.get_mut(id);
        if let Some(request) = request.filter(|request| request.unwanted.is_some()) {
            request.flow.get_or_insert_default().knows_unwanted = true;
        }
    }
}

/// Why the stream of a handler's call cannot be read on; the handler learns it.
fn broken_status(request: &mut TheirRequest) -> Option<Status> {
    if let Some(unwanted) = request.unwanted {
        request.flow.get_or_insert_default().knows_unwanted = true;
        return Some(match unwanted {
            Unwanted::Cancelled => Status::new(Code::Cancelled, GIVEN_UP),
            unwanted => dropped_status(Some(unwanted)),
        });
    }
    match request.flow.as_ref().filter(|flow| flow.inflow.is_some()) {
        Some(flow) => flow.broken.clone(),
        None => Some(Status::new(Code::Internal, "the call has no stream of requests")),
    }
}

/// The stream of a handler's call, if it may send more, with its priority.
#[inline]
fn sendable_flow(request: Option<&mut TheirRequest>) -> Option<(Priority, &mut Flow)> {
    let request = request.filter(|request| request.may_stream())?;
    let priority = request.priority;
    let flow = request.flow.get_or_insert_default();
    Some((priority, flow))
}

/// Flushes and barriers.
impl Connection {
    /// Marks all one-ways and calls started so far; the flush is done when the OS has them.
    pub(crate) fn start_flush(&mut self) -> Flush {
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
        self.health.ping_allowed_at(self.peer.ping_floor()) > now
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

/// Closing.
impl Connection {
    /// Takes no more calls, lets those of both sides finish, then half-closes, lingers and closes.
    pub(crate) fn close(&mut self, now: Time) {
        if !self.end.is_live() {
            return;
        }
        let last_id = self.theirs.last_id();
        match self.end.drain_mut() {
            Some(drain) => {
                drain.own = true;
                if drain.announced.is_none() {
                    // It was only left.
                    self.finalise_drain();
                }
            }
            None => {
                self.set_drain(Drain::of_close(last_id));
                // Before the peer's HELLO only requests may be sent: then this follows when it comes.
                if self.end.is_open() {
                    self.put_goaway(Reason::Drain, last_id, "");
                }
            }
        }
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
        self.set_drain(Drain {
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

/// What stands before the message of a request of ours.
#[inline(always)]
fn header<'a>(kind: Kind, id: u64, request: &Request<'a>, now: Time) -> Header<'a> {
    let mut header = Header::new(kind, id);
    header.flags = Flags::END;
    header.procedure = request.procedure;
    header.depth = request.depth.into();
    header.metadata = request.metadata.filter(|metadata| !Metadata::is_empty(metadata));
    // Rounded up: a call that has not expired has at least a microsecond.
    header.timeout_us = request.deadline.map_or(0, |deadline| {
        let left = deadline.saturating_sub(now);
        let micros = left.as_secs().saturating_mul(1_000_000);
        micros
            .saturating_add(left.subsec_nanos().div_ceil(1000).into())
            .max(1)
    });
    header
}

/// What a handler reads from a stream that its caller has given up.
const GIVEN_UP: &str = "the caller gave up before the end of its requests: it cancelled the call, or dropped its Sender without finish()";
