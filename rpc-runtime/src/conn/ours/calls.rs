//! Calls: our open calls, until their outcome is taken and the peer has replied.

mod snapshot;

use std::task::{Context, Poll, Waker};

use super::credit::CreditClaim;
use crate::{
    Executed, Metadata, Phase, Procedure,
    conn::{
        CallFailure, Cause, ReceivedReply, Request, Time,
        assembly::{Assembly, is_to_copy},
        ids::MAX_ID,
        streams::{flow::Flow, inbox::InboxUse},
        table::Table,
        types::{FailedTimes, Reach, UNFINISHED, earliest},
        wakers::{Woken, set_waker},
    },
    wire::frame::Encoded,
};

/// Our open calls.
///
/// A call is here as long as its caller waits for the outcome, or its REPLY has not come: only the REPLY returns the
/// slot and the credit. A call that has an outcome before its REPLY (its deadline passed, its caller went away) is a
/// tombstone until then.
#[derive(Debug)]
pub(in crate::conn) struct Calls {
    table: Table<OurCall>,
    next_id: u64,
    last_id: u64,
    awaited: usize,
    undelivered: usize,
    /// How many were undelivered when bytes were read last.
    waiting_at_read: usize,
    held: InboxUse,
}

#[derive(Debug)]
struct OurCall {
    state: CallState,
    /// The procedure, if it is known by more than its id.
    called: Option<&'static Procedure>,
    /// When it was put into the output.
    at: Time,
    /// Where its last byte ends in the stream; [`UNFINISHED`] while fragments are to come.
    end: u64,
    deadline: Option<Time>,
    claim: CreditClaim,
    /// True if the REPLY has not come, at least not whole.
    open: bool,
    reply: Option<Box<PartialReply>>,
    flow: Option<Box<Flow>>,
}

#[derive(Debug)]
enum CallState {
    /// The caller waits.
    Waiting(Option<Waker>),
    /// The outcome is there, and the caller has not taken it.
    Done(Result<ReceivedReply, CallFailure>),
    /// The caller has gone.
    Tombstone,
}

/// A call that is in the output.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct PutCall {
    pub(in crate::conn) id: u64,
    /// Where its last byte ends in the stream; [`UNFINISHED`] while fragments are to come.
    pub(in crate::conn) end: u64,
    /// The time now.
    pub(in crate::conn) at: Time,
}

/// A reply with more fragments to come.
#[derive(Debug)]
pub(in crate::conn) struct PartialReply {
    pub(in crate::conn) assembly: Assembly,
    /// The reply without its payload.
    pub(in crate::conn) head: ReceivedReply,
}

/// The state of an id that a frame names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum CallLookup {
    /// The call is open.
    Open(OpenInfo),
    /// It is over.
    Over,
    /// It was never opened.
    Unopened,
}

/// What a frame for an open call depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) struct OpenInfo {
    /// True if its caller waits for the outcome.
    pub(in crate::conn) is_waiting: bool,
    pub(in crate::conn) has_streams: bool,
}

/// What a DATA frame for a call of ours belongs to.
#[derive(Debug)]
pub(in crate::conn) enum IncomingData<'a> {
    /// The id was never opened.
    Unopened,
    /// The call is over.
    Over,
    /// Its reply, which has begun.
    Reply,
    /// Its stream; with what is held of all streams.
    Stream(&'a mut Flow, &'a mut InboxUse),
    /// Nothing: the call has no stream of replies, and no reply has begun.
    Nothing {
        /// True if the call has no outcome.
        is_waiting: bool,
    },
}

impl Calls {
    /// No calls; the first id is `first_id`.
    pub(in crate::conn) fn new(first_id: u64) -> Self {
        Self {
            table: Table::default(),
            next_id: first_id,
            last_id: 0,
            awaited: 0,
            undelivered: 0,
            waiting_at_read: 0,
            held: InboxUse::default(),
        }
    }

    /// The id that [`Calls::take_id`] gives next.
    #[inline]
    pub(in crate::conn) fn following_id(&self) -> u64 {
        self.next_id
    }

    /// Gives the next id, for a call or a one-way request.
    #[inline]
    pub(in crate::conn) fn take_id(&mut self) -> u64 {
        self.last_id = self.next_id;
        self.next_id += 2;
        self.last_id
    }

