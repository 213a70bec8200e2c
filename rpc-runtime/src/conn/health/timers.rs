//! What happens because time passes.

use crate::conn::{
    Cause, Connection, Cut, Failure, Side, Time,
    end::Life,
    ours::calls::Reach,
    outbox::write_stall::{LOOK, Stall},
    streams::flow::Flow,
    types::{earlier, earliest},
};
use crate::wire::frame::control::Reason;

impl Connection {
    /// The earliest of all timers.
    pub(in crate::conn) fn next_timer(&self) -> Option<Time> {
        let own = match &self.end.life {
            // The handlers of one-way requests may outlive the connection.
            Life::Closed(_) => return self.wakes.check_at,
            Life::Closing(closing) => Some(closing.until),
            Life::Handshaking => Some(self.handshake_due()),
            Life::Open => earliest([
                self.keep_alive_due(),
                self.barrier_due(),
                self.drain_due(),
                self.age_due(),
            ]),
        };
        let own = match self.slow_due() {
            Some(due) => earlier(own, Some(due)),
            None => own,
        };
        earliest([
            own,
            self.wakes.check_at,
            self.stall_due(),
            self.look_due(),
            self.dead_due(),
            self.outbox.call_again_at,
        ])
    }

    /// Does what is due.
    pub(in crate::conn) fn run_timers(&mut self, now: Time) {
        self.health.slow.note_timer(self.next_timer(), now);
        if self.wakes.check_at.is_some_and(|at| at <= now) {
            self.check_deadlines(now);
        }
        if self.outbox.call_again_at.is_some_and(|at| at <= now) {
            self.outbox.call_again_at = None;
            self.outbox.room.call_again();
        }
        match &self.end.life {
            Life::Closed(_) => return,
            Life::Closing(closing) if closing.until <= now => {
                let cause = closing.cause.clone();
                return self.close_now(cause, now);
            }
            Life::Handshaking if self.handshake_due() <= now => {
                return self.handshake_timed_out(now);
            }
            _ => {}
        }
        if self.stall_due().is_some_and(|at| at <= now) {
            let text = format!(
                "peer took less than {} bytes in {:?}",
                Stall::LEAST,
                self.settings.write_stall
            );
            self.note_cut(Cut::WriteStall);
            return self.handle_lost(&text, None, now);
        }
        if self.look_at().is_some_and(|at| at <= now) {
            if self.holds_for_nobody() && self.settings.memory.is_tight() {
                let text = format!(
                    "peer took less than {} bytes in {LOOK:?}, and memory is short",
                    Stall::LEAST
                );
                self.note_cut(Cut::WriteStall);
                return self.handle_lost(&text, None, now);
            }
            if let Some(stall) = &mut self.outbox.stall {
                stall.look_later(now);
            }
        }
        if self.dead_due().is_some_and(|at| at <= now) {
            let text = format!(
                "no sign of life from peer {:?} after a ping",
                self.settings.dead_after
            );
            self.note_cut(Cut::Silence);
            return self.handle_lost(&text, None, now);
        }
        self.check_slow(now);
        self.run_age(now);
        self.run_drain(now);
        self.put_pings(now);
        self.release();
    }

