//! What callers do: calls, one-way requests, flushes and barriers.
#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "`cx` has the shape that every poll function has"
)]

use std::task::{Context, Poll};

use crate::conn::{
    Barrier, CallId, Cause, Connection, Failure, Flush, News, PeerGoaway, PeerHello, Reply, Request, Shape,
    State, Ticket, Time, Uncovered,
    assembly::Part,
    end::Life,
    handler::LONG_REPLIES,
    ours::calls::UNFINISHED,
    ours::credit::{CONTROL_BYTES, Lane, Wanted},
    ours::queues::Line,
    outbox::backlog::Passage,
    outbox::room::Room,
    streams::flow::Flow,
};
use crate::{
    Executed, Metadata, Phase, Priority,
    wire::frame::{Flags, Header, Kind, Payload, control::Progress},
};

/// What callers do.
impl Connection {
    /// Where the connection stands.
    pub(crate) fn state(&self) -> State {
        match &self.end.life {
            Life::Closed(cause) => State::Closed(cause.clone()),
            Life::Closing(_) => State::Closing,
            _ if self.end.drain.is_some() || self.peer.goaway.is_some() => State::Draining,
            Life::Handshaking => State::Handshaking,
            Life::Open => State::Open,
        }
    }

    /// Whether a new call can still start here (now or after a wait).
    pub(crate) fn takes_calls(&self) -> bool {
        self.refusal().is_none()
    }

    /// What the peer announced, once it has.
    pub(crate) fn peer_hello(&self) -> Option<&PeerHello> {
        self.peer.hello.as_ref()
    }

    /// Whether the peer takes messages that are compressed so.
    pub(crate) fn peer_takes(&self, encoding: u32) -> bool {
        self.peer
            .hello
            .as_ref()
            .is_some_and(|hello| hello.takes(encoding))
    }

    /// The peer's GOAWAY, once it is here.
    pub(crate) fn peer_goaway(&self) -> Option<&PeerGoaway> {
        self.peer.goaway.as_deref()
    }

    /// One-way requests of ours that no PONG has covered yet; after the connection's end, what became of them.
    ///
    /// Not only barriers cover them: the PONG of a keep-alive says the same.
    pub(crate) fn uncovered(&self) -> Uncovered {
        self.ours.sends.uncovered()
    }

    /// What the peer has said last of what became of our one-way requests; none as long as it had received none.
    pub(crate) fn last_account(&self) -> Option<&Progress> {
        self.ours.sends.account()
    }

    /// One-way requests of ours that the peer has read, and that had not ended when it told of them last.
    pub(crate) fn pending_sends(&self) -> u64 {
        self.ours.sends.pending()
    }

    /// The peer has replied to call `id`, which asked when the one-way requests before it have ended.
    pub(crate) fn sends_settled(&mut self, id: CallId, progress: &Progress) {
        self.ours.sends.settled(id.number(), progress);
    }