    /// Adds a call that is in the output; the task of `cx` waits for its outcome.
    #[inline(always)]
    pub(in crate::conn) fn open(
        &mut self,
        put: PutCall,
        request: &Request<'_>,
        claim: CreditClaim,
        flow: Option<Box<Flow>>,
        cx: &Context<'_>,
    ) {
        let PutCall { id, end, at } = put;
        let waker = Some(cx.waker().clone());
        self.table.insert(id, || OurCall {
            state: CallState::Waiting(waker),
            called: request.called,
            at,
            end,
            deadline: request.deadline,
            claim,
            open: true,
            reply: None,
            flow,
        });
        self.awaited += 1;
    }

    /// Notes where a call ends in the stream, now that its last byte is in the output.
    pub(in crate::conn) fn set_end(&mut self, id: u64, end: u64) {
        if let Some(call) = self.table.get_mut(id) {
            call.end = end;
        }
    }

    /// Takes the outcome of a call.
    #[inline(always)]
    pub(in crate::conn) fn poll(
        &mut self,
        id: u64,
        cx: &Context<'_>,
    ) -> Poll<Result<ReceivedReply, CallFailure>> {
        // Taken already: a bug of the caller, which must not become a panic here.
        let Some(call) = self.table.get_mut(id) else {
            return Poll::Ready(Err(forgotten()));
        };
        if let CallState::Waiting(waker) = &mut call.state {
            set_waker(waker, cx);
            return Poll::Pending;
        }
        let state = call.give_up(&mut self.held);
        if !call.open {
            self.table.discard(id);
        }
        let CallState::Done(outcome) = state else {
            return Poll::Ready(Err(forgotten()));
        };
        self.delivered(&outcome);
        Poll::Ready(outcome)
    }

    /// Forgets a call whose caller went away.
    pub(in crate::conn) fn abandon(&mut self, id: u64) {
        let Some(call) = self.table.get_mut(id) else {
            return;
        };
        let state = call.give_up(&mut self.held);
        if !call.open {
            self.table.discard(id);
        }
        match state {
            CallState::Waiting(_) => self.awaited -= 1,
            CallState::Done(outcome) => self.delivered(&outcome),
            CallState::Tombstone => {}
        }
    }

    /// Counts an outcome that was taken or dropped.
    #[inline]
    fn delivered(&mut self, outcome: &Result<ReceivedReply, CallFailure>) {
        self.undelivered -= 1;
        self.held.bytes -= match outcome {
            Ok(reply) => reply.held_len(),
            Err(failure) => failure.held_len(),
        };
    }

    /// Gives a call its outcome; a tombstone needs none. The inbox must have counted its bytes.
    pub(in crate::conn) fn resolve(
        &mut self,
        id: u64,
        outcome: Result<ReceivedReply, CallFailure>,
        woken: &mut Woken,
    ) {
        if let Some(call) = self.table.get_mut(id) {
            if call.resolve(outcome, &mut self.held, woken) {
                self.awaited -= 1;
                self.undelivered += 1;
            }
        }
    }

    /// Gives a waiting call its whole REPLY, whose bytes the inbox has counted; returns the credit that it used.
    #[inline(always)]
    pub(in crate::conn) fn answer(
        &mut self,
        id: u64,
        reply: ReceivedReply,
        woken: &mut Woken,
    ) -> Option<CreditClaim> {
        let call = self.table.get_mut(id)?;
        if call.resolve(Ok(reply), &mut self.held, woken) {
            self.awaited -= 1;
            self.undelivered += 1;
        }
        Some(call.close(&mut self.held))
    }

    /// Fails a call that has no outcome: a frame of the peer says so.
    pub(in crate::conn) fn fail(&mut self, id: u64, cause: Cause, executed: Executed, woken: &mut Woken) {
        self.fail_after(id, cause, executed, (0, 0), woken);
    }

    /// As [`Calls::fail`], after the times that the peer says: how long the call waited and ran, in microseconds.
    pub(in crate::conn) fn fail_after(
        &mut self,
        id: u64,
        cause: Cause,
        executed: Executed,
        (queue_us, run_us): (u64, u64),
        woken: &mut Woken,
    ) {
        let phase = match self.flow(id) {
            Some(flow) if flow.has_moved() => Phase::Stream,
            _ => Phase::Wait,
        };
        let failure = CallFailure {
            cause,
            phase,
            executed,
            times: self.failed_times(id, queue_us, run_us),
        };
        self.resolve(id, Err(failure), woken);
    }

