//! Rotation: which priority is next, so that the higher ones go first and the lower ones go on.

use crate::{Priority, conn::tuning::PATIENCE};

/// Which priority is next: the highest that can go, save that one turn in eight is of a lower one that waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::conn) struct Rotation {
    /// How many turns each has let go by, since its last, while it could have gone.
    waited: [u8; Priority::ALL.len()],
}

impl Rotation {
    /// The priority whose turn it is, among those in `ready`.
    pub(in crate::conn) fn next(&self, ready: [bool; Priority::ALL.len()]) -> Option<Priority> {
        let can_go = |priority: &Priority| ready[priority.rank()];
        let is_due = |priority: &Priority| self.waited[priority.rank()] >= PATIENCE;
        let mut lowest_first = Priority::ALL.into_iter().rev().filter(can_go);
        let due = lowest_first.find(is_due);
        due.or_else(|| Priority::ALL.into_iter().find(can_go))
    }

    /// Notes that `taken` has had a turn; the priorities in `ready` could have had it.
    pub(in crate::conn) fn served(&mut self, taken: Priority, ready: [bool; Priority::ALL.len()]) {
        for lower in Priority::ALL.into_iter().skip(taken.rank() + 1) {
            if ready[lower.rank()] {
                let waited = &mut self.waited[lower.rank()];
                *waited = (*waited + 1).min(PATIENCE);
            }
        }
        self.waited[taken.rank()] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The priorities that have turns if those in `ready` always could.
    fn turns(ready: [bool; 3], count: usize) -> Vec<Priority> {
        let mut turns = Rotation::default();
        let mut taken = Vec::new();
        for _ in 0..count {
            let next = turns.next(ready).unwrap();
            turns.served(next, ready);
            taken.push(next);
        }
        taken
    }

    #[test]
    fn the_highest_priority_goes_first_and_a_lower_one_gets_one_turn_in_eight() {
        for (ready, high, low) in [
            ([true, true, false], Priority::Control, Priority::Normal),
            ([true, false, true], Priority::Control, Priority::Bulk),
            ([false, true, true], Priority::Normal, Priority::Bulk),
        ] {
            let taken = turns(ready, 16);
            assert_eq!(taken[..7], [high; 7]);
            assert_eq!(taken[7], low);
            assert_eq!(taken[8..15], [high; 7]);
            assert_eq!(taken[15], low);
        }
    }

    #[test]
    fn all_three_priorities_make_progress() {
        let taken = turns([true; 3], 80);
        let count = |wanted| taken.iter().filter(|&&priority| priority == wanted).count();
        assert!(count(Priority::Control) >= 60, "{taken:?}");
        assert!(count(Priority::Normal) >= 8, "{taken:?}");
        assert!(count(Priority::Bulk) >= 8, "{taken:?}");
    }

    #[test]
    fn a_priority_that_cannot_go_collects_no_turns() {
        let mut turns = Rotation::default();
        for _ in 0..20 {
            turns.served(Priority::Normal, [false, true, false]);
        }
        assert_eq!(turns.next([false, true, true]), Some(Priority::Normal));
        assert_eq!(turns.next([false; 3]), None);
    }
}
