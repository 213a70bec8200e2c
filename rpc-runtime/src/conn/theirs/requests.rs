//! Requests: the table of what the peer has asked for.

mod running_row;
mod snapshot;

use std::{
    collections::{BTreeSet, VecDeque},
    task::{Context, Poll},
};

pub(super) use self::running_row::EndedInRow;
use self::running_row::RunningRow;
use super::{
    account::Fate,
    ready_queue::{ReadyEntry, ReadyQueue},
    request::{Departure, HandOut, IntakeUse, LeftFrom, RequestBody, RequestStage, TheirRequest, Withdrawn},
    settling::SettleWaiters,
    waiting_rows::{WaitingRow, WaitingRows},
};
use crate::{
    Code, Priority,
    api::server_limit::ServerLimit,
    conn::{
        Arrived, Settings, Time, Unstarted, Unwanted,
        assembly::{Assembly, is_to_copy},
        streams::{flow::Flow, inbox::InboxUse},
        table::Table,
        tuning::CONTROL_CALLS,
        types::{charge, earliest, is_grant_due},
        wakers::{Waiters, Woken},
    },
    metrics::CallCounts,
};

/// The peer's requests.
///
/// A request is here from its first frame until its handler is gone, because only then its slot is free (R4). A one-way
/// request that is refused before its end stays until its last fragment.
#[derive(Debug, Default)]
pub(in crate::conn) struct RequestTable {
    table: Table<TheirRequest>,
    /// Complete requests, and rows of them by their last ids, in the order in which their handlers start.
    queue: ReadyQueue,
    /// One-way requests that came in one frame and were not handed out.
    rows: WaitingRows,
    /// One-way requests that came in one frame and were handed out together.
    running_row: Option<Box<RunningRow>>,
    /// How many ids in the queue are gaps: their requests never start.
    skipped: usize,
    /// How long the queue was when bytes were read last.
    waiting_at_read: usize,
    /// Complete requests behind an unfinished one-way request: a call must see what the one-way requests before it did.
    held: BTreeSet<u64>,
    /// The unfinished one-way requests, in order.
    unfinished: VecDeque<u64>,
    last_id: u64,
    calls: u32,
    call_bytes: u64,
    /// How much all requests hold.
    kept: IntakeUse,
    control_calls: u32,
    /// How many bytes of one-way requests the peer was ever allowed, and how many it has sent: both only grow.
    send_granted: u64,
    send_bytes: u64,
    /// How many bytes came free of one-way requests and were not granted yet.
    owed: u64,
    open: usize,
    running: usize,
    /// True if requests wait until fewer handlers run.
    pub(in crate::conn) held_back: bool,
    streams: InboxUse,
    /// The tasks that wait for requests.
    pub(in crate::conn) takers: Waiters,
    /// True if there is a request that they were not woken for.
    released: bool,
    /// The calls that wait for the end of the one-way requests before them.
    settling: SettleWaiters,
    /// Calls whose REPLY waits for room; ids that are no longer in the table are skipped.
    withdrawn: VecDeque<u64>,
}

impl RequestTable {
    /// No requests.
    pub(in crate::conn) fn new(settings: &Settings) -> Self {
        Self {
            send_granted: settings.send_bytes,
            ..Self::default()
        }
    }

    /// Notes an id that the peer has opened.
    pub(in crate::conn) fn opened(&mut self, id: u64) {
        self.last_id = id;
    }

    /// True if one more call may be open.
    pub(in crate::conn) fn has_room(&self, control: bool, settings: &Settings) -> bool {
        if control {
            self.control_calls < CONTROL_CALLS
        } else {
            self.calls < settings.max_calls && self.call_bytes < settings.call_bytes
        }
    }

    /// The limit because of which no more calls may be open.
    #[cold]
    pub(in crate::conn) fn full(&self, control: bool, settings: &Settings) -> ServerLimit {
        match control {
            true => ServerLimit::Fixed,
            false if self.calls < settings.max_calls => ServerLimit::CallBytes,
            false => ServerLimit::MaxCalls,
        }
    }

    /// Charges a one-way request; false if the peer had no credit.
    #[must_use]
    pub(in crate::conn) fn charge_send(&mut self, len: u64) -> bool {
        let had_credit = self.send_bytes < self.send_granted;
        self.send_bytes = self.send_bytes.saturating_add(charge(len));
        had_credit
    }

    /// Gives the charge of a one-way request back, because it has left.
    pub(in crate::conn) fn release_send(&mut self, charge: u64) {
        self.owed = self.owed.saturating_add(charge);
    }