    /// Closes a call whose REPLY has come whole, or never will; returns the credit that it used.
    pub(in crate::conn) fn close(&mut self, id: u64) -> Option<CreditClaim> {
        let call = self.table.get_mut(id)?;
        if !call.open {
            return None;
        }
        let claim = call.close(&mut self.held);
        if matches!(call.state, CallState::Tombstone) {
            self.table.discard(id);
        }
        Some(claim)
    }

    /// Begins a reply that comes in fragments; an unfinished one of the same call is forgotten.
    pub(in crate::conn) fn begin_reply(&mut self, id: u64, partial: PartialReply) {
        let Some(call) = self.table.get_mut(id) else {
            return;
        };
        if let Some(old) = call.reply.replace(Box::new(partial)) {
            self.held.bytes -= old.assembly.kept() as u64;
        }
    }

    /// The reply that is being read for a call.
    pub(in crate::conn) fn partial_reply(&mut self, id: u64) -> Option<&mut PartialReply> {
        self.table.get_mut(id)?.reply.as_deref_mut()
    }

    /// The reply of a call, or the message of its stream, that is being read.
    pub(in crate::conn) fn assembly(&mut self, id: u64) -> Option<&mut Assembly> {
        let call = self.table.get_mut(id)?;
        match &mut call.reply {
            Some(partial) => Some(&mut partial.assembly),
            None => call.flow.as_mut()?.inflow.as_mut()?.assembly_mut(),
        }
    }

    /// The first call with fragments to come, of its reply or of a message of its stream.
    pub(in crate::conn) fn first_unfinished(&self) -> Option<u64> {
        let is_unfinished = |call: &OurCall| match &call.reply {
            Some(partial) => !partial.assembly.is_discarded(),
            None => call.flow.as_ref().is_some_and(|flow| flow.is_unfinished()),
        };
        let unfinished = self.table.iter().filter(|(_, call)| is_unfinished(call));
        unfinished.map(|(id, _)| id).min()
    }

    /// Takes the reply of a call whose last fragment has come; the inbox counts it no longer.
    pub(in crate::conn) fn take_reply(&mut self, id: u64) -> Option<PartialReply> {
        let partial = self.table.get_mut(id)?.reply.take()?;
        self.held.bytes -= partial.assembly.kept() as u64;
        Some(*partial)
    }

    /// Counts `len` bytes as undelivered.
    pub(in crate::conn) fn fill_inbox(&mut self, len: u64) {
        self.held.bytes = self.held.bytes.saturating_add(len);
    }

    /// Counts `len` bytes as undelivered no longer.
    pub(in crate::conn) fn empty_inbox(&mut self, len: usize) {
        self.held.bytes -= len as u64;
    }

    /// Drops a reply that is being read.
    pub(in crate::conn) fn forget_reply(&mut self, id: u64) {
        if let Some(partial) = self.partial_reply(id) {
            let kept = partial.assembly.forget();
            self.empty_inbox(kept);
        }
    }

    /// Notes that bytes were read. Replies that came in one read share a buffer, so only earlier ones count as waiting.
    pub(in crate::conn) fn note_read(&mut self) {
        self.waiting_at_read = self.undelivered;
    }

    /// Makes `payload` fit to be kept in the inbox: copies a short one beside many others, because it would pin a read buffer.
    #[inline]
    pub(in crate::conn) fn unpin(&self, payload: &mut Encoded) {
        if is_to_copy(self.waiting_at_read) {
            *payload = std::mem::take(payload).compact();
        }
    }

    /// The calls whose deadline has passed.
    pub(in crate::conn) fn expired(&self, now: Time) -> Vec<u64> {
        let calls = self.table.iter().filter(|(_, call)| call.is_waiting());
        let expired = calls.filter(|(_, call)| call.due().is_some_and(|due| due <= now));
        expired.map(|(id, _)| id).collect()
    }

    /// The calls above `last_id`, which the peer did not take.
    pub(in crate::conn) fn above(&self, last_id: u64) -> Vec<u64> {
        let calls = self.table.iter().filter(|(id, call)| *id > last_id && call.open);
        calls.map(|(id, _)| id).collect()
    }