    /// Ready when the handshake has succeeded or failed.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        match (&self.peer.hello, self.end_cause()) {
            (Some(_), _) => Poll::Ready(Ok(())),
            (None, Some(cause)) => Poll::Ready(Err(cause.clone())),
            (None, None) => {
                self.wakes
                    .waiters
                    .others()
                    .ready
                    .register(cx, &mut self.wakes.woken);
                Poll::Pending
            }
        }
    }

    /// Ready when the connection is closed.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        if let Life::Closed(cause) = &self.end.life {
            return Poll::Ready(cause.clone());
        }
        self.wakes.waiters.closed.register(cx, &mut self.wakes.woken);
        Poll::Pending
    }

    /// Ready when the connection is closed, or when there are other than `known` doubts that its peer lives.
    pub(crate) fn poll_news(&mut self, known: u32, cx: &mut Context<'_>) -> Poll<News> {
        if matches!(self.end.life, Life::Closed(_)) {
            return Poll::Ready(News::Closed);
        }
        let doubts = self.health.keep_alive.doubts();
        if doubts != known {
            return Poll::Ready(match doubts {
                0 => News::Heard,
                doubts => News::Doubts(doubts),
            });
        }
        self.wakes.waiters.closed.register(cx, &mut self.wakes.woken);
        Poll::Pending
    }

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
    ) -> Poll<Result<CallId, Failure>> {
        let lane = if request.control {
            Lane::Control
        } else {
            Lane::Call
        };
        let size = message.size();
        let wanted = match self.admit(ticket, lane, request, size.len, now, cx) {
            Poll::Ready(Ok(wanted)) => wanted,
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Pending => return Poll::Pending,
        };
        let id = self.ours.calls.take_id();
        let mut header = header(Kind::Call, id, request, now);
        if request.shape.has_request_stream() {
            header.flags = Flags::NONE;
        }
        let priority = match lane {
            Lane::Control => Priority::Control,
            Lane::Call | Lane::Send => request.priority,
        };
        let end = self.put_message(header, message, size, Part::Call, priority);
        // Not before: if the message panics, nothing was sent.
        self.ours.credit.take(wanted);
        if request.priority == Priority::Control {
            self.outbox.pace.urgent(now);
        }
        let flow = self.flow_of_call(request, now);
        self.watch(flow.as_ref().and_then(|flow| flow.idle_at()));
        self.ours.calls.open(id, end, request.deadline, wanted, flow, cx);
        self.note_use(now);
        self.watch(request.deadline);
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
    ) -> Poll<Result<(), Failure>> {
        let size = message.size();
        let wanted = match self.admit(ticket, Lane::Send, request, size.len, now, cx) {
            Poll::Ready(Ok(wanted)) => wanted,
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Pending => return Poll::Pending,
        };
        let id = self.ours.calls.take_id();
        let header = header(Kind::Send, id, request, now);
        let end = self.put_message(header, message, size, Part::Send, request.priority);
        self.ours.credit.take(wanted);
        self.ours.sends.start(id);
        self.note_use(now);
        if end != UNFINISHED {
            self.ours.sends.finish(id, end);
        }
        Poll::Ready(Ok(()))
    }

    /// Gives a place in the queue up; nothing to do for a ticket that never waited.
    pub(crate) fn drop_ticket(&mut self, ticket: &mut Ticket) {
        match ticket.0.take() {
            Some(number) if number >= Room::FIRST_KEY => self.outbox.room.leave(number),
            Some(number) => self.ours.lines.remove(number),
            None => {}
        }
    }

    /// Takes the outcome of a call; afterwards the id is forgotten. The deadline is watched by `handle_timeout`.
    #[inline(always)]
    pub(crate) fn poll_reply(&mut self, id: CallId, cx: &mut Context<'_>) -> Poll<Result<Reply, Failure>> {
        let outcome = self.ours.calls.poll(id.number(), cx);
        if outcome.is_ready() && self.holdings.share.is_told() {
            self.note_held();
        }
        outcome
    }

    /// The caller's future was dropped: CANCEL goes out, a late reply is discarded.
    pub(crate) fn drop_call(&mut self, id: CallId, now: Time) {
        let id = id.number();
        let was_waiting = self.ours.calls.is_waiting(id);
        if let Some((flow, _)) = self.ours.calls.flow_mut(id) {
            // The other half of a stream that goes both ways learns that there is nothing left to do.
            flow.wake(&mut self.wakes.woken);
        }
        self.ours.calls.abandon(id);
        if self.holdings.share.is_told() {
            self.note_held();
        }
        if was_waiting {
            self.withdraw(id);
            self.note_use(now);
            self.finish_if_idle(now);
        }
    }

    /// All one-ways and calls started so far; ready when they are with the OS.
    pub(crate) fn start_flush(&mut self) -> Flush {
        Flush {
            offset: self.outbox.out.end(),
            last_id: self.ours.calls.last_id(),
        }
    }

    /// Whether what a flush was started for is with the OS; fails if it will never be.
    pub(crate) fn poll_flush(&mut self, flush: &Flush, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        let is_lost = self.ours.unflushed.is_some_and(|id| id <= flush.last_id);
        if !is_lost {
            let mut flushing = self.ours.flushing.iter();
            let is_done = self.outbox.taken >= flush.offset
                && !flushing.any(|&(id, _)| id <= flush.last_id)
                && !self.outbox.bulk.has_request(flush.last_id);
            if is_done {
                return Poll::Ready(Ok(()));
            }
        }
        match &self.end.life {
            Life::Closing(closing) if is_lost => Poll::Ready(Err(closing.cause.clone())),
            Life::Closed(cause) => Poll::Ready(Err(cause.clone())),
            _ => {
                self.wakes
                    .waiters
                    .others()
                    .flush
                    .register(cx, &mut self.wakes.woken);
                Poll::Pending
            }
        }
    }

    /// A PING behind everything sent so far; ready with the peer's account.
    ///
    /// The peer takes a PING only every so often, unless a request went since the last one. See
    /// [`Connection::barrier_needs_call`].
    pub(crate) fn start_barrier(&mut self, now: Time) -> Barrier {
        let number = self
            .ours
            .barriers
            .start(self.ours.calls.last_id(), self.settings.max_waiting);
        self.put_pings(now);
        Barrier(number)
    }

    /// Whether a barrier that is started now would have to wait for the peer's floor.
    ///
    /// A call that does nothing (the control service has one) resets the floor: whoever makes it first, and starts
    /// the barrier when it is in the output, does not wait.
    pub(crate) fn barrier_needs_call(&self, now: Time) -> bool {
        self.health.keep_alive.allowed_at(self.peer_floor()) > now
    }

    /// The account that the peer gives behind everything sent before the barrier.
    pub(crate) fn poll_barrier(
        &mut self,
        barrier: &Barrier,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Progress, Cause>> {
        let cause = match &self.end.life {
            Life::Handshaking | Life::Open => None,
            Life::Closing(closing) => Some(&closing.cause),
            Life::Closed(cause) => Some(cause),
        };
        let cut = || self.peer.goaway.as_deref().map(PeerGoaway::cause);
        self.ours
            .barriers
            .poll(barrier.0, self.settings.max_waiting, cause, cut, cx)
    }

    /// Nobody waits for a barrier any more.
    pub(crate) fn drop_barrier(&mut self, barrier: &Barrier) {
        self.ours.barriers.remove(barrier.0);
    }
}