    /// Takes the credit to grant now.
    pub(in crate::conn) fn take_grant(&mut self, settings: &Settings) -> Option<u64> {
        if !self.is_grant_due(settings) {
            return None;
        }
        let grant = std::mem::take(&mut self.owed);
        self.send_granted = self.send_granted.saturating_add(grant);
        Some(grant)
    }

    /// True if `take_grant` would give anything.
    pub(in crate::conn) fn is_grant_due(&self, settings: &Settings) -> bool {
        is_grant_due(self.owed, settings.send_bytes)
    }

    /// Adds a request; a one-way request is charged already.
    #[inline(always)]
    pub(in crate::conn) fn insert(&mut self, id: u64, request: TheirRequest) {
        match (request.one_way, request.control) {
            (true, _) if matches!(request.stage, RequestStage::Receiving(_)) => self.unfinished.push_back(id),
            (true, _) => {}
            (false, true) => self.control_calls += 1,
            (false, false) => {
                self.calls += 1;
                self.call_bytes = self.call_bytes.saturating_add(request.charge);
            }
        }
        if !request.control && !matches!(request.stage, RequestStage::Discarding(_)) {
            self.open += 1;
        }
        self.kept.add(request.kept);
        self.table.insert(id, || request);
    }

    /// Adds the one-way requests of a packed frame, which are charged already, and lines them up for their handlers.
    pub(super) fn insert_row(&mut self, last_id: u64, row: WaitingRow, woken: &mut Woken) {
        if !row.control {
            self.open += row.left;
        }
        self.kept.add(row.kept());
        self.rows.insert(last_id, row);
        self.enqueue(last_id, woken);
    }

    /// Lines a complete request, or a row, up for its handler.
    pub(in crate::conn) fn enqueue(&mut self, id: u64, woken: &mut Woken) {
        if self.unfinished.is_empty() {
            self.line_up(id);
        } else {
            self.enqueue_in_turn(id);
        }
        if is_to_copy(self.waiting_at_read) {
            if let Some(RequestStage::Queued(body)) = self.table.get_mut(id).map(|request| &mut request.stage)
            {
                body.payload = std::mem::take(&mut body.payload).compact();
            }
            self.rows.compact(id);
        }
        self.takers.wake(woken);
    }

    /// Notes that bytes were read. Requests that came in one read share a buffer, so only earlier ones count as waiting.
    pub(in crate::conn) fn note_read(&mut self) {
        self.waiting_at_read = self.queue.len();
    }

    /// True if `wake_takers` has a task to wake.
    #[inline]
    pub(in crate::conn) fn has_released(&self) -> bool {
        self.released
    }

    /// Wakes the tasks that wait for requests that were released, or for the end of one-way requests.
    #[cold]
    pub(in crate::conn) fn wake_takers(&mut self, woken: &mut Woken) {
        self.released = false;
        self.settling.wake(woken);
        self.takers.wake(woken);
    }

    /// Ready when the one-way requests below call `id` have left that were here at the first poll.
    pub(in crate::conn) fn poll_settled(&mut self, id: u64, cx: &Context<'_>) -> Poll<()> {
        let table = &self.table;
        let in_rows = || self.rows.count(id) + RunningRow::count(self.running_row.as_deref(), id);
        let count = || match table.get(id) {
            // The call itself has left the table.
            None => 0,
            Some(_) => {
                let before = |(other, request): &(u64, &TheirRequest)| request.one_way && *other < id;
                table.iter().filter(before).count() + in_rows()
            }
        };
        self.settling.poll(id, count, cx)
    }

    /// The number of complete requests that wait for their handlers, with the queue's gaps (see `skip`).
    pub(in crate::conn) fn waiting(&self) -> usize {
        self.queue.len() + self.rows.further()
    }

    /// True if the queue of complete requests has entries; they may be gaps (see `skip`).
    pub(in crate::conn) fn is_any_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Hands out the next complete request of a priority that is in `rooms`.
    #[inline]
    pub(in crate::conn) fn take_next(
        &mut self,
        rooms: [bool; Priority::ALL.len()],
        how: HandOut,
    ) -> Option<Arrived> {
        loop {
            let entry = self.queue.pop(rooms)?;
            let id = entry.id;
            let request = self.table.get_mut(id);
            if let Some((control, arrived)) = request.and_then(|request| {
                let arrived = request.take(id, how)?;
                Some((request.control, arrived))
            }) {
                self.running += usize::from(how != HandOut::Asks && !control);
                return Some(arrived);
            }
            if let Some(arrived) = self.take_of_row(entry, how) {
                return Some(arrived);
            }
            self.skipped = self.skipped.saturating_sub(1);
        }
    }