    /// Fails all open calls, and forgets the tombstones: the connection is over.
    pub(in crate::conn) fn fail_all(&mut self, cause: &Cause, taken: u64, reach: Reach, woken: &mut Woken) {
        let ids: Vec<u64> = self.table.iter().map(|(id, _)| id).collect();
        for id in ids {
            let (phase, executed) = self.progress(id, taken, reach);
            let failure = CallFailure {
                cause: cause.clone(),
                phase,
                executed,
                times: self.failed_times(id, 0, 0),
            };
            self.resolve(id, Err(failure), woken);
            self.close(id);
        }
    }

    /// The times of a call that fails, with those that the peer says.
    pub(in crate::conn) fn failed_times(
        &self,
        id: u64,
        queue_us: u64,
        run_us: u64,
    ) -> Option<Box<FailedTimes>> {
        let opened = self.table.get(id)?.at;
        Some(Box::new(FailedTimes {
            opened,
            queue_us,
            run_us,
        }))
    }

    /// How far a call has come if it fails now, and whether its handler may run.
    pub(in crate::conn) fn progress(&self, id: u64, taken: u64, reach: Reach) -> (Phase, Executed) {
        let end = self.table.get(id).map_or(0, |call| call.end);
        let phase = match self.flow(id) {
            Some(flow) if flow.has_moved() => Phase::Stream,
            _ if end <= taken => Phase::Wait,
            _ => Phase::Write,
        };
        let reached = match reach {
            Reach::Taken => end <= taken,
            Reach::Output => end != UNFINISHED,
            Reach::Nothing => false,
        };
        (phase, if reached { Executed::Maybe } else { Executed::No })
    }

    /// The earliest deadline of all calls without an outcome.
    pub(in crate::conn) fn deadline(&self) -> Option<Time> {
        let calls = self.table.values().filter(|call| call.is_waiting());
        calls.filter_map(OurCall::due).min()
    }

    /// The state of `id`.
    #[inline]
    pub(in crate::conn) fn find(&self, id: u64) -> CallLookup {
        match self.table.get(id) {
            Some(call) if call.open => CallLookup::Open(OpenInfo {
                is_waiting: call.is_waiting(),
                has_streams: call.flow.is_some(),
            }),
            Some(_) => CallLookup::Over,
            None if id <= self.last_id => CallLookup::Over,
            None => CallLookup::Unopened,
        }
    }

    /// What a DATA frame for `id` belongs to.
    pub(in crate::conn) fn incoming(&mut self, id: u64) -> IncomingData<'_> {
        let Some(call) = self.table.get_mut(id) else {
            return match id <= self.last_id {
                true => IncomingData::Over,
                false => IncomingData::Unopened,
            };
        };
        if !call.open {
            return IncomingData::Over;
        }
        if call.reply.is_some() {
            return IncomingData::Reply;
        }
        let is_waiting = call.is_waiting();
        match call.flow.as_deref_mut().filter(|flow| flow.inflow.is_some()) {
            Some(flow) => IncomingData::Stream(flow, &mut self.held),
            None => IncomingData::Nothing { is_waiting },
        }
    }

    /// True if call `id` has no outcome.
    pub(in crate::conn) fn is_waiting(&self, id: u64) -> bool {
        self.table.get(id).is_some_and(OurCall::is_waiting)
    }

    /// True if call `id` has no REPLY yet.
    pub(in crate::conn) fn is_open(&self, id: u64) -> bool {
        self.table.get(id).is_some_and(|call| call.open)
    }

    /// True if the deadline of call `id` has passed; a call that is due otherwise has idle streams.
    pub(in crate::conn) fn is_late(&self, id: u64, now: Time) -> bool {
        let deadline = self.table.get(id).and_then(|call| call.deadline);
        deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The streams of a call.
    pub(in crate::conn) fn flow(&self, id: u64) -> Option<&Flow> {
        self.table.get(id)?.flow.as_deref()
    }

    /// The streams of a call, what is held of all, and whether the call has no outcome yet.
    #[inline]
    pub(in crate::conn) fn read_flow(&mut self, id: u64) -> Option<(&mut Flow, &mut InboxUse, bool)> {
        let call = self.table.get_mut(id)?;
        let is_waiting = call.is_waiting();
        let flow = call.flow.as_deref_mut()?;
        Some((flow, &mut self.held, is_waiting))
    }

    /// The streams of a call that has no outcome yet, and what is held of all.
    #[inline]
    pub(in crate::conn) fn waiting_flow_mut(&mut self, id: u64) -> Option<(&mut Flow, &mut InboxUse)> {
        let call = self.table.get_mut(id)?;
        let is_waiting = call.is_waiting();
        let flow = call.flow.as_deref_mut().filter(|_| is_waiting)?;
        Some((flow, &mut self.held))
    }

    /// The streams of a call, and what is held of all.
    pub(in crate::conn) fn flow_mut(&mut self, id: u64) -> Option<(&mut Flow, &mut InboxUse)> {
        let flow = self.table.get_mut(id)?.flow.as_deref_mut()?;
        Some((flow, &mut self.held))
    }

    /// Why a call failed whose outcome was not taken yet.
    pub(in crate::conn) fn failure(&self, id: u64) -> Option<&CallFailure> {
        match &self.table.get(id)?.state {
            CallState::Done(Err(failure)) => Some(failure),
            _ => None,
        }
    }

    /// What is held of replies and streams.
    pub(in crate::conn) fn all_held(&self) -> InboxUse {
        self.held
    }

    /// How many calls have no outcome.
    pub(in crate::conn) fn awaited(&self) -> usize {
        self.awaited
    }

    /// True if no call is here, whatever its state.
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The highest id given.
    pub(in crate::conn) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// True if all ids are given.
    pub(in crate::conn) fn is_exhausted(&self) -> bool {
        self.next_id > MAX_ID
    }

    /// Gives unused memory back.
    pub(in crate::conn) fn release(&mut self) {
        if self.table.is_empty() {
            self.table = Table::default();
        }
    }

    /// How many are here, whatever their state.
    pub(in crate::conn) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many calls are here, whatever their state, and how many bytes of replies.
    #[cfg(any(test, fuzzing))]
    pub(in crate::conn) fn held(&self) -> (usize, u64) {
        (self.table.len(), self.held.bytes)
    }
}

