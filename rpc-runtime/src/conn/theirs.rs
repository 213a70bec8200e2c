//! Theirs: the calls and one-way requests of the peer, which this side serves.
//!
//! `intake` takes frames in, and `row_intake` packed ones. `request` is one request, `requests` the table, `waiting_rows` what came
//! in packed frames, `requests/running_row` what of that is handled together. `ready_queue` says whose handler starts next.
//! `account` counts what became of one-way requests, `settling` lets a call wait for the one-way requests before it. `outcomes` ends
//! requests, `open_at_drain` says what becomes of each when a drain's time is over.

mod account;
mod intake;
mod open_at_drain;
mod outcomes;
mod ready_queue;
mod request;
mod requests;
mod row_intake;
mod settling;
mod waiting_rows;

use std::task::{Context, Poll};

#[cfg(test)]
pub(super) use self::request::IntakeUse;
use self::{account::OneWayAccount, request::RequestStage, requests::RequestTable};
pub(crate) use self::{intake::MEMORY_SHORT, open_at_drain::DRAINING};
pub(super) use self::{
    outcomes::{dropped_status, receipt},
    request::{HandOut, TheirRequest},
};
use super::{
    Arrived, ArrivedRow, RefusalReason, Settings, Tally, Time, Unstarted, Unwanted,
    assembly::Assembly,
    outbox::{Outbox, backlog::Rooms},
    snapshot::{CallList, LimitUse},
    streams::{flow::Flow, inbox::InboxUse},
    tuning::LONG_REPLIES,
    wakers::{WaitingFor, WakeList, Woken},
};
use crate::{
    Code, Priority,
    api::server_limit::ServerLimit,
    metrics::{CallCounts, ServedMeter},
    wire::frame::control::Progress,
};

/// The calls and one-way requests of the peer.
#[derive(Debug)]
pub(super) struct Theirs {
    requests: RequestTable,
    account: OneWayAccount,
    meter: ServedMeter,
    /// What became of requests since a drain began whose report counts them.
    tally: Tally,
    is_counting: bool,
    /// How many requests were not done at their deadline.
    missed: u64,
    /// A limit by which requests were refused when they came, and that was not asked for since.
    over: Option<ServerLimit>,
}