impl Connection {
    /// Lets a request pass, or wait for its turn; whoever passes is to be charged.
    #[inline(always)]
    fn admit(
        &mut self,
        ticket: &mut Ticket,
        lane: Lane,
        request: &Request<'_>,
        len: usize,
        now: Time,
        cx: &Context<'_>,
    ) -> Poll<Result<Wanted, Failure>> {
        if ticket.0.is_none() {
            if let Some(wanted) = self.admit_at_once(lane, request, len as u64, now) {
                self.health.keep_alive.request_sent();
                return Poll::Ready(Ok(wanted));
            }
        }
        self.admit_in_turn(ticket, lane, request, len, now, cx)
    }

    /// As [`Connection::admit`], for a request that cannot go at once, or of which that is not plain to see.
    #[inline(never)]
    fn admit_in_turn(
        &mut self,
        ticket: &mut Ticket,
        lane: Lane,
        request: &Request<'_>,
        len: usize,
        now: Time,
        cx: &Context<'_>,
    ) -> Poll<Result<Wanted, Failure>> {
        if let Some(cause) = self.find_obstacle(ticket, lane, request, len as u64, now) {
            self.drop_ticket(ticket);
            return Poll::Ready(Err(Failure {
                cause,
                phase: Phase::Queue,
                executed: Executed::No,
            }));
        }
        let frame_len = match self.ours.credit.is_floor() {
            // The id and the flags are not known, or do not matter: they are short.
            true => header(Kind::Call, u64::MAX, request, now).frame_len(len),
            false => 0,
        };
        let wanted = Wanted {
            lane,
            len: len as u64,
            frame_len: frame_len as u64,
            streams: request.shape.has_request_stream(),
        };
        if request.depth > 0 && self.theirs.requests.open() > 0 {
            return self.admit_nested(ticket, request, wanted, cx);
        }
        if ticket.0.is_some_and(|number| number >= Room::FIRST_KEY) {
            // It was nested until the last request of the peer ended.
            self.drop_ticket(ticket);
        }
        let line = Line::new(lane, request.priority);
        let passage = self.passage();
        if self.ours.lines.may_pass(line, ticket.0, wanted, &passage) {
            self.ours.lines.pass(line, ticket.0.take(), &passage);
            self.health.keep_alive.request_sent();
            return Poll::Ready(Ok(wanted));
        }
        self.wait(ticket, line, wanted, request.deadline, cx)
    }

    /// What a request is charged that comes and can go at once: nobody waits whom it would pass by, and there is nothing
    /// to be said against it. Most are so, and `admit` would come to the same result.
    #[inline(always)]
    fn admit_at_once(&self, lane: Lane, request: &Request<'_>, len: u64, now: Time) -> Option<Wanted> {
        let max = self.ours.credit.max_message()?;
        let wanted = Wanted {
            lane,
            len,
            // Only before the peer's HELLO does it matter.
            frame_len: 0,
            streams: request.shape.has_request_stream(),
        };
        let is_usual = lane != Lane::Control
            && request.depth == 0
            && request.metadata.is_none()
            && len <= max
            && request.deadline.is_none_or(|deadline| deadline > now);
        let goes = is_usual
            && self.is_unhindered()
            && self.ours.lines.is_empty()
            && self.ours.lines.is_service_empty()
            && self.has_room(request.priority, len)
            && self.ours.credit.admits(wanted);
        goes.then_some(wanted)
    }

