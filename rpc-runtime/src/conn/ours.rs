//! Ours: the calls and one-way requests that this side makes.
//!
//! `admission` lets one go, or wait for its turn: `capacity` says whether it may go now, by the peer's `credit` and the
//! output's room, and `next_call` which of those that wait is next. `request_header` says how it travels. `calls` is the
//! table of open calls, and `replies` takes the peer's answers in. `sends` knows what can be said of one-way requests
//! (whether a lost one may be sent again). `barriers` and `flush` wait for what was sent.

mod admission;
mod barriers;
pub(super) mod calls;
mod capacity;
pub(super) mod credit;
mod fifo;
mod flush;
mod next_call;
mod replies;
pub(super) mod request_header;
mod sends;

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use self::{
    barriers::Barriers,
    calls::{Calls, PutCall},
    capacity::Capacity,
    credit::{Credit, CreditClaim},
    next_call::AdmissionQueues,
    sends::Sends,
};
use super::{
    CallFailure, Cause, ReceivedReply, Request, Side, Time, Uncovered,
    assembly::Assembly,
    outbox::Outbox,
    snapshot::CallList,
    streams::{flow::Flow, inbox::InboxUse},
    tuning::MAX_DROP_REASONS,
    types::{Reach, UNFINISHED, earliest},
    wakers::{WakeList, Woken},
};
use crate::{
    Executed,
    metrics::SendCounts,
    wire::frame::control::{Hello, Progress},
};

/// The calls and one-way requests that this side makes.
#[derive(Debug)]
pub(super) struct Ours {
    calls: Calls,
    credit: Credit,
    queues: AdmissionQueues,
    sends: Sends,
    /// Calls given up before CANCEL may be sent, which is after the peer's HELLO.
    cancels: Vec<u64>,
    barriers: Barriers,
    /// Requests in fragments whose last one is in the output and not yet with the OS: a flush waits for them.
    flushing: VecDeque<(u64, u64)>,
    /// The first request whose fragments were lost with the connection.
    unflushed: Option<u64>,
    /// How many calls had no outcome at their deadline.
    missed: u64,
}

impl Ours {
    /// No calls; `side` decides which ids they get.
    pub(super) fn new(side: Side) -> Self {
        Self {
            calls: Calls::new(side.first_id()),
            credit: Credit::floor(),
            queues: AdmissionQueues::new(),
            sends: Sends::default(),
            cancels: Vec::new(),
            barriers: Barriers::default(),
            flushing: VecDeque::new(),
            unflushed: None,
            missed: 0,
        }
    }

    /// Takes over what the peer's HELLO grants.
    pub(super) fn accept(&mut self, hello: &Hello) {
        self.credit.accept(hello);
        self.queues.note_more();
    }

    /// Adds credit for one-way requests.
    pub(super) fn grant_sends(&mut self, bytes: u64) {
        self.credit.grant_sends(bytes);
        self.queues.note_more();
    }

    /// What the peer takes from us.
    #[inline]
    pub(super) fn credit(&self) -> &Credit {
        &self.credit
    }

    /// The requests that wait for credit, a slot or room.
    #[inline]
    pub(super) fn queues(&self) -> &AdmissionQueues {
        &self.queues
    }

    /// The requests that wait for credit, a slot or room.
    #[inline]
    pub(super) fn queues_mut(&mut self) -> &mut AdmissionQueues {
        &mut self.queues
    }

    /// Wakes the callers that can go now.
    pub(super) fn wake_callers(&mut self, outbox: &Outbox, woken: &mut Woken) {
        let credit = &self.credit;
        self.queues.wake(woken, || Capacity::new(credit, outbox));
    }

    /// Takes the next id, for a call or a one-way request.
    #[inline]
    pub(super) fn next_id(&mut self) -> u64 {
        self.calls.take_id()
    }

    /// The id that [`Ours::next_id`] takes next.
    #[inline]
    pub(super) fn following_id(&self) -> u64 {
        self.calls.following_id()
    }

    /// Notes that a message was encoded up to `end`: if the rest of it waits, another priority may have its turn.
    #[inline]
    pub(super) fn note_put(&mut self, end: u64, outbox: &Outbox) {
        if end == UNFINISHED && outbox.remainders().is_turn_of_lowest() {
            self.queues.note_more();
        }
    }

    /// Uses up credit.
    #[inline]
    pub(super) fn charge(&mut self, claim: CreditClaim) {
        self.credit.take(claim);
    }

