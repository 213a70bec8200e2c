//! What happens because time passes.

use super::{Cause, Connection, Cut, Failure, Life, Side, Time, calls::Reach, stream::Flow};
use crate::wire::frame::control::Reason;

/// A stretch of time in which the peer must take some of the output.
#[derive(Debug)]
pub(super) struct Stall {
    since: Time,
    /// How far the output must be taken for the stretch to be over.
    target: u64,
    /// When to see whether the memory is needed more than the peer's patience.
    look_at: Time,
}

/// How long a peer may read nothing while memory is short and it is the cause.
const LOOK: Time = Time::from_secs(1);

impl Stall {
    /// Less than this, or less than all there is, is too little.
    pub(super) const LEAST: u64 = 64 * 1024;

    /// A stretch that begins now, unless nothing waits to be taken.
    pub(super) fn begin(taken: u64, end: u64, now: Time) -> Option<Self> {
        (taken < end).then(|| Self {
            since: now,
            target: end.min(taken + Self::LEAST),
            look_at: now.saturating_add(LOOK),
        })
    }

    /// Whether enough was taken.
    pub(super) fn is_over(&self, taken: u64) -> bool {
        taken >= self.target
    }
}

impl Connection {
    /// The earliest of all timers.
    pub(super) fn next_timer(&self) -> Option<Time> {
        let own = match &self.life {
            // The handlers of one-way requests may outlive the connection.
            Life::Closed(_) => return self.check_at,
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
            self.check_at,
            self.stall_due(),
            self.look_due(),
            self.dead_due(),
            self.call_again_at,
        ])
    }

    /// Does what is due.
    pub(super) fn run_timers(&mut self, now: Time) {
        self.slow.note_timer(self.next_timer(), now);
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_deadlines(now);
        }
        if self.call_again_at.is_some_and(|at| at <= now) {
            self.call_again_at = None;
            self.room.call_again();
        }
        match &self.life {
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
            if let Some(stall) = &mut self.stall {
                stall.look_at = now.saturating_add(LOOK);
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
        self.check_at
    }

    /// Ends everything whose deadline has passed: for timers of others, beside the driver's.
    pub(crate) fn handle_deadlines(&mut self, now: Time) {
        if self.check_at.is_some_and(|at| at <= now) {
            self.slow.note_timer(self.next_timer(), now);
            self.check_deadlines(now);
        }
    }

    /// Notes that a deadline must be looked at.
    pub(super) fn watch(&mut self, deadline: Option<Time>) {
        if let Some(deadline) = deadline {
            self.check_at = Some(self.check_at.map_or(deadline, |at| at.min(deadline)));
        }
    }

    /// Finds out when the next deadline is.
    pub(super) fn set_check(&mut self, now: Time) {
        let next = earliest([
            self.calls.deadline(),
            self.requests.deadline(),
            self.lines.deadline(),
            self.room.deadline(),
        ]);
        // One that has passed already is not left here: it would fire again and again.
        debug_assert!(!self.is_live() || next.is_none_or(|next| next > now));
        self.check_at = next;
    }

    /// When a ping should go out because nothing was heard: the side that connected asks only while it waits for
    /// something, or may be called; the other always.
    pub(super) fn keep_alive_due(&self) -> Option<Time> {
        let silence = self.settings.keep_alive?;
        let is_passive = self.side == Side::Connector && !self.settings.serves;
        if is_passive && !self.is_anything_outstanding() {
            return None;
        }
        self.keep_alive.due_at(silence, self.peer_floor())
    }

    fn is_anything_outstanding(&self) -> bool {
        self.calls.awaited() > 0
            || self.is_unwritten()
            || self.sends.is_uncovered()
            || !self.lines.is_empty()
            || !self.barriers.is_empty()
    }

    /// When the ping of a barrier may go out: one that waits for fragments has no time, `poll_transmit` sees to it.
    fn barrier_due(&self) -> Option<Time> {
        let wants = self.barriers.wants_ping(|last_id| !self.bulk.has_send(last_id));
        (wants || self.wants_last_ping()).then(|| self.keep_alive.allowed_at(self.peer_floor()))
    }

    fn stall_due(&self) -> Option<Time> {
        let stall = self.stall.as_ref()?;
        let due = stall.since.saturating_add(self.settings.write_stall);
        Some(self.slow.after_sleep(due))
    }

    fn look_at(&self) -> Option<Time> {
        let stall = self.stall.as_ref()?;
        Some(self.slow.after_sleep(stall.look_at))
    }

    /// When to see whether memory is short, if it would matter.
    fn look_due(&self) -> Option<Time> {
        self.look_at().filter(|_| self.holds_for_nobody())
    }

    /// Whether the connection holds more than its part of the memory for a peer that reads nothing.
    fn holds_for_nobody(&self) -> bool {
        self.share.is_told() && self.lacks_memory()
    }

    fn dead_due(&self) -> Option<Time> {
        let due = self.keep_alive.dead_at(self.settings.dead_after)?;
        Some(self.slow.after_sleep(due))
    }

    fn handshake_due(&self) -> Time {
        self.slow.after_sleep(self.settings.handshake_timeout)
    }

    fn drain_due(&self) -> Option<Time> {
        self.drain.as_ref()?.due()
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
        self.lines.expire(now, &mut self.woken);
        self.room.expire(now, &mut self.woken);
        for id in self.calls.expired(now) {
            self.expire_call(id, now);
        }
        let is_due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);
        for id in self
            .requests
            .select(|request| request.unwanted.is_none() && is_due(request.deadline))
        {
            self.expire_request(id, now);
        }
        self.set_check(now);
    }

    /// The deadline of a call has passed: its caller learns at once, its slot comes back with the REPLY.
    fn expire_call(&mut self, id: u64, now: Time) {
        let idle = self.calls.flow(id).and_then(Flow::idle);
        let cause = match idle {
            Some(after) if !self.calls.is_late(id, now) => Cause::Idle { after },
            _ => Cause::Deadline,
        };
        // Fragments that are not in the output never will be: without them the call is never dispatched.
        let (phase, executed) = self.calls.progress(id, self.taken, Reach::Output);
        let failure = Failure {
            cause,
            phase,
            executed,
        };
        let is_missed = matches!(failure.cause, Cause::Deadline);
        self.calls.resolve(id, Err(failure), &mut self.woken);
        self.calls.forget_reply(id);
        self.forget_stream(id);
        self.withdraw(id);
        if is_missed {
            self.doubt(id, now);
        }
    }

    /// The call `id` has missed its deadline: if nothing was read since it began, asks whether the peer lives.
    fn doubt(&mut self, id: u64, now: Time) {
        if !matches!(self.life, Life::Open) || !self.keep_alive.missed(id) {
            return;
        }
        self.waiters.closed.wake(&mut self.woken);
        let may_ask = self.keep_alive.allowed_at(self.peer_floor()) <= now;
        if may_ask && !self.keep_alive.is_waiting() {
            self.put_ping(now);
        }
    }

    /// A call that was sent is no longer wanted.
    pub(super) fn withdraw(&mut self, id: u64) {
        self.drop_fragments(id);
        if self.is_live() && self.calls.is_open(id) {
            self.put_cancel(id);
        }
    }

    /// Drops the fragments of a message that nobody wants any more.
    #[inline]
    pub(super) fn drop_fragments(&mut self, id: u64) {
        if !self.bulk.is_empty() {
            self.drop_rest(id);
        }
    }

    #[cold]
    fn drop_rest(&mut self, id: u64) {
        let had = self.backlog().rooms();
        self.bulk.remove(id);
        self.output_shrank(had);
    }

    /// Gives memory back that a burst has left behind.
    fn release(&mut self) {
        self.calls.release();
        self.requests.release();
        self.bulk.release();
        self.room.release();
        self.woken.release();
        self.waiters.release();
        self.out.release();
    }
}

/// The earliest of some times.
#[inline]
pub(super) fn earliest<const N: usize>(times: [Option<Time>; N]) -> Option<Time> {
    let mut earliest = None;
    for time in times {
        earliest = earlier(earliest, time);
    }
    earliest
}

/// The earlier of two times.
#[inline]
fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
