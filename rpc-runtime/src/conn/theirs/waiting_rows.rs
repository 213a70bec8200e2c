//! Waiting rows: one-way requests that came in one frame, and wait for their handlers.

use std::fmt;

use super::request::{IntakeUse, RequestBody, RequestStage, TheirRequest};
use crate::{
    Metadata, Priority,
    conn::{Time, ids::IdMap, wakers::Waiters},
    metrics::CallCounts,
    wire::frame::{Encoded, row::Row},
};

/// The one-way requests that wait in the rows of packed frames. A row has the id of its last request as its key.
///
/// Each becomes a request of its own when it is handed out, and not before: otherwise a frame of 64 KiB could make tens of
/// thousands of records.
#[derive(Debug, Default)]
pub(super) struct WaitingRows {
    rows: IdMap<WaitingRow>,
    /// How many requests wait, besides one for each row.
    further: usize,
}

/// The one-way requests of a packed frame that were not handed out yet.
pub(super) struct WaitingRow {
    pub(super) procedure: u64,
    pub(super) control: bool,
    pub(super) depth: u8,
    pub(super) priority: Priority,
    pub(super) deadline: Option<Time>,
    /// When the frame was read.
    pub(super) at: Time,
    /// The id of the next request.
    pub(super) next: u64,
    /// How many requests are left.
    pub(super) left: usize,
    /// What the frame is charged beside its payload; the next request takes that over.
    pub(super) overhead: u64,
    pub(super) row: Row,
    /// Where the requests are counted; none if they are not.
    pub(super) counts: Option<&'static CallCounts>,
}

impl WaitingRow {
    /// What is left of the charge of the frame, which is what the row holds, too.
    pub(super) fn charge(&self) -> u64 {
        self.row.len() as u64 + self.overhead
    }

    /// The bytes that it holds.
    pub(super) fn kept(&self) -> IntakeUse {
        IntakeUse {
            bytes: self.charge(),
            metadata: 0,
        }
    }

    /// Drops the next `count` requests, which it has; returns their part of the charge.
    pub(super) fn skip(&mut self, count: usize) -> u64 {
        let before = self.charge();
        self.overhead = 0;
        self.next += 2 * count as u64;
        self.left -= count;
        if self.left == 0 {
            self.row = Row::default();
        } else {
            for _ in 0..count {
                // The lengths were checked when the frame was read.
                let _ = self.row.read(|_| ());
            }
        }
        before - self.charge()
    }

    /// Makes the next request a request of its own, with its part of the charge.
    pub(super) fn take(&mut self) -> Option<(u64, TheirRequest)> {
        let before = self.charge();
        // The lengths were checked when the frame was read.
        let message = self.row.take().ok().flatten()?;
        self.overhead = 0;
        let part = before - self.charge();
        let id = self.next;
        self.next += 2;
        self.left -= 1;
        let body = RequestBody {
            metadata: Metadata::new(),
            trace: None,
            payload: Encoded::plain(message),
        };
        let request = TheirRequest {
            one_way: true,
            control: self.control,
            procedure: self.procedure,
            depth: self.depth,
            priority: self.priority,
            stage: RequestStage::Queued(body),
            unwanted: None,
            waiters: Waiters::default(),
            deadline: self.deadline,
            charge: part,
            kept: IntakeUse {
                bytes: part,
                metadata: 0,
            },
            at: self.at,
            flow: None,
            counts: self.counts,
        };
        Some((id, request))
    }
}

impl WaitingRows {
    /// Adds a row.
    pub(super) fn insert(&mut self, last_id: u64, row: WaitingRow) {
        self.further += row.left - 1;
        self.rows.insert(last_id, row);
    }

    /// Makes the next request of a row a request of its own; returns it, and whether more are left.
    #[inline]
    pub(super) fn take_next(&mut self, last_id: u64) -> Option<(u64, TheirRequest, bool)> {
        let row = self.rows.get_mut(&last_id)?;
        let (id, request) = row.take()?;
        let has_more = row.left > 0;
        if has_more {
            self.further -= 1;
        } else {
            self.rows.remove(&last_id);
        }
        Some((id, request, has_more))
    }

    /// Takes out a row.
    pub(super) fn remove(&mut self, last_id: u64) -> Option<WaitingRow> {
        let row = self.rows.remove(&last_id)?;
        self.further -= row.left - 1;
        Some(row)
    }

    /// A row.
    pub(super) fn get(&self, last_id: u64) -> Option<&WaitingRow> {
        self.rows.get(&last_id)
    }

    /// Copies a short row, so that it no longer keeps the read buffer alive that it may be a slice of.
    pub(super) fn compact(&mut self, last_id: u64) {
        if let Some(row) = self.rows.get_mut(&last_id) {
            row.row.compact();
        }
    }

    /// The rows that `keep` selects, in their order.
    pub(super) fn select(&self, keep: impl Fn(&WaitingRow) -> bool) -> Vec<u64> {
        let selected = self.rows.iter().filter(|(_, row)| keep(row));
        let mut ids: Vec<u64> = selected.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// All rows.
    pub(super) fn all(&self) -> impl Iterator<Item = &WaitingRow> {
        self.rows.values()
    }

    /// How many requests wait in rows before the id `before`.
    pub(super) fn count(&self, before: u64) -> usize {
        let rows = self.rows.iter().filter(|(id, _)| **id < before);
        rows.map(|(_, row)| row.left).sum()
    }

    /// How many bytes the requests have.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.values().map(|row| row.row.len() as u64).sum()
    }

    /// The earliest deadline.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.rows.values().filter_map(|row| row.deadline).min()
    }

    /// How many requests wait in rows, besides one for each row.
    pub(super) fn further(&self) -> usize {
        self.further
    }

    /// How many rows there are.
    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Shows lengths, never the bytes.
impl fmt::Debug for WaitingRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} requests from {}, {:?}]", self.left, self.next, self.row)
    }
}
