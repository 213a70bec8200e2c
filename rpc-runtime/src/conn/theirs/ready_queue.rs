//! Ready queue: complete requests of the peer, in the order in which their handlers start.

use std::collections::VecDeque;

use crate::Priority;

/// Ids in the order in which they came, one queue per priority, so that one can overtake others that have to wait.
#[derive(Debug, Default)]
pub(in crate::conn) struct ReadyQueue {
    queues: [VecDeque<ReadyEntry>; Priority::ALL.len()],
    /// How many ids there are.
    len: usize,
    /// The number of the next id at the end.
    next: i64,
    /// The number of the next id at the front, further ahead than all others.
    ahead: i64,
}

/// An id in the queue.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct ReadyEntry {
    /// Its place among all that ever came; lower ones are ahead.
    number: i64,
    pub(in crate::conn) id: u64,
}

impl ReadyQueue {
    /// Adds an id at the end.
    pub(in crate::conn) fn push(&mut self, id: u64, priority: Priority) {
        let number = self.next;
        self.next += 1;
        self.len += 1;
        self.queues[priority.rank()].push_back(ReadyEntry { number, id });
    }

    /// Adds an id ahead of all others.
    pub(in crate::conn) fn push_front(&mut self, id: u64, priority: Priority) {
        self.ahead -= 1;
        let number = self.ahead;
        self.len += 1;
        self.queues[priority.rank()].push_front(ReadyEntry { number, id });
    }

    /// Takes the first id among the priorities in `rooms`.
    #[inline]
    pub(in crate::conn) fn pop(&mut self, rooms: [bool; Priority::ALL.len()]) -> Option<ReadyEntry> {
        const NORMAL: usize = Priority::Normal.rank();
        let first = match self.queues[NORMAL].len() == self.len && rooms[NORMAL] {
            // In most cases all have this priority.
            true => self.queues[NORMAL].pop_front(),
            false => self.pop_of_several(rooms),
        };
        self.len -= usize::from(first.is_some());
        first
    }

    fn pop_of_several(&mut self, rooms: [bool; Priority::ALL.len()]) -> Option<ReadyEntry> {
        let with_room = self.queues.iter_mut().zip(rooms).filter(|(_, room)| *room);
        let queues = with_room.filter_map(|(queue, _)| Some((queue.front()?.number, queue)));
        let (_, queue) = queues.min_by_key(|&(number, _)| number)?;
        queue.pop_front()
    }

    /// The first id.
    pub(in crate::conn) fn first(&self) -> Option<u64> {
        let fronts = self.queues.iter().filter_map(VecDeque::front);
        Some(fronts.min_by_key(|entry| entry.number)?.id)
    }

    /// Puts the entry back that was popped last.
    #[inline]
    pub(in crate::conn) fn put_back(&mut self, entry: ReadyEntry, priority: Priority) {
        self.len += 1;
        self.queues[priority.rank()].push_front(entry);
    }

    /// Drops the ids that `keep` does not want.
    pub(in crate::conn) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        for queue in &mut self.queues {
            queue.retain(|place| keep(place.id));
        }
        self.len = self.queues.iter().map(VecDeque::len).sum();
    }

    /// True if there is none.
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops all ids.
    pub(in crate::conn) fn clear(&mut self) {
        self.queues.iter_mut().for_each(VecDeque::clear);
        self.len = 0;
    }

    /// How many there are.
    pub(in crate::conn) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(queue: &mut ReadyQueue, rooms: [bool; 3]) -> Option<u64> {
        queue.pop(rooms).map(|entry| entry.id)
    }

    #[test]
    fn ids_are_taken_in_the_order_in_which_they_came() {
        let mut queue = ReadyQueue::default();
        let priorities = [
            Priority::Bulk,
            Priority::Normal,
            Priority::Control,
            Priority::Bulk,
            Priority::Control,
        ];
        for (id, priority) in (1..).zip(priorities) {
            queue.push(id, priority);
        }
        assert_eq!(pop(&mut queue, [true; 3]), Some(1));
        assert_eq!(
            pop(&mut queue, [true, false, false]),
            Some(3),
            "from behind one that waits"
        );
        assert_eq!(pop(&mut queue, [true; 3]), Some(2));
        assert_eq!(pop(&mut queue, [true, true, false]), Some(5));
        assert_eq!(pop(&mut queue, [true, true, false]), None);
        assert_eq!(queue.len(), 1);
        queue.retain(|id| id != 4);
        assert_eq!(pop(&mut queue, [true; 3]), None);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn ids_of_one_priority_wait_for_its_room() {
        let mut queue = ReadyQueue::default();
        for id in 1..=2 {
            queue.push(id, Priority::Normal);
        }
        assert_eq!(pop(&mut queue, [true, false, true]), None);
        assert_eq!(pop(&mut queue, [true; 3]), Some(1));
        queue.push(3, Priority::Control);
        assert_eq!(pop(&mut queue, [true, false, true]), Some(3));
        assert_eq!(pop(&mut queue, [true; 3]), Some(2));
        assert!(queue.is_empty() && pop(&mut queue, [true; 3]).is_none());
    }

    #[test]
    fn ids_that_were_put_ahead_are_taken_first() {
        let mut queue = ReadyQueue::default();
        for id in 1..=3 {
            queue.push(id, Priority::Bulk);
        }
        queue.push(4, Priority::Control);
        let taken = [pop(&mut queue, [true; 3]), pop(&mut queue, [true; 3])];
        assert_eq!(taken, [Some(1), Some(2)]);
        queue.push_front(2, Priority::Bulk);
        queue.push_front(1, Priority::Bulk);
        let all = std::iter::from_fn(|| pop(&mut queue, [true; 3]));
        assert_eq!(all.collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
