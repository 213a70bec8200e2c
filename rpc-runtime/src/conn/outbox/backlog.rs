//! Backlog: what waits to be written, and which messages may join it.

use crate::{
    Priority,
    conn::tuning::{FRAGMENT, MAX_BATCH, PIECE, SHORT_MESSAGE},
};

/// What waits to be written.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct Backlog {
    /// In the output, on its way to the OS.
    pub(in crate::conn) output: u64,
    /// How many bytes remain of messages whose beginning is in the output.
    pub(in crate::conn) remaining: u64,
    /// The priority of the remainder for which output is reserved, because no fragment is in it.
    pub(in crate::conn) reserved: Option<Priority>,
    /// The highest priority of a message that was cut because there was no room: others must not overtake it.
    pub(in crate::conn) cut: Option<Priority>,
    /// How much may be on its way to the OS before others wait: [`WriteBatch::len`].
    pub(in crate::conn) batch: u64,
    pub(in crate::conn) high_water: u64,
    pub(in crate::conn) max_message: u64,
    /// True if it is the turn of a long message of the lowest priority.
    pub(in crate::conn) lowest_is_due: bool,
}

/// How much goes to the OS at once while no message goes by that must not wait.
///
/// Long writes fill a fast link best: each short one wakes the reader anew. So the batch grows while the OS takes all that it
/// is offered, and is one fragment again as soon as it does not: then little waits where nothing can overtake it.
#[derive(Debug)]
pub(in crate::conn) struct WriteBatch {
    len: u64,
    /// How much of the stream was with the OS when this was last looked at.
    taken: u64,
}

impl WriteBatch {
    pub(in crate::conn) const fn new() -> Self {
        Self {
            len: FRAGMENT as u64,
            taken: 0,
        }
    }

    /// How long it is.
    pub(in crate::conn) fn len(&self) -> u64 {
        self.len
    }

    /// Notes that the OS has `taken` this many bytes of the stream, and that it was offered more if it is `blocked`.
    pub(in crate::conn) fn note(&mut self, taken: u64, blocked: bool) {
        if blocked {
            self.len = FRAGMENT as u64;
        } else if taken - self.taken >= self.len - PIECE as u64 {
            self.len = (2 * self.len).min(MAX_BATCH);
        }
        self.taken = taken;
    }
}

impl Backlog {
    /// True if one more message of `len` bytes may join it.
    ///
    /// A message of [`Priority::Control`] waits only for memory. Others wait as long as a fragment is in the output, so that
    /// control messages find little before them. Remainders count apart: only long messages wait for them, because short ones
    /// leave none. Each priority may have one long message more beyond high-water than the one below. One turn in eight lets
    /// the lowest priority in above others, so that it comes to its end.
    pub(in crate::conn) fn has_room(&self, priority: Priority, len: u64) -> bool {
        let (output, rests) = match priority {
            Priority::Control => (self.high_water, 2 * self.max_message),
            Priority::Normal => (self.short_of_a_fragment(priority), self.max_message),
            // As much as a message of another priority may just have left.
            Priority::Bulk if self.lowest_is_due => {
                (self.short_of_a_fragment(priority), 2 * self.max_message)
            }
            Priority::Bulk => (self.short_of_a_fragment(priority), 0),
        };
        let is_behind = priority != Priority::Control && self.cut.is_some_and(|cut| cut <= priority);
        let has_rests = len <= SHORT_MESSAGE || self.remaining <= self.high_water.saturating_add(rests);
        self.output <= output && has_rests && !is_behind
    }

    /// Which messages have room.
    pub(in crate::conn) fn rooms(&self) -> Rooms {
        Rooms {
            short: Priority::ALL.map(|priority| self.has_room(priority, 0)),
            long: Priority::ALL.map(|priority| self.has_room(priority, u64::MAX)),
        }
    }

    /// How long a frame may be that joins it now.
    pub(in crate::conn) fn frame_room(&self, priority: Priority) -> usize {
        if priority == Priority::Control {
            return usize::MAX;
        }
        let room = (self.most() - self.reserve(priority)).saturating_sub(self.output);
        // As long as there is room at all, it is at least this.
        (room as usize).max(PIECE)
    }

    /// How long the next fragment may be, while messages of these priorities wait for room; 0 if none is to go now.
    pub(in crate::conn) fn fragment_room(
        &self,
        priority: Priority,
        waiting: Option<Priority>,
        is_behind: bool,
    ) -> usize {
        let before = if is_behind {
            self.most() - FRAGMENT as u64
        } else {
            self.batch
        };
        if self.output > before {
            return 0;
        }
        let most = (self.most() - self.output) as usize;
        waiting.map_or(most, |waiting| most.min(reserved_for(priority, waiting)))
    }

    /// Adds a message.
    pub(in crate::conn) fn add(&mut self, len: u64, priority: Priority) {
        let first = len.min(FRAGMENT as u64).min(self.frame_room(priority) as u64);
        self.output = self.output.saturating_add(first);
        self.remaining = self.remaining.saturating_add(len - first);
        if first < len && len <= FRAGMENT as u64 {
            self.cut = Some(self.cut.map_or(priority, |cut| cut.min(priority)));
        }
    }

    /// True if nothing waits.
    #[cfg(test)]
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.output == 0 && self.remaining == 0
    }

    fn short_of_a_fragment(&self, priority: Priority) -> u64 {
        let limit = self.batch - self.reserve(priority);
        limit.min(self.high_water)
    }

    /// The most output that a message of [`Priority::Control`] finds before it, but for others of its kind.
    fn most(&self) -> u64 {
        self.batch + PIECE as u64
    }

    fn reserve(&self, priority: Priority) -> u64 {
        self.reserved
            .map_or(0, |rest| reserved_for(rest, priority) as u64)
    }
}

/// For which messages there is room, by their priorities. Where there is room for long ones, there is for short ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) struct Rooms {
    pub(in crate::conn) short: [bool; Priority::ALL.len()],
    pub(in crate::conn) long: [bool; Priority::ALL.len()],
}

impl Rooms {
    /// Any message has room.
    pub(in crate::conn) const ALL: Self = Self {
        short: [true; Priority::ALL.len()],
        long: [true; Priority::ALL.len()],
    };

    /// True if there is room for anything that there was none for in `had`.
    pub(in crate::conn) fn has_more(&self, had: &Self) -> bool {
        let pairs = std::iter::zip(had.short, self.short).chain(std::iter::zip(had.long, self.long));
        pairs.into_iter().any(|(had, has)| has && !had)
    }
}

/// How much of the output belongs to fragments of one priority while whole messages of another one wait.
const fn reserved_for(rest: Priority, whole: Priority) -> usize {
    if rest.rank() < whole.rank() {
        FRAGMENT - PIECE
    } else if rest.rank() == whole.rank() {
        FRAGMENT / 2
    } else {
        PIECE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_grows_after_full_writes_and_shrinks_to_one_fragment_after_a_short_write() {
        let mut batch = WriteBatch::new();
        let mut taken = 0;
        let mut lens = Vec::new();
        for _ in 0..5 {
            taken += batch.len();
            batch.note(taken, false);
            lens.push(batch.len() / FRAGMENT as u64);
        }
        assert_eq!(lens, [2, 4, 8, 8, 8]);
        batch.note(taken + 1000, true);
        assert_eq!(batch.len(), FRAGMENT as u64);
    }

    #[test]
    fn short_writes_make_no_batch_longer() {
        let mut batch = WriteBatch::new();
        for taken in 1..100 {
            batch.note(taken * 10_000, false);
        }
        assert_eq!(batch.len(), FRAGMENT as u64);
    }
}