impl Theirs {
    /// No requests.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            requests: RequestTable::new(settings),
            account: OneWayAccount::default(),
            meter: ServedMeter::default(),
            tally: Tally::default(),
            is_counting: false,
            missed: 0,
            over: None,
        }
    }

    /// Keeps the limit by which a request was refused when it came, for the log.
    #[cold]
    fn note_limit(&mut self, reason: RefusalReason) {
        if let RefusalReason::Over(limit) = reason {
            self.over = Some(limit);
        }
    }

    /// Takes the limit by which requests were refused last when they came; none if none was since the last question.
    #[inline]
    pub(super) fn take_limit(&mut self) -> Option<ServerLimit> {
        self.over.take()
    }

    /// Counts calls by `meter` from now on.
    pub(super) fn measure(&mut self, meter: ServedMeter) {
        self.meter = meter;
    }

    /// Counts the end of a call whose handler was polled. It waited and ran for so many microseconds.
    #[inline]
    pub(super) fn count_ran(&self, counts: Option<&'static CallCounts>, code: Code, receipt: (u64, u64)) {
        self.meter.ran(counts, code, receipt);
    }

    /// Returns for which priorities a reply has room in the output of a live connection.
    pub(super) fn rooms_for_replies(outbox: &Outbox) -> ReplyRooms {
        let Rooms { short, long } = outbox.rooms();
        // Most replies are short. One that is not waits with its handler, and few may.
        match outbox.waiters().long() < LONG_REPLIES {
            true => short,
            false => long,
        }
    }

    /// Hands out the next request whose handler is to start, in the order of arrival; none if none may start now. Its reply must
    /// have one of the `rooms`.
    #[inline]
    pub(super) fn take_next(
        &mut self,
        mut rooms: ReplyRooms,
        max_calls: u32,
        how: HandOut,
    ) -> Option<Arrived> {
        if !self.requests.is_any_queued() {
            return None;
        }
        if self.has_many_handlers(max_calls) {
            // One-way requests have no slots, so their credit alone would let a peer take all handlers of a server. They
            // outlive their connection, and wait all the same.
            rooms = Priority::ALL.map(|priority| priority == Priority::Control && rooms[priority.rank()]);
            self.requests.held_back = true;
        }
        self.requests.take_next(rooms, how)
    }

    /// Takes back a request whose handler did not start: it is the next one again. Returns false if its reply is no longer
    /// wanted; then it is to be ended.
    #[must_use]
    pub(super) fn take_back(&mut self, arrived: Arrived) -> bool {
        self.requests.take_back(arrived)
    }

    /// True if one-way requests that came in one frame are next.
    #[inline]
    pub(super) fn is_row_next(&self) -> bool {
        self.requests.next_row().is_some()
    }

    /// The procedure and the depth of the one-way requests that are next, if these may be handed out together.
    #[inline]
    pub(super) fn next_row(&self, max_calls: u32) -> Option<(u64, u8)> {
        let row = self.requests.next_row()?;
        (!self.has_many_handlers(max_calls)).then_some((row.procedure, row.depth))
    }

    /// Hands out the one-way requests that are next together: see [`Theirs::next_row`].
    pub(super) fn take_row(&mut self, now: Time) -> Option<ArrivedRow> {
        self.requests.take_row(now)
    }

    /// True if the peer has as many running handlers as it may: twice its slots, because one-way requests have none.
    #[inline]
    fn has_many_handlers(&self, max_calls: u32) -> bool {
        // Twice the highest `max_calls` exceeds a `usize` of 32 bits.
        self.requests.running() as u64 >= 2 * u64::from(max_calls)
    }

    /// True if requests wait until fewer handlers run.
    #[inline]
    pub(super) fn is_held_back(&self) -> bool {
        self.requests.held_back
    }

    /// Lets requests start again that were held back, once few enough handlers run.
    #[inline]
    pub(super) fn release_held_back(&mut self, max_calls: u32, woken: &mut Woken) {
        if self.requests.held_back && !self.has_many_handlers(max_calls) {
            self.requests.held_back = false;
            self.requests.takers.wake(woken);
        }
    }

    /// Lets the task of `cx` wait for a request.
    pub(super) fn wait_for_request(&mut self, cx: &Context<'_>, woken: &mut Woken) {
        self.requests.takers.register(cx, woken);
    }

    /// Wakes the tasks that wait for a request.
    pub(super) fn wake_takers(&mut self, woken: &mut Woken) {
        self.requests.takers.wake(woken);
    }

    /// True if [`Theirs::wake_released`] has a task to wake.
    #[inline]
    pub(super) fn has_released(&self) -> bool {
        self.requests.has_released()
    }

    /// Wakes the tasks that wait for requests that were released, or for the end of one-way requests.
    #[cold]
    pub(super) fn wake_released(&mut self, woken: &mut Woken) {
        self.requests.wake_takers(woken);
    }

    /// Notes that a handler is polled for the first time.
    #[inline]
    pub(super) fn start(&mut self, id: u64, lacks_memory: bool, now: Time) -> Result<(), Unstarted> {
        self.requests.start(id, lacks_memory, now)
    }

    /// Notes when the handler of a request that was handed out as one that starts was polled first.
    #[inline]
    pub(super) fn note_began(&mut self, id: u64, at: Time) {
        self.requests.note_began(id, at);
    }

    /// Notes that the handler of a request that was handed out as one that starts was not polled.
    pub(super) fn note_not_started(&mut self, id: u64) {
        self.requests.note_not_started(id);
    }

    /// Ready when all one-way requests before call `id` have ended, with the account.
    pub(super) fn poll_settled(&mut self, id: u64, cx: &Context<'_>) -> Poll<Progress> {
        let settled = self.requests.poll_settled(id, cx);
        settled.map(|()| self.account.tell())
    }

    /// What became of the peer's one-way requests; the peer is told now.
    pub(super) fn tell_account(&mut self) -> Progress {
        self.account.tell()
    }

    /// True if something became of one-way requests since the peer was told.
    pub(super) fn has_news(&self) -> bool {
        self.account.has_news()
    }

    /// Takes the credit for one-way requests that is due.
    pub(super) fn take_grant(&mut self, settings: &Settings) -> Option<u64> {
        self.requests.take_grant(settings)
    }

    /// True if credit for one-way requests is due.
    pub(super) fn is_grant_due(&self, settings: &Settings) -> bool {
        self.requests.is_grant_due(settings)
    }

    /// Notes that bytes were read.
    #[inline]
    pub(super) fn note_read(&mut self) {
        self.requests.note_read();
    }

    /// An open request.
    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<&TheirRequest> {
        self.requests.get(id)
    }

    /// An open request.
    #[inline]
    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut TheirRequest> {
        self.requests.get_mut(id)
    }

    /// An open call, with what is held of all streams.
    #[inline]
    pub(super) fn call_mut(&mut self, id: u64) -> Option<(&mut TheirRequest, &mut InboxUse)> {
        self.requests.call_mut(id)
    }

    /// When the last byte of an open request was read.
    pub(super) fn read_at(&self, id: u64) -> Option<Time> {
        self.requests.get(id).map(|request| request.at)
    }

    /// An open request whose end, or whose being unwanted, a task waits for.
    pub(super) fn watched_mut(&mut self, id: u64) -> Option<&mut TheirRequest> {
        self.requests.watched_mut(id)
    }

    /// Why a request is unwanted; `Disconnected` if it is not open.
    pub(super) fn unwanted(&self, id: u64) -> Option<Unwanted> {
        self.requests.unwanted(id)
    }

    /// The streams of a request, with what is held of all.
    pub(super) fn flow_mut(&mut self, id: u64) -> Option<(&mut Flow, &mut InboxUse)> {
        self.requests.flow_mut(id)
    }

    /// The request, or the message of its stream, that is being read.
    pub(super) fn assembly(&mut self, id: u64) -> Option<&mut Assembly> {
        self.requests.assembly(id)
    }

    /// The first request of which fragments are to come, or of a message of its stream.
    pub(super) fn first_unfinished(&self) -> Option<u64> {
        self.requests.first_unfinished()
    }

    /// The priority of what is sent for a request.
    pub(super) fn priority(&self, id: u64) -> Priority {
        self.requests.priority(id)
    }

    /// How many bytes of requests are held, streams left out.
    #[inline]
    pub(super) fn held_bytes(&self) -> u64 {
        self.requests.all_kept().bytes
    }

    /// What is held of streams.
    #[inline]
    pub(super) fn held_in_streams(&self) -> InboxUse {
        self.requests.all_held()
    }

    /// The earliest deadline of all requests that are still wanted.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.requests.deadline()
    }

    /// The highest id that was read.
    pub(super) fn last_id(&self) -> u64 {
        self.requests.last_id()
    }

    /// How many requests wait for their handlers, about.
    pub(super) fn waiting(&self) -> usize {
        self.requests.waiting()
    }

    /// How many requests are open, control calls left out.
    pub(super) fn open_requests(&self) -> usize {
        self.requests.open()
    }

    /// How many handlers run, control calls left out.
    pub(super) fn running(&self) -> usize {
        self.requests.running()
    }

    /// How many calls of the control service are open.
    pub(super) fn control_calls(&self) -> u32 {
        self.requests.control_calls()
    }

    /// True if no request is open, control calls included.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_idle()
    }

    /// True if no request is here, not even the rest of a refused one.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Gives unused memory back.
    pub(super) fn release(&mut self) {
        self.requests.release();
    }

    /// Wakes the tasks that wait for the last request to end, if none is open.
    #[inline]
    pub(super) fn note_drained(&self, wakes: &mut WakeList) {
        if self.requests.open() == 0 {
            wakes.wake(WaitingFor::Drained);
        }
    }

    /// From now on counts what becomes of requests, for a drain's report.
    pub(super) fn start_counting(&mut self) {
        self.is_counting = true;
    }

    /// What became of requests, for the report. Handlers that should have ended and run on count as if they had.
    pub(super) fn tally(&self) -> Tally {
        if !self.is_counting {
            return Tally::default();
        }
        let is_cut = |request: &TheirRequest| request.unwanted == Some(Unwanted::Drained) && !request.control;
        let in_row = self.requests.unwanted_in_row(Unwanted::Drained);
        let one_ways = (self.requests.count(|request| is_cut(request) && request.one_way) + in_row) as u64;
        let calls = self.requests.count(|request| is_cut(request) && !request.one_way) as u64;
        Tally {
            completed: self.tally.completed,
            aborted: self.tally.aborted + calls,
            one_way_dropped: self.tally.one_way_dropped + one_ways,
        }
    }

    /// How many calls and how many one-way requests are here, and how many bytes are kept for their handlers.
    pub(super) fn load(&self) -> (usize, usize, u64) {
        let (in_rows, bytes) = self.requests.in_rows();
        (
            self.requests.count(|request| !request.one_way),
            self.requests.count(|request| request.one_way) + in_rows,
            self.requests.sum(buffered) + bytes,
        )
    }

    /// How many requests were not done at their deadline.
    pub(super) fn missed_deadlines(&self) -> u64 {
        self.missed
    }

    /// Adds all requests to `list`.
    pub(super) fn list(&self, outbox: &Outbox, list: &mut CallList) {
        self.requests.list(outbox, list);
    }

    /// How much of the limits of the peer's requests is used.
    pub(super) fn limit_use(&self, settings: &Settings) -> LimitUse {
        self.requests.limit_use(settings)
    }

    /// The table, for tests.
    #[cfg(any(test, fuzzing))]
    pub(super) fn requests(&self) -> &RequestTable {
        &self.requests
    }

    /// The counts of one-way requests, for tests.
    #[cfg(test)]
    pub(super) fn account(&self) -> &OneWayAccount {
        &self.account
    }
}

/// Calls that nobody has ended count as ended all the same: a runtime that shuts down drops them.
impl Drop for Theirs {
    fn drop(&mut self) {
        self.requests.count_forgotten();
    }
}

/// For which priorities a reply has room.
pub(super) type ReplyRooms = [bool; Priority::ALL.len()];

/// How many bytes of a request are kept for its handler, those of its streams left out.
fn buffered(request: &TheirRequest) -> u64 {
    match &request.stage {
        RequestStage::Receiving(partial) => partial.assembly.kept() as u64,
        RequestStage::Queued(body) => body.payload.len(),
        RequestStage::Discarding(_)
        | RequestStage::Taken
        | RequestStage::Starting(_)
        | RequestStage::Running(_)
        | RequestStage::Withdrawn(_) => 0,
    }
}
