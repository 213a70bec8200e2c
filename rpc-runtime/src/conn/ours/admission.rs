//! Admission: lets a request of ours go, or wait for its turn.
//!
//! Most requests go at once. One that finds others waiting, or lacks credit or room, gets a ticket for its place among them.

use std::task::{Context, Poll};

use super::{
    Ours,
    capacity::{self, Capacity},
    credit::{CreditClaim, RequestKind},
    next_call::QueueClass,
    request_header::request_header,
};
use crate::Priority;
use crate::conn::{
    Cause, Request, Ticket, Time,
    outbox::{Outbox, room_waiters::RoomWaiters},
    step::Step,
    tuning::CONTROL_BYTES,
};

impl Ours {
    /// Why a request will never go: it is too late, or too long.
    #[inline(always)]
    pub(in crate::conn) fn find_obstacle(
        &self,
        kind: RequestKind,
        request: &Request<'_>,
        len: u64,
        now: Time,
    ) -> Option<Cause> {
        if request.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Cause::Deadline);
        }
        if request.metadata.is_some_and(|metadata| !metadata.fits()) {
            return Some(Cause::Metadata);
        }
        let max = match (kind, self.credit.max_message()) {
            (RequestKind::Control, Some(max)) => max.min(CONTROL_BYTES),
            (RequestKind::Control, None) => CONTROL_BYTES,
            (_, max) => max?,
        };
        (len > max).then_some(Cause::TooLong { len, max })
    }

    /// The credit that a request with a message of `len` bytes needs.
    #[inline(always)]
    pub(in crate::conn) fn claim(
        &self,
        kind: RequestKind,
        request: &Request<'_>,
        len: usize,
        now: Time,
    ) -> CreditClaim {
        CreditClaim {
            kind,
            len: len as u64,
            frame_len: match self.credit.is_floor() {
                // The id is not known, and does not matter: it is short.
                true => request_header(RequestKind::Call, u64::MAX, request, now).frame_len(len) as u64,
                false => 0,
            },
            streams: request.shape.has_request_stream(),
        }
    }

    /// True if a request goes without a look at others: none waits, it is not made by a handler, and there is room for it.
    #[inline(always)]
    pub(in crate::conn) fn goes_at_once(
        &self,
        ticket: &Ticket,
        request: &Request<'_>,
        claim: CreditClaim,
        outbox: &Outbox,
    ) -> bool {
        let is_alone = ticket.0.is_none() && request.depth == 0 && self.queues.is_empty();
        let has_room = |priority, len| outbox.has_room(priority, len);
        is_alone && capacity::may_go(claim, request.priority, &self.credit, has_room)
    }

    /// True if a one-way request with a message of `len` bytes that no handler makes goes without a look at others. A shorter message
    /// than the peer takes goes; before the peer's HELLO none does.
    #[inline(always)]
    pub(in crate::conn) fn send_goes_at_once(&self, len: usize, priority: Priority, outbox: &Outbox) -> bool {
        let len = len as u64;
        let claim = CreditClaim {
            kind: RequestKind::Send,
            len,
            frame_len: 0,
            streams: false,
        };
        let has_room = |priority, len| outbox.has_room(priority, len);
        self.credit.max_message().is_some_and(|max| len <= max)
            && self.queues.is_empty()
            && capacity::may_go(claim, priority, &self.credit, has_room)
    }

    /// Lets a request go that others may go ahead of, or wait for its turn.
    pub(in crate::conn) fn admit_in_turn(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        claim: CreditClaim,
        step: &mut Step<'_>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Cause>> {
        if ticket.0.is_some_and(|number| number >= RoomWaiters::FIRST_KEY) {
            // It was nested until the last request of the peer ended.
            self.drop_ticket(ticket, step.outbox);
        }
        let class = QueueClass::new(claim.kind, request.priority);
        let capacity = Capacity::new(&self.credit, step.outbox);
        if self.queues.may_pass(class, ticket.0, claim, &capacity) {
            self.queues.pass(class, ticket.0.take(), &capacity);
            return Poll::Ready(Ok(()));
        }
        self.wait_in_turn(ticket, class, claim, request.deadline, step, cx)
    }

    /// Lets a request go that a handler makes while requests of the peer are open here.
    ///
    /// Nested calls are not queued, to avoid deadlock: credit and slots may come back only when the handlers around them
    /// end. Room comes back by itself.
    pub(in crate::conn) fn admit_nested(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        claim: CreditClaim,
        step: &mut Step<'_>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Cause>> {
        if !self.credit.admits(claim) {
            return Poll::Ready(Err(Cause::Nested));
        }
        let capacity = Capacity::new(&self.credit, step.outbox);
        if capacity.admits(claim, request.priority) {
            self.drop_ticket(ticket, step.outbox);
            return Poll::Ready(Ok(()));
        }
        if ticket.0.is_none_or(|number| number < RoomWaiters::FIRST_KEY) {
            self.drop_ticket(ticket, step.outbox);
            ticket.0 = Some(step.outbox.new_key());
        }
        if let Some(key) = ticket.0 {
            let (priority, deadline) = (request.priority, request.deadline);
            step.outbox.wait(key, priority, claim.len, deadline, cx);
        }
        step.wakes.watch(request.deadline);
        Poll::Pending
    }

    fn wait_in_turn(
        &mut self,
        ticket: &mut Ticket,
        class: QueueClass,
        claim: CreditClaim,
        deadline: Option<Time>,
        step: &mut Step<'_>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Cause>> {
        if let QueueClass::Of(priority) = class {
            step.outbox.note_refused(priority);
        }
        if ticket.0.is_some_and(|number| self.queues.renew(number, cx)) {
            return Poll::Pending;
        }
        let max = step.settings.max_waiting;
        ticket.0 = self.queues.push(class, claim, max, deadline, cx);
        if ticket.0.is_none() {
            return Poll::Ready(Err(Cause::QueueFull { max }));
        }
        step.wakes.watch(deadline);
        Poll::Pending
    }

    /// Gives a place up; nothing to do for a ticket that never waited.
    pub(in crate::conn) fn drop_ticket(&mut self, ticket: &mut Ticket, outbox: &mut Outbox) {
        match ticket.0.take() {
            Some(number) if number >= RoomWaiters::FIRST_KEY => outbox.leave(number),
            Some(number) => self.queues.remove(number),
            None => {}
        }
    }
}