    /// Adds a call that is in the output; the task of `cx` waits for its outcome.
    #[inline(always)]
    pub(super) fn open(
        &mut self,
        put: PutCall,
        request: &Request<'_>,
        claim: CreditClaim,
        flow: Option<Box<Flow>>,
        cx: &Context<'_>,
    ) {
        self.calls.open(put, request, claim, flow, cx);
    }

    /// Counts one-way requests in `counts` from now on.
    pub(super) fn measure(&mut self, counts: Option<&'static SendCounts>) {
        self.sends.measure(counts);
    }

    /// Counts the one-way requests that were sent since the last call.
    #[inline]
    pub(super) fn count_sent(&mut self) {
        self.sends.count_sent();
    }

    /// Adds a one-way request that is in the output up to `end`.
    #[inline]
    pub(super) fn send(&mut self, id: u64, end: u64) {
        self.sends.start(id);
        if end != UNFINISHED {
            self.sends.finish(id, end);
        }
    }

    /// Adds a one-way request that joined the frame of the one before it, which goes up to `end` now and is charged `charge` more.
    #[inline]
    pub(super) fn join(&mut self, id: u64, end: u64, charge: u64) {
        self.credit.take_joined(charge);
        self.sends.join(id, end);
    }

    /// Notes that the last fragment of a call or a one-way request is in the output, up to `end`.
    pub(super) fn finish_request(&mut self, id: u64, is_send: bool, end: u64) {
        match is_send {
            true => self.sends.finish(id, end),
            false => self.calls.set_end(id, end),
        }
        self.flushing.push_back((id, end));
    }

    /// Takes the outcome of a call.
    #[inline(always)]
    pub(super) fn poll(&mut self, id: u64, cx: &Context<'_>) -> Poll<Result<ReceivedReply, CallFailure>> {
        self.calls.poll(id, cx)
    }

    /// Forgets a call whose caller went away; true if it had no outcome.
    pub(super) fn abandon(&mut self, id: u64, woken: &mut Woken) -> bool {
        let was_waiting = self.calls.is_waiting(id);
        if let Some((flow, _)) = self.calls.flow_mut(id) {
            // The other half of a stream that goes both ways learns that there is nothing left to do.
            flow.wake(woken);
        }
        self.calls.abandon(id);
        was_waiting
    }

    /// Fails a call for a reason on this side: its caller learns at once, its slot comes back with the REPLY.
    ///
    /// Fragments that are not in the output never will be: without them the call is never dispatched.
    pub(super) fn fail_here(&mut self, id: u64, cause: Cause, taken: u64, woken: &mut Woken) {
        let (phase, executed) = self.calls.progress(id, taken, Reach::Output);
        let failure = CallFailure {
            cause,
            phase,
            executed,
            times: self.calls.failed_times(id, 0, 0),
        };
        self.calls.resolve(id, Err(failure), woken);
        self.calls.forget_reply(id);
        self.forget_stream(id);
    }

    /// Fails the call whose deadline has passed, or whose streams were idle for too long; true if it was the deadline.
    pub(super) fn expire(&mut self, id: u64, taken: u64, now: Time, woken: &mut Woken) -> bool {
        let idle = self.calls.flow(id).and_then(Flow::idle);
        let cause = match idle {
            Some(after) if !self.calls.is_late(id, now) => Cause::Idle { after },
            _ => Cause::Deadline,
        };
        let is_missed = matches!(cause, Cause::Deadline);
        self.missed += u64::from(is_missed);
        self.fail_here(id, cause, taken, woken);
        is_missed
    }

    /// The calls whose deadline has passed.
    pub(super) fn expired(&self, now: Time) -> Vec<u64> {
        self.calls.expired(now)
    }

    /// Tells the peer that a call is no longer wanted, as soon as that may be said.
    pub(super) fn put_cancel(&mut self, id: u64, is_handshaking: bool, outbox: &mut Outbox) {
        if is_handshaking {
            self.cancels.push(id);
        } else {
            outbox.put_cancel(id);
        }
    }

