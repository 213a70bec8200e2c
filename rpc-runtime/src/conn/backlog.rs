//! Backlog: what waits to be written, and who may add to it.

use super::{
    credit::{Credit, Lane, Wanted},
    fragments::FRAGMENT,
};
use crate::Priority;

/// What waits to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    /// In the output, on its way to the OS.
    pub(super) output: u64,
    /// What remains of messages whose beginning is in the output.
    pub(super) rests: u64,
    /// How much of the output is kept for a fragment of those, because none is in it.
    pub(super) reserved: Option<Priority>,
    /// The highest priority of a message that was cut for lack of room: others are not to overtake it.
    pub(super) cut: Option<Priority>,
    pub(super) high_water: u64,
    pub(super) max_message: u64,
}

impl Backlog {
    /// Whether one more message may join it.
    ///
    /// A message of [`Priority::Control`] waits only for memory. Others wait as long as a fragment is in the output, so
    /// that those find little before them. Rests are counted apart, so that short messages need not wait until a long
    /// one is written; each priority may have one long message more beyond high-water than the one below.
    pub(super) fn has_room(&self, priority: Priority) -> bool {
        let (output, rests) = match priority {
            Priority::Control => (self.high_water, 2 * self.max_message),
            Priority::Normal => (self.short_of_a_fragment(priority), self.max_message),
            Priority::Bulk => (self.short_of_a_fragment(priority), 0),
        };
        let is_behind = priority != Priority::Control && self.cut.is_some_and(|cut| cut <= priority);
        self.output <= output && self.rests <= self.high_water.saturating_add(rests) && !is_behind
    }

    /// For which priorities it has room.
    pub(super) fn rooms(&self) -> [bool; Priority::ALL.len()] {
        Priority::ALL.map(|priority| self.has_room(priority))
    }

    /// How long a frame may be that joins it now.
    pub(super) fn frame_room(&self, priority: Priority) -> usize {
        if priority == Priority::Control {
            return usize::MAX;
        }
        let room = (MOST - self.reserve(priority)).saturating_sub(self.output);
        // As long as there is room at all, it is at least this.
        (room as usize).max(PIECE)
    }

    /// How long the next fragment may be, while messages of these priorities wait for room; 0 if none is to go now.
    pub(super) fn fragment_room(
        &self,
        priority: Priority,
        waiting: Option<Priority>,
        is_behind: bool,
    ) -> usize {
        let is_full = self.output > if is_behind { PIECE as u64 } else { FRAGMENT as u64 };
        if is_full {
            return 0;
        }
        let share = waiting.map_or(MOST as usize, |waiting| share(priority, waiting));
        share.min((MOST - self.output) as usize)
    }

    /// Adds a message.
    pub(super) fn add(&mut self, len: u64, priority: Priority) {
        let first = len.min(FRAGMENT as u64).min(self.frame_room(priority) as u64);
        self.output = self.output.saturating_add(first);
        self.rests = self.rests.saturating_add(len - first);
        if first < len && len <= FRAGMENT as u64 {
            self.cut = Some(self.cut.map_or(priority, |cut| cut.min(priority)));
        }
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.output == 0 && self.rests == 0
    }

    fn short_of_a_fragment(&self, priority: Priority) -> u64 {
        let limit = FRAGMENT as u64 - self.reserve(priority);
        limit.min(self.high_water)
    }

    fn reserve(&self, priority: Priority) -> u64 {
        self.reserved.map_or(0, |rest| share(rest, priority) as u64)
    }
}

/// How much of the output belongs to fragments of one priority while whole messages of another one wait.
const fn share(rest: Priority, whole: Priority) -> usize {
    if rest.rank() < whole.rank() {
        FRAGMENT - PIECE
    } else if rest.rank() == whole.rank() {
        FRAGMENT / 2
    } else {
        PIECE
    }
}

/// What those who wait for credit, a slot or room may have.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) credit: Credit,
    pub(super) backlog: Backlog,
}

impl Passage {
    /// Whether a request may pass now. The few calls of the control service do not wait for room.
    pub(super) fn admits(&self, wanted: Wanted, priority: Priority) -> bool {
        let has_room = wanted.lane == Lane::Control || self.backlog.has_room(priority);
        has_room && self.credit.admits(wanted)
    }

    /// Takes what a request that passes uses up.
    pub(super) fn take(&mut self, wanted: Wanted, priority: Priority) {
        self.credit.take(wanted);
        self.backlog.add(wanted.len, priority);
    }
}

/// The least that is worth a frame of its own, if there is more.
const PIECE: usize = FRAGMENT / 8;
/// The most output that a message of [`Priority::Control`] finds before it, but for others of its kind.
pub(super) const MOST: u64 = (FRAGMENT + PIECE) as u64;