impl OurCall {
    fn is_waiting(&self) -> bool {
        matches!(self.state, CallState::Waiting(_))
    }

    /// Drops what is kept for its caller; returns how far it was.
    #[inline]
    fn give_up(&mut self, held: &mut InboxUse) -> CallState {
        if let Some(partial) = &mut self.reply {
            held.bytes -= partial.assembly.forget() as u64;
        }
        if let Some(flow) = &mut self.flow {
            flow.release(held);
        }
        std::mem::replace(&mut self.state, CallState::Tombstone)
    }

    /// Gives it its outcome; false if it has one, or no caller.
    #[inline(always)]
    fn resolve(
        &mut self,
        outcome: Result<ReceivedReply, CallFailure>,
        held: &mut InboxUse,
        woken: &mut Woken,
    ) -> bool {
        let CallState::Waiting(waker) = &mut self.state else {
            return false;
        };
        woken.push(waker.take());
        self.state = CallState::Done(outcome);
        if let Some(flow) = &mut self.flow {
            flow.end(held, woken);
        }
        true
    }

    /// Closes it: its REPLY has come whole, or never will. Returns the credit that it used.
    #[inline]
    fn close(&mut self, held: &mut InboxUse) -> CreditClaim {
        self.open = false;
        if let Some(partial) = self.reply.take() {
            held.bytes -= partial.assembly.kept() as u64;
        }
        self.claim
    }

    /// When it fails, if nothing happens before.
    fn due(&self) -> Option<Time> {
        earliest([self.deadline, self.flow.as_ref().and_then(|flow| flow.idle_at())])
    }
}

impl PartialReply {
    /// A reply of `length` bytes before compression; `head` is all of it but the payload.
    pub(in crate::conn) fn new(length: u64, encoding: u32, head: ReceivedReply) -> Self {
        Self {
            assembly: Assembly::new(length, encoding),
            head,
        }
    }

    /// A reply that is dropped.
    pub(in crate::conn) fn discard(length: u64) -> Self {
        let head = ReceivedReply {
            payload: Encoded::default(),
            metadata: Metadata::new(),
            queue_us: 0,
            run_us: 0,
        };
        Self {
            assembly: Assembly::discard(length),
            head,
        }
    }
}

fn forgotten() -> CallFailure {
    CallFailure {
        cause: Cause::Closed,
        phase: Phase::Wait,
        executed: Executed::Maybe,
        times: None,
    }
}