    /// The calls that were given up before the peer's HELLO.
    pub(super) fn take_cancels(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.cancels)
    }

    /// Drops what has come of the stream of a call, and what will.
    pub(super) fn forget_stream(&mut self, id: u64) {
        if let Some((flow, held)) = self.calls.flow_mut(id) {
            flow.release(held);
        }
    }

    /// Fails all calls and wakes all waiters: the connection is over. `taken` is how much of the stream the OS may have.
    pub(super) fn fail_all(
        &mut self,
        cause: &Cause,
        taken: u64,
        reach: Reach,
        outbox: &Outbox,
        wakes: &mut WakeList,
    ) {
        self.calls.fail_all(cause, taken, reach, wakes.woken());
        self.sends.lost(reach, outbox.remainders().sends());
        self.flushing.clear();
        self.unflushed = outbox.remainders().first_request();
        self.cancels.clear();
        self.queues.clear_all(wakes.woken());
        self.barriers.wake_all(wakes.woken());
    }

    /// Fails the calls that the peer does not take, and the requests that wait: it goes, and takes none above `last_id`.
    pub(super) fn cut_above(&mut self, last_id: u64, cause: &Cause, outbox: &mut Outbox, woken: &mut Woken) {
        // A request that waits here has not begun, and goes to another connection.
        self.queues.clear_all(woken);
        self.sends.cut_above(last_id);
        for id in self.calls.above(last_id) {
            self.calls.fail(id, cause.clone(), Executed::No, woken);
            outbox.drop_fragments(id);
            self.close_call(id);
        }
    }

    /// Notes that bytes were read.
    #[inline]
    pub(super) fn note_read(&mut self) {
        self.calls.note_read();
    }

    /// True if call `id` has no outcome yet.
    #[inline]
    pub(super) fn is_waiting(&self, id: u64) -> bool {
        self.calls.is_waiting(id)
    }

    /// True if call `id` has no REPLY yet.
    pub(super) fn is_open(&self, id: u64) -> bool {
        self.calls.is_open(id)
    }

    /// The streams of a call that has no outcome yet, with what is held of all.
    #[inline]
    pub(super) fn waiting_flow_mut(&mut self, id: u64) -> Option<(&mut Flow, &mut InboxUse)> {
        self.calls.waiting_flow_mut(id)
    }

    /// The streams of a call, with what is held of all, and whether it has no outcome yet.
    #[inline]
    pub(super) fn read_flow(&mut self, id: u64) -> Option<(&mut Flow, &mut InboxUse, bool)> {
        self.calls.read_flow(id)
    }

    /// The streams of a call, with what is held of all.
    #[inline]
    pub(super) fn flow_mut(&mut self, id: u64) -> Option<(&mut Flow, &mut InboxUse)> {
        self.calls.flow_mut(id)
    }

    /// The reply of a call, or the message of its stream, that is being read.
    pub(super) fn assembly(&mut self, id: u64) -> Option<&mut Assembly> {
        self.calls.assembly(id)
    }

    /// The first call of which fragments are to come.
    pub(super) fn first_unfinished(&self) -> Option<u64> {
        self.calls.first_unfinished()
    }

    /// Why a call failed whose outcome was not taken yet.
    pub(super) fn failure(&self, id: u64) -> Option<&CallFailure> {
        self.calls.failure(id)
    }

    /// What is held of replies and streams.
    #[inline]
    pub(super) fn held(&self) -> InboxUse {
        self.calls.all_held()
    }

    /// The highest id given.
    #[inline]
    pub(super) fn last_id(&self) -> u64 {
        self.calls.last_id()
    }

    /// True if all ids are given.
    #[inline]
    pub(super) fn is_exhausted(&self) -> bool {
        self.calls.is_exhausted()
    }

    /// True if no call is here, whatever its state.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// How many calls, and one-way requests that the OS has not taken, are here; and how many requests wait.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        (self.calls.len(), self.sends.unwritten(), self.queues.len())
    }

    /// How many calls had no outcome at their deadline.
    pub(super) fn missed_deadlines(&self) -> u64 {
        self.missed
    }

    /// Adds all calls to `list`; the OS has the stream up to `taken`.
    pub(super) fn list(&self, taken: u64, list: &mut CallList) {
        self.calls.list(taken, list);
    }

    /// The earliest deadline of calls and of requests that wait.
    pub(super) fn deadline(&self) -> Option<Time> {
        earliest([self.calls.deadline(), self.queues.deadline()])
    }

    /// True if no caller on this side waits for anything of the peer.
    pub(super) fn is_done_calling(&self) -> bool {
        self.calls.awaited() == 0 && self.queues.is_empty() && self.barriers.is_empty()
    }

    /// True if this side waits for something of the peer.
    pub(super) fn is_anything_outstanding(&self) -> bool {
        self.calls.awaited() > 0
            || self.sends.is_uncovered()
            || self.queues.has_ordinary()
            || !self.barriers.is_empty()
    }

    /// Gives unused memory back.
    pub(super) fn release(&mut self) {
        self.calls.release();
    }
}

/// One-way requests.
impl Ours {
    /// One-way requests that no PONG has covered yet.
    pub(super) fn uncovered(&self) -> Uncovered {
        self.sends.uncovered()
    }