    /// Hands out the next request of a row, if `entry` is one.
    fn take_of_row(&mut self, entry: ReadyEntry, how: HandOut) -> Option<Arrived> {
        let (id, mut request, has_more) = self.rows.take_next(entry.id)?;
        if has_more {
            self.queue.put_back(entry, request.priority);
        }
        let arrived = request.take(id, how)?;
        self.running += usize::from(how != HandOut::Asks && !request.control);
        self.table.insert(id, || request);
        Some(arrived)
    }

    /// Drops the requests of a row that were not handed out; returns how many, and where they are counted.
    pub(super) fn drop_row(&mut self, last_id: u64) -> (usize, Option<&'static CallCounts>) {
        let Some(row) = self.rows.remove(last_id) else {
            return (0, None);
        };
        self.kept.remove(row.kept());
        self.release_send(row.charge());
        if !row.control {
            self.open -= row.left;
        }
        if !self.settling.is_empty() {
            self.released |= self.settling.left(last_id, row.left);
        }
        self.skip(last_id);
        (row.left, row.counts)
    }

    /// The rows that `keep` selects, in their order.
    pub(super) fn select_rows(&self, keep: impl Fn(&WaitingRow) -> bool) -> Vec<u64> {
        self.rows.select(keep)
    }

    /// How many one-way requests wait or run in rows, and how many bytes those have that wait.
    pub(super) fn in_rows(&self) -> (usize, u64) {
        let running = RunningRow::count(self.running_row.as_deref(), u64::MAX);
        (self.rows.count(u64::MAX) + running, self.rows.bytes())
    }

    /// Puts a request whose handler did not start back to the head of the queue. Returns false if its reply is no longer wanted;
    /// then the caller ends it.
    #[must_use]
    pub(in crate::conn) fn take_back(&mut self, arrived: Arrived) -> bool {
        let id = arrived.id.0;
        self.note_not_started(id);
        let Some(request) = self.table.get_mut(id) else {
            return true;
        };
        if request.unwanted.is_some() {
            return false;
        }
        debug_assert!(matches!(request.stage, RequestStage::Taken), "it runs");
        request.stage = RequestStage::Queued(RequestBody {
            metadata: arrived.metadata,
            trace: arrived.trace,
            payload: arrived.payload,
        });
        self.queue.push_front(id, request.priority);
        true
    }

    /// Notes that the handler of a request is polled for the first time; fails if it must not be.
    pub(in crate::conn) fn start(&mut self, id: u64, lacks_memory: bool, now: Time) -> Result<(), Unstarted> {
        let Some(request) = self.table.get_mut(id) else {
            return Err(Unstarted::Unwanted);
        };
        if request.unwanted.is_some() {
            return Err(Unstarted::Unwanted);
        }
        if lacks_memory && !request.one_way && !request.control {
            return Err(Unstarted::Memory);
        }
        match request.stage {
            RequestStage::Taken => {
                request.stage = RequestStage::Running(now);
                self.running += usize::from(!request.control);
            }
            RequestStage::Starting(_) => request.stage = RequestStage::Running(now),
            _ => {}
        }
        Ok(())
    }

    /// Notes when the handler of a request in stage `Starting` was first polled.
    #[inline]
    pub(in crate::conn) fn note_began(&mut self, id: u64, at: Time) {
        if let Some(request) = self.table.get_mut(id) {
            if let RequestStage::Starting(started) = &mut request.stage {
                *started = at;
            }
        }
    }

    /// Notes that the handler of a request in stage `Starting` was not polled: the request is `Taken` again.
    pub(in crate::conn) fn note_not_started(&mut self, id: u64) {
        let request = self.table.get_mut(id);
        if let Some(request) = request.filter(|request| matches!(request.stage, RequestStage::Starting(_))) {
            request.stage = RequestStage::Taken;
            self.running -= usize::from(!request.control);
        }
    }

    /// Removes a request, and frees its slot and its charge: its handler is gone, or never starts.
    pub(in crate::conn) fn remove(&mut self, id: u64) -> Option<TheirRequest> {
        let leaving = self.table.get_mut(id)?.leave(&mut self.streams);
        let request = self.table.remove(id);
        self.left(id, leaving);
        request
    }