    /// When the earliest deadline passes, or one that was the earliest.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.wakes.check_at
    }

    /// Ends everything whose deadline has passed: for timers of others, beside the driver's.
    pub(crate) fn handle_deadlines(&mut self, now: Time) {
        if self.wakes.check_at.is_some_and(|at| at <= now) {
            self.health.slow.note_timer(self.next_timer(), now);
            self.check_deadlines(now);
        }
    }

    /// Notes that a deadline must be looked at.
    pub(in crate::conn) fn watch(&mut self, deadline: Option<Time>) {
        if let Some(deadline) = deadline {
            self.wakes.check_at = Some(self.wakes.check_at.map_or(deadline, |at| at.min(deadline)));
        }
    }

    /// Finds out when the next deadline is.
    pub(in crate::conn) fn set_check(&mut self, now: Time) {
        let next = earliest([
            self.ours.calls.deadline(),
            self.theirs.requests.deadline(),
            self.ours.lines.deadline(),
            self.outbox.room.deadline(),
        ]);
        // One that has passed already is not left here: it would fire again and again.
        debug_assert!(!self.is_live() || next.is_none_or(|next| next > now));
        self.wakes.check_at = next;
    }

    /// When a ping should go out because nothing was heard: the side that connected asks only while it waits for
    /// something, or may be called; the other always.
    pub(in crate::conn) fn keep_alive_due(&self) -> Option<Time> {
        let silence = self.settings.keep_alive?;
        let is_passive = self.side == Side::Connector && !self.settings.serves;
        if is_passive && !self.is_anything_outstanding() {
            return None;
        }
        self.health.keep_alive.due_at(silence, self.peer_floor())
    }

    fn is_anything_outstanding(&self) -> bool {
        self.ours.calls.awaited() > 0
            || self.is_unwritten()
            || self.ours.sends.is_uncovered()
            || !self.ours.lines.is_empty()
            || !self.ours.barriers.is_empty()
    }

    /// When the ping of a barrier may go out: one that waits for fragments has no time, `poll_transmit` sees to it.
    fn barrier_due(&self) -> Option<Time> {
        let wants = self
            .ours
            .barriers
            .wants_ping(|last_id| !self.outbox.bulk.has_send(last_id));
        (wants || self.wants_last_ping()).then(|| self.health.keep_alive.allowed_at(self.peer_floor()))
    }

    fn stall_due(&self) -> Option<Time> {
        let stall = self.outbox.stall.as_ref()?;
        let due = stall.due(self.settings.write_stall);
        Some(self.health.slow.after_sleep(due))
    }

    fn look_at(&self) -> Option<Time> {
        let stall = self.outbox.stall.as_ref()?;
        Some(self.health.slow.after_sleep(stall.look_at()))
    }

    /// When to see whether memory is short, if it would matter.
    fn look_due(&self) -> Option<Time> {
        self.look_at().filter(|_| self.holds_for_nobody())
    }

    /// Whether the connection holds more than its part of the memory for a peer that reads nothing.
    fn holds_for_nobody(&self) -> bool {
        self.holdings.share.is_told() && self.lacks_memory()
    }

    fn dead_due(&self) -> Option<Time> {
        let due = self.health.keep_alive.dead_at(self.settings.dead_after)?;
        Some(self.health.slow.after_sleep(due))
    }

    fn handshake_due(&self) -> Time {
        self.health.slow.after_sleep(self.settings.handshake_timeout)
    }

    fn drain_due(&self) -> Option<Time> {
        self.end.drain.as_ref()?.due()
    }

    fn handshake_timed_out(&mut self, now: Time) {
        let text = format!("no HELLO from peer in {:?}", self.settings.handshake_timeout);
        self.note_cut(Cut::HandshakeTimeout);
        self.put_goaway(Reason::Timeout, 0, &text);
        // The peer may have read our HELLO and begun to work. It has refused nothing, so another try may succeed.
        let cause = Cause::Lost { text, source: None };
        self.begin_closing(cause, Reach::Output, self.soon(now), now);
    }

    /// Ends everything whose deadline has passed.
    fn check_deadlines(&mut self, now: Time) {
        self.ours.lines.expire(now, &mut self.wakes.woken);
        self.outbox.room.expire(now, &mut self.wakes.woken);
        for id in self.ours.calls.expired(now) {
            self.expire_call(id, now);
        }
        let is_due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);
        for id in self
            .theirs
            .requests
            .select(|request| request.unwanted.is_none() && is_due(request.deadline))
        {
            self.expire_request(id, now);
        }
        self.set_check(now);
    }

    /// The deadline of a call has passed: its caller learns at once, its slot comes back with the REPLY.
    fn expire_call(&mut self, id: u64, now: Time) {
        let idle = self.ours.calls.flow(id).and_then(Flow::idle);
        let cause = match idle {
            Some(after) if !self.ours.calls.is_late(id, now) => Cause::Idle { after },
            _ => Cause::Deadline,
        };
        // Fragments that are not in the output never will be: without them the call is never dispatched.
        let (phase, executed) = self.ours.calls.progress(id, self.outbox.taken, Reach::Output);
        let failure = Failure {
            cause,
            phase,
            executed,
        };
        let is_missed = matches!(failure.cause, Cause::Deadline);
        self.ours.calls.resolve(id, Err(failure), &mut self.wakes.woken);
        self.ours.calls.forget_reply(id);
        self.forget_stream(id);
        self.withdraw(id);
        if is_missed {
            self.doubt(id, now);
        }
    }

    /// The call `id` has missed its deadline: if nothing was read since it began, asks whether the peer lives.
    fn doubt(&mut self, id: u64, now: Time) {
        if !matches!(self.end.life, Life::Open) || !self.health.keep_alive.missed(id) {
            return;
        }
        self.wakes.waiters.closed.wake(&mut self.wakes.woken);
        let may_ask = self.health.keep_alive.allowed_at(self.peer_floor()) <= now;
        if may_ask && !self.health.keep_alive.is_waiting() {
            self.put_ping(now);
        }
    }

    /// A call that was sent is no longer wanted.
    pub(in crate::conn) fn withdraw(&mut self, id: u64) {
        self.drop_fragments(id);
        if self.is_live() && self.ours.calls.is_open(id) {
            self.put_cancel(id);
        }
    }

    /// Drops the fragments of a message that nobody wants any more.
    #[inline]
    pub(in crate::conn) fn drop_fragments(&mut self, id: u64) {
        if !self.outbox.bulk.is_empty() {
            self.drop_rest(id);
        }
    }

    #[cold]
    fn drop_rest(&mut self, id: u64) {
        let had = self.backlog().rooms();
        self.outbox.bulk.remove(id);
        self.output_shrank(had);
    }

    /// Gives memory back that a burst has left behind.
    fn release(&mut self) {
        self.ours.calls.release();
        self.theirs.requests.release();
        self.outbox.bulk.release();
        self.outbox.room.release();
        self.wakes.woken.release();
        self.wakes.waiters.release();
        self.outbox.out.release();
    }
}