    /// True if the peer may have taken some of which it has not said so.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.sends.is_in_doubt()
    }

    /// True if a last PING behind our one-way requests would tell something new.
    pub(super) fn wants_last_ping(&self, outbox: &Outbox) -> bool {
        self.sends.is_uncovered()
            && !self.queues.has_ordinary()
            && outbox.remainders().first_send().is_none()
            && self.sends.is_without_ping()
    }

    /// What the peer said last of what became of them; none as long as it had received none.
    pub(super) fn last_account(&self) -> Option<&Progress> {
        self.sends.account()
    }

    /// How many of those that the peer has read had not ended when it told of them last.
    pub(super) fn pending_sends(&self) -> u64 {
        self.sends.pending()
    }

    /// Notes that the peer says that all before call `id` have ended.
    pub(super) fn sends_settled(&mut self, id: u64, progress: &Progress) {
        self.sends.settled(id, progress);
    }

    /// Notes what is lost of what was in the output: nothing more is written.
    pub(super) fn lose_unwritten(&mut self) {
        self.sends.lost(Reach::Taken, std::iter::empty());
    }

    /// Keeps the peer's account. Returns it for barriers, unless some sends were cut off: a barrier covers all sends before
    /// it, so then it must fail.
    fn take_account(&mut self, mut account: Progress) -> Option<Progress> {
        // Each barrier gets a copy.
        account.dropped.truncate(MAX_DROP_REASONS);
        self.sends.keep(&account);
        (!self.sends.is_cut()).then_some(account)
    }

    /// Takes in the answer to a PING.
    pub(super) fn pong(&mut self, ping: u64, account: Progress, woken: &mut Woken) {
        let account = self.take_account(account);
        self.sends.pong(ping);
        self.barriers.answered(ping, account.as_ref(), woken);
    }

    /// Takes in the peer's last account.
    pub(super) fn settle(&mut self, account: Progress, woken: &mut Woken) {
        let account = self.take_account(account);
        self.sends.settle();
        self.barriers.settled(account.as_ref(), woken);
    }

    /// Notes that a PING goes out: it covers the one-way requests in the output, and the barriers behind them.
    pub(super) fn note_ping(&mut self, ping: u64, outbox: &Outbox) {
        let remainders = outbox.remainders();
        self.barriers.sent(ping, |last_id| !remainders.has_send(last_id));
        self.sends.ping(ping, remainders.first_send());
    }

    /// True if a barrier waits for its PING, and all its one-way requests are in the output.
    pub(super) fn barriers_want_ping(&self, outbox: &Outbox) -> bool {
        let remainders = outbox.remainders();
        self.barriers.wants_ping(|last_id| !remainders.has_send(last_id))
    }

    /// Begins a barrier behind everything sent so far; returns its number.
    pub(super) fn start_barrier(&mut self, max: usize) -> u64 {
        self.barriers.start(self.calls.last_id(), max)
    }

    /// Takes the account of a barrier; `cause` is why none will come any more, `cut` why sends were not taken.
    pub(super) fn poll_barrier(
        &mut self,
        number: u64,
        max: usize,
        cause: Option<&Cause>,
        cut: impl FnOnce() -> Option<Cause>,
        cx: &Context<'_>,
    ) -> Poll<Result<Progress, Cause>> {
        self.barriers.poll(number, max, cause, cut, cx)
    }

    /// Forgets a barrier.
    pub(super) fn drop_barrier(&mut self, number: u64) {
        self.barriers.remove(number);
    }
}

/// For tests.
#[cfg(any(test, fuzzing))]
impl Ours {
    /// What is left of calls and one-way requests, by name.
    pub(super) fn left(&self) -> [(&'static str, bool); 7] {
        [
            ("calls or tombstones", !self.calls.is_empty()),
            ("bytes of replies", self.calls.held().1 > 0),
            ("cancels", !self.cancels.is_empty()),
            ("flushes", !self.flushing.is_empty()),
            ("places of sends", self.sends.kept() > 0),
            ("barriers", !self.barriers.is_empty()),
            ("callers", !self.queues.is_empty()),
        ]
    }
}

#[cfg(test)]
impl Ours {
    /// The table of calls.
    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The peer's credit, to be changed.
    pub(super) fn credit_mut(&mut self) -> &mut Credit {
        &mut self.credit
    }

    /// True if no barrier waits.
    pub(super) fn has_no_barrier(&self) -> bool {
        self.barriers.is_empty()
    }
}