    /// Lets a request pass that a handler makes while requests of the peer are open here.
    ///
    /// Credit and slots may then come back only when the handlers around it end, so it does not wait for them, nor
    /// behind others who do: no circle of handlers that wait for each other. Room comes back by itself.
    fn admit_nested(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        wanted: Wanted,
        cx: &Context<'_>,
    ) -> Poll<Result<Wanted, Failure>> {
        if !self.ours.credit.admits(wanted) {
            self.drop_ticket(ticket);
            return Poll::Ready(Err(Failure {
                cause: Cause::Nested,
                phase: Phase::Queue,
                executed: Executed::No,
            }));
        }
        if !self.passage().admits(wanted, request.priority) {
            if ticket.0.is_none_or(|number| number < Room::FIRST_KEY) {
                self.drop_ticket(ticket);
                ticket.0 = Some(self.outbox.room.new_key());
            }
            if let Some(key) = ticket.0 {
                self.outbox
                    .room
                    .wait(key, request.priority, wanted.len, request.deadline, cx);
            }
            self.watch(request.deadline);
            return Poll::Pending;
        }
        self.drop_ticket(ticket);
        self.health.keep_alive.request_sent();
        Poll::Ready(Ok(wanted))
    }

    /// The streams of a call that is about to be opened.
    #[inline]
    fn flow_of_call(&self, request: &Request<'_>, now: Time) -> Option<Box<Flow>> {
        if request.shape == Shape::Unary {
            return None;
        }
        let granted = self.peer.hello.as_ref().map_or(0, |hello| hello.stream_window);
        let flow = Flow::of_call(request, granted, &self.settings, now);
        Some(Box::new(flow))
    }

    fn wait(
        &mut self,
        ticket: &mut Ticket,
        line: Line,
        wanted: Wanted,
        deadline: Option<Time>,
        cx: &Context<'_>,
    ) -> Poll<Result<Wanted, Failure>> {
        if let Line::Of(priority) = line {
            self.outbox.room.refused(priority);
        }
        if ticket.0.is_some_and(|number| self.ours.lines.renew(number, cx)) {
            return Poll::Pending;
        }
        let max = self.settings.max_waiting;
        let Some(number) = self.ours.lines.push(line, wanted, max, deadline, cx) else {
            return Poll::Ready(Err(Failure {
                cause: Cause::QueueFull { max },
                phase: Phase::Queue,
                executed: Executed::No,
            }));
        };
        ticket.0 = Some(number);
        self.watch(deadline);
        Poll::Pending
    }

    /// Why a request will never pass.
    #[inline]
    fn find_obstacle(
        &self,
        ticket: &Ticket,
        lane: Lane,
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
        let max = match (lane, self.ours.credit.max_message()) {
            (Lane::Control, Some(max)) => max.min(CONTROL_BYTES),
            (Lane::Control, None) => CONTROL_BYTES,
            (_, max) => max?,
        };
        (len > max).then_some(Cause::TooLong { len, max })
    }

    /// Whether neither side has said anything about an end.
    #[inline]
    fn is_unhindered(&self) -> bool {
        self.is_live()
            && self.peer.goaway.is_none()
            && self.end.drain.is_none()
            && !self.ours.calls.is_exhausted()
    }

    /// Why no new call can start here.
    fn refusal(&self) -> Option<Cause> {
        if self.is_closing_own() || self.ours.calls.is_exhausted() {
            return self.end_cause().cloned().or(Some(Cause::Closed));
        }
        self.late_refusal()
    }

    /// Why not even one can start that waits already.
    fn late_refusal(&self) -> Option<Cause> {
        match self.end_cause() {
            Some(cause) => Some(cause.clone()),
            None => self.goaway_cause(),
        }
    }

    /// Wakes those who can pass now.
    pub(super) fn wake_waiting(&mut self) {
        let backlog = self.backlog();
        let passage = || Passage {
            credit: self.ours.credit.clone(),
            backlog,
        };
        self.ours.lines.wake(&mut self.wakes.woken, passage);
        let had_long = self.outbox.room.long();
        self.outbox.room.wake(|| backlog.rooms(), &mut self.wakes.woken);
        if had_long >= LONG_REPLIES && self.outbox.room.long() < LONG_REPLIES {
            self.theirs.requests.takers.wake(&mut self.wakes.woken);
        }
    }

    fn passage(&self) -> Passage {
        Passage {
            credit: self.ours.credit.clone(),
            backlog: self.backlog(),
        }
    }
}

/// What stands before the message of a request of ours.
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