    /// As [`RequestTable::remove`], for a request whose handler has ended: wakes the tasks that wait for that, and drops it in
    /// place.
    #[inline]
    pub(in crate::conn) fn finish(&mut self, id: u64, woken: &mut Woken) -> Option<Departure> {
        let streams = &mut self.streams;
        let leaving = self.table.discard_after(id, |request| {
            let leaving = request.leave(streams);
            request.wake(woken);
            leaving
        })?;
        self.left(id, leaving);
        Some(leaving)
    }

    /// Counts a request that has left the table.
    #[inline]
    fn left(&mut self, id: u64, leaving: Departure) {
        let Departure {
            one_way,
            control,
            charge,
            kept,
            at,
            ..
        } = leaving;
        self.kept.remove(kept);
        if !self.settling.is_empty() {
            self.released |= self.settling.left(id, usize::from(one_way));
        }
        match (one_way, control) {
            (true, _) => self.release_send(charge),
            (false, true) => self.control_calls -= 1,
            (false, false) => {
                self.calls -= 1;
                self.call_bytes = self.call_bytes.saturating_sub(charge);
            }
        }
        if !control && at != LeftFrom::Discarding {
            self.open -= 1;
        }
        match at {
            LeftFrom::Running => self.running -= usize::from(!control),
            LeftFrom::Receiving if one_way => {
                self.finish_send(id);
                self.release_held();
            }
            LeftFrom::Queued => self.skip(id),
            _ => {}
        }
    }

    /// Drops an unfinished one-way request; its place stays until its last fragment.
    pub(in crate::conn) fn discard(&mut self, id: u64, fate: Fate) {
        let Some(request) = self.table.get_mut(id) else {
            return;
        };
        if matches!(request.stage, RequestStage::Receiving(_)) {
            request.stage = RequestStage::Discarding(fate);
            self.kept.remove(std::mem::take(&mut request.kept));
            request.deadline = None;
            self.open -= usize::from(!request.control);
            self.finish_send(id);
            self.release_held();
        }
    }

    /// Drops a call that never starts; its place stays until its REPLY has room.
    pub(in crate::conn) fn withdraw(&mut self, id: u64, withdrawn: Withdrawn) {
        let Some(request) = self.table.get_mut(id) else {
            return;
        };
        request.deadline = None;
        self.kept.remove(std::mem::take(&mut request.kept));
        if let Some(mut flow) = request.flow.take() {
            flow.release(&mut self.streams);
        }
        let stage = std::mem::replace(&mut request.stage, RequestStage::Withdrawn(withdrawn));
        if matches!(stage, RequestStage::Queued(_)) {
            self.skip(id);
        }
        self.withdrawn.push_back(id);
    }

    /// Removes the next call whose REPLY waits for room.
    pub(in crate::conn) fn take_withdrawn(&mut self) -> Option<(u64, Withdrawn)> {
        loop {
            let id = self.withdrawn.pop_front()?;
            if let Some(RequestStage::Withdrawn(withdrawn)) = self.table.get(id).map(|request| &request.stage)
            {
                let withdrawn = *withdrawn;
                if let Some(request) = self.remove(id) {
                    request.count_unstarted(withdrawn.code, withdrawn.queue_us);
                }
                return Some((id, withdrawn));
            }
        }
    }

    /// Counts the calls that are left as given up: nobody ends them any more.
    pub(super) fn count_forgotten(&self) {
        for request in self.table.values() {
            request.count_unstarted(Code::Cancelled, 0);
        }
    }

    /// Forgets the REPLYs that wait for room.
    pub(in crate::conn) fn forget_withdrawn(&mut self) {
        self.withdrawn = VecDeque::new();
    }

    /// Marks a handler as unwanted, and wakes it.
    pub(in crate::conn) fn unwant(&mut self, id: u64, unwanted: Unwanted, woken: &mut Woken) {
        let Some(request) = self.table.get_mut(id) else {
            return;
        };
        if request.unwanted.is_none() {
            request.unwanted = Some(unwanted);
            request.waiters.wake(woken);
            if let Some(flow) = &mut request.flow {
                flow.release(&mut self.streams);
                flow.wake(woken);
            }
        }
    }

    /// A request that is open.
    pub(in crate::conn) fn get(&self, id: u64) -> Option<&TheirRequest> {
        self.table.get(id)
    }

    /// A request that is open.
    pub(in crate::conn) fn get_mut(&mut self, id: u64) -> Option<&mut TheirRequest> {
        self.table.get_mut(id)
    }

