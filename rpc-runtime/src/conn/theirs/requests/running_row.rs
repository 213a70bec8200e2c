//! Running row: the one-way requests of a packed frame whose handlers run one after the other, without a record of each.

use super::{
    super::{
        request::{IntakeUse, RequestStage, TheirRequest},
        waiting_rows::WaitingRow,
    },
    RequestTable,
};
use crate::{
    Priority,
    conn::{
        ArrivedRow, CallId, Time, Unwanted,
        wakers::{Waiters, Woken},
    },
    metrics::CallCounts,
};

/// The one-way requests of a packed frame that were handed out together.
///
/// Most handlers end at their first poll, so their requests are counted together. A request gets a record of its own when its handler is
/// pending, fails, or does not return.
#[derive(Debug)]
pub(in crate::conn) struct RunningRow {
    /// The requests that may not have ended.
    pub(super) row: WaitingRow,
    last_id: u64,
    /// Since when they count as executed, one after the other.
    pub(super) since: Time,
    pub(super) unwanted: Option<Unwanted>,
    /// Requests with a record for the tasks that wait until they are unwanted. They end with those of the row around them.
    watched: Vec<u64>,
}

/// How many requests of the running row have ended well, and where they are counted.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::conn::theirs) struct EndedInRow {
    pub(in crate::conn::theirs) count: u64,
    pub(in crate::conn::theirs) counts: Option<&'static CallCounts>,
}

impl RunningRow {
    fn has(&self, id: u64) -> bool {
        id >= self.row.next && id <= self.last_id && (id - self.row.next) % 2 == 0
    }

    /// How many requests of the running row, if there is one, are before the id `before`, beside those in the table.
    pub(super) fn count(running: Option<&Self>, before: u64) -> usize {
        let running = running.filter(|running| running.last_id < before);
        running.map_or(0, Self::unlisted)
    }

    /// How many requests it has that the table does not count.
    pub(super) fn unlisted(&self) -> usize {
        self.row.left - self.watched.len()
    }
}

/// The running row. A connection has one at most.
impl RequestTable {
    /// The row that is next, if a row is.
    #[inline]
    pub(in crate::conn::theirs) fn next_row(&self) -> Option<&WaitingRow> {
        if self.rows.is_empty() {
            return None;
        }
        self.rows.get(self.queue.first()?)
    }

    /// Hands out all requests of the row that is next: their handlers start one after the other.
    pub(in crate::conn::theirs) fn take_row(&mut self, now: Time) -> Option<ArrivedRow> {
        debug_assert!(self.running_row.is_none(), "the row before it has not ended");
        let last_id = self.queue.first()?;
        let row = self.rows.remove(last_id)?;
        self.queue.pop([true; Priority::ALL.len()]);
        self.running += usize::from(!row.control);
        let arrived = ArrivedRow {
            first: CallId(row.next),
            depth: row.depth,
            deadline: row.deadline,
            row: row.row.clone(),
        };
        self.running_row = Some(Box::new(RunningRow {
            row,
            last_id,
            since: now,
            unwanted: None,
            watched: Vec::new(),
        }));
        Some(arrived)
    }

    /// Notes that the requests of the running row below `next` have ended well, those left out that have left the row; returns how
    /// many, and where they are counted.
    pub(in crate::conn::theirs) fn advance_row(&mut self, next: u64, woken: &mut Woken) -> EndedInRow {
        let Some(running) = &mut self.running_row else {
            return EndedInRow::default();
        };
        let row = &mut running.row;
        let counts = row.counts;
        let ended = next.saturating_sub(row.next) / 2;
        let count = usize::try_from(ended).map_or(row.left, |ended| row.left.min(ended));
        if count == 0 {
            return EndedInRow::default();
        }
        let charge = row.skip(count);
        let (next, is_control) = (row.next, row.control);
        let watched = &mut running.watched;
        let table = &mut self.table;
        watched.retain(|&id| {
            let has_ended = id < next;
            if let Some(mut request) = has_ended.then(|| table.remove(id)).flatten() {
                request.wake(woken);
            }
            !has_ended
        });
        self.kept.remove(IntakeUse {
            bytes: charge,
            metadata: 0,
        });
        self.release_send(charge);
        self.open -= if is_control { 0 } else { count };
        if !self.settling.is_empty() {
            self.released |= self.settling.left(next - 2, count);
        }
        EndedInRow {
            count: count as u64,
            counts,
        }
    }