    /// An open request, and what is held of all streams.
    #[inline]
    pub(in crate::conn) fn entry_mut(&mut self, id: u64) -> Option<(&mut TheirRequest, &mut InboxUse)> {
        let request = self.table.get_mut(id)?;
        Some((request, &mut self.streams))
    }

    /// An open call, and what is held of all streams.
    #[inline]
    pub(in crate::conn) fn call_mut(&mut self, id: u64) -> Option<(&mut TheirRequest, &mut InboxUse)> {
        let request = self.table.get_mut(id).filter(|request| !request.one_way)?;
        Some((request, &mut self.streams))
    }

    /// The streams of a request, and what is held of all.
    pub(in crate::conn) fn flow_mut(&mut self, id: u64) -> Option<(&mut Flow, &mut InboxUse)> {
        let flow = self.table.get_mut(id)?.flow.as_deref_mut()?;
        Some((flow, &mut self.streams))
    }

    /// The request, or the message of its stream, that is being read.
    pub(in crate::conn) fn assembly(&mut self, id: u64) -> Option<&mut Assembly> {
        let request = self.table.get_mut(id)?;
        match &mut request.stage {
            RequestStage::Receiving(partial) => Some(&mut partial.assembly),
            _ => request.flow.as_mut()?.inflow.as_mut()?.assembly_mut(),
        }
    }

    /// The first request with fragments to come, of itself or of a message of its stream.
    pub(in crate::conn) fn first_unfinished(&self) -> Option<u64> {
        let is_unfinished = |request: &TheirRequest| match &request.stage {
            RequestStage::Receiving(_) => true,
            _ => request.flow.as_ref().is_some_and(|flow| flow.is_unfinished()),
        };
        let unfinished = self.table.iter().filter(|(_, request)| is_unfinished(request));
        unfinished.map(|(id, _)| id).min()
    }

    /// Counts a kept fragment of `len` bytes of an unfinished request.
    pub(in crate::conn) fn keep(&mut self, id: u64, len: u64) {
        if let Some(request) = self.table.get_mut(id) {
            request.kept.bytes += len;
            self.kept.bytes += len;
        }
    }

    /// How much requests hold, streams left out.
    #[inline]
    pub(in crate::conn) fn all_kept(&self) -> IntakeUse {
        self.kept
    }

    /// How much streams hold.
    pub(in crate::conn) fn all_held(&self) -> InboxUse {
        self.streams
    }

    /// The priority of what is sent for a request.
    pub(in crate::conn) fn priority(&self, id: u64) -> Priority {
        let row = || self.rows.get(id).map(|row| row.priority);
        let request = self.table.get(id).map(|request| request.priority);
        request.or_else(row).unwrap_or(Priority::Normal)
    }

    /// All requests that `keep` selects.
    pub(in crate::conn) fn select(&self, mut keep: impl FnMut(&TheirRequest) -> bool) -> Vec<u64> {
        let selected = self.table.iter().filter(|(_, request)| keep(request));
        let mut ids: Vec<u64> = selected.map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// The dropped one-way requests whose fragments still come, the fate of each, and where it is counted.
    pub(in crate::conn) fn discarded_sends(&self) -> Vec<(u64, Fate, Option<&'static CallCounts>)> {
        let sends = self.table.iter().filter(|(_, request)| request.one_way);
        sends
            .filter_map(|(id, request)| match request.stage {
                RequestStage::Discarding(fate) => Some((id, fate, request.counts)),
                _ => None,
            })
            .collect()
    }

    /// How many requests `keep` selects.
    pub(in crate::conn) fn count(&self, mut keep: impl FnMut(&TheirRequest) -> bool) -> usize {
        self.table.values().filter(|request| keep(request)).count()
    }

    /// The sum of `what` over all requests.
    pub(in crate::conn) fn sum(&self, what: impl Fn(&TheirRequest) -> u64) -> u64 {
        self.table.values().map(what).sum()
    }

    /// The earliest deadline of all requests that are still wanted.
    pub(in crate::conn) fn deadline(&self) -> Option<Time> {
        let wanted = self.table.values().filter(|request| request.unwanted.is_none());
        earliest([
            wanted.filter_map(|request| request.deadline).min(),
            self.rows.deadline(),
            self.deadline_of_row(),
        ])
    }

    /// The highest id that was read.
    pub(in crate::conn) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// How many requests are open, control calls left out.
    pub(in crate::conn) fn open(&self) -> usize {
        self.open
    }

    /// How many handlers were polled and are not gone, control calls left out.
    pub(in crate::conn) fn running(&self) -> usize {
        self.running
    }

    /// How many calls of the control service are open.
    pub(in crate::conn) fn control_calls(&self) -> u32 {
        self.control_calls
    }

    /// True if no request is open, control calls included.
    pub(in crate::conn) fn is_idle(&self) -> bool {
        self.open == 0 && self.control_calls == 0
    }

    /// True if the table is empty, refused requests included.
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.rows.is_empty() && self.running_row.is_none()
    }