    /// Gives request `id` of the running row a record of its own: it runs, and those before it have ended well. Returns how many those
    /// are. Changes nothing if the request has left the row.
    pub(in crate::conn::theirs) fn part_from_row(&mut self, id: u64, woken: &mut Woken) -> EndedInRow {
        if !self.running_row.as_ref().is_some_and(|running| running.has(id)) {
            return EndedInRow::default();
        }
        let ended = self.advance_row(id, woken);
        let Some(running) = &mut self.running_row else {
            return ended;
        };
        let Some((id, mut request)) = running.row.take() else {
            return ended;
        };
        request.stage = RequestStage::Running(running.since);
        request.unwanted = running.unwanted;
        if let Some(at) = running.watched.iter().position(|&watched| watched == id) {
            running.watched.swap_remove(at);
            if let Some(watched) = self.table.remove(id) {
                request.waiters = watched.waiters;
            }
        }
        self.running += usize::from(!request.control);
        self.table.insert(id, || request);
        ended
    }

    /// Ends the running row. What is left of it is next again; returns its last id and why it is unwanted, if it is.
    pub(in crate::conn::theirs) fn put_row_back(&mut self) -> Option<(u64, Unwanted)> {
        let RunningRow {
            row,
            last_id,
            unwanted,
            watched,
            ..
        } = *self.running_row.take()?;
        debug_assert!(
            watched.is_empty(),
            "a task waits for a handler that has not begun"
        );
        self.running -= usize::from(!row.control);
        if row.left == 0 {
            return None;
        }
        let priority = row.priority;
        self.rows.insert(last_id, row);
        self.queue.push_front(last_id, priority);
        unwanted.map(|unwanted| (last_id, unwanted))
    }

    /// Why a request is unwanted, also one of the running row; `Disconnected` if it is not here.
    pub(in crate::conn::theirs) fn unwanted(&self, id: u64) -> Option<Unwanted> {
        match self.table.get(id) {
            Some(request) => request.unwanted,
            None => match self.running_row.as_deref().filter(|running| running.has(id)) {
                Some(running) => running.unwanted,
                None => Some(Unwanted::Disconnected),
            },
        }
    }

    /// A request, also one of the running row: that gets a record, so that tasks can wait until it is unwanted.
    pub(in crate::conn::theirs) fn watched_mut(&mut self, id: u64) -> Option<&mut TheirRequest> {
        if let Some(running) = self.running_row.as_mut().filter(|running| running.has(id)) {
            if self.table.get(id).is_none() {
                running.watched.push(id);
                let row = &running.row;
                let request = TheirRequest {
                    one_way: true,
                    control: row.control,
                    procedure: row.procedure,
                    depth: row.depth,
                    priority: row.priority,
                    stage: RequestStage::Running(running.since),
                    unwanted: running.unwanted,
                    waiters: Waiters::default(),
                    deadline: row.deadline,
                    charge: 0,
                    kept: IntakeUse::default(),
                    at: row.at,
                    flow: None,
                    counts: None,
                };
                self.table.insert(id, || request);
            }
        }
        self.table.get_mut(id)
    }

    /// Marks the running row as unwanted if `is_to_end` says so; its pending handlers, and those of the rest, end then.
    pub(in crate::conn::theirs) fn unwant_row(
        &mut self,
        unwanted: Unwanted,
        is_to_end: impl FnOnce(&WaitingRow) -> bool,
    ) {
        if let Some(running) = &mut self.running_row {
            if running.unwanted.is_none() && is_to_end(&running.row) {
                running.unwanted = Some(unwanted);
            }
        }
    }

    /// How many requests of the running row end with it if it is unwanted for this reason, beside those in the table.
    pub(in crate::conn::theirs) fn unwanted_in_row(&self, unwanted: Unwanted) -> usize {
        let running = self.running_row.as_deref();
        let running = running.filter(|running| running.unwanted == Some(unwanted) && !running.row.control);
        running.map_or(0, RunningRow::unlisted)
    }

    /// The deadline of the running row, while it is wanted.
    pub(super) fn deadline_of_row(&self) -> Option<Time> {
        let running = self.running_row.as_deref();
        running.filter(|running| running.unwanted.is_none())?.row.deadline
    }
}