    /// Gives unused memory back.
    pub(in crate::conn) fn release(&mut self) {
        if self.is_empty() {
            self.table = Table::default();
            self.rows = WaitingRows::default();
            self.queue = ReadyQueue::default();
            self.skipped = 0;
            self.unfinished = VecDeque::new();
            self.withdrawn = VecDeque::new();
        }
    }

    fn line_up(&mut self, id: u64) {
        let priority = self.priority(id);
        self.queue.push(id, priority);
    }

    /// Lines a complete request up behind the unfinished one-way requests before it; it may have been one of them. Calls of
    /// the control service do not wait.
    fn enqueue_in_turn(&mut self, id: u64) {
        self.finish_send(id);
        let is_control = self.table.get(id).is_some_and(|request| request.control);
        let goes_ahead = is_control || self.priority(id) == Priority::Control;
        match self.unfinished.front() {
            Some(&first) if first < id && !goes_ahead => {
                self.held.insert(id);
            }
            _ => self.line_up(id),
        }
        self.release_held();
    }

    /// Notes that a one-way request is complete, or never will be.
    fn finish_send(&mut self, id: u64) {
        if let Ok(index) = self.unfinished.binary_search(&id) {
            self.unfinished.remove(index);
        }
    }

    /// Lines up the requests that no longer stand behind an unfinished one-way request.
    fn release_held(&mut self) {
        while let Some(&id) = self.held.first() {
            if self.unfinished.front().is_some_and(|&first| first < id) {
                return;
            }
            self.held.pop_first();
            self.line_up(id);
            self.released = true;
        }
    }

    /// Makes a gap in the queue for a complete request that never starts, until gaps are half of the queue. To search its
    /// place would let a flood of cancels cost much.
    fn skip(&mut self, id: u64) {
        if self.held.remove(&id) {
            return;
        }
        self.skipped += 1;
        if self.skipped >= self.queue.len() {
            // No task may come any more to take what is left.
            self.queue.clear();
            self.skipped = 0;
        } else if self.skipped > 32 && self.skipped > self.queue.len() / 2 {
            let (table, rows) = (&self.table, &self.rows);
            let is_queued = |id| {
                let request = table.get(id).map(|request: &TheirRequest| &request.stage);
                matches!(request, Some(RequestStage::Queued(_))) || rows.get(id).is_some()
            };
            self.queue.retain(is_queued);
            self.skipped = 0;
        }
    }

    /// How much memory is held for an unfinished request.
    #[cfg(test)]
    pub(in crate::conn) fn assembled(&self, id: u64) -> usize {
        match self.table.get(id).map(|request| &request.stage) {
            Some(RequestStage::Receiving(partial)) => partial.assembly.capacity(),
            _ => 0,
        }
    }

    /// How many requests there is memory for.
    #[cfg(test)]
    pub(in crate::conn) fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// How much is kept beside the table.
    #[cfg(any(test, fuzzing))]
    pub(in crate::conn) fn kept(&self) -> usize {
        self.queue.len()
            + self.held.len()
            + self.unfinished.len()
            + self.withdrawn.len()
            + self.settling.len()
            + self.rows.len()
            + usize::from(self.running_row.is_some())
    }

    /// How long the queue is, gaps included.
    #[cfg(test)]
    pub(in crate::conn) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many requests are here, what the calls among them are charged, and what the peer lacks of its credit for
    /// one-way requests.
    #[cfg(any(test, fuzzing))]
    pub(in crate::conn) fn held(&self, settings: &Settings) -> (usize, u64, i128) {
        let balance = i128::from(self.send_granted) - i128::from(self.send_bytes);
        let lacking = i128::from(settings.send_bytes) - balance - i128::from(self.owed);
        (self.table.len(), self.call_bytes, lacking)
    }

    /// How many bytes of one-way requests the peer may ever send, and how many it has sent.
    #[cfg(test)]
    pub(in crate::conn) fn send_credit(&self) -> (u64, u64) {
        (self.send_granted, self.send_bytes)
    }
}
