//! Room waiters: tasks that wait until less output waits to be written.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

use super::backlog::Rooms;
use crate::{
    Priority,
    conn::{
        Time,
        ids::IdMap,
        tuning::{REFUSED_FRAGMENTS, SHORT_MESSAGE, WOKEN_AT_ONCE},
        wakers::Woken,
    },
};

/// Tasks that wait until less output waits to be written: replies, messages of streams, and calls that handlers make.
///
/// They are woken in order, a few at a time, and each that polls makes place for the next: a thousand replies that wait do
/// not wake all their tasks for the room of one. A woken waiter that never polls blocks no other; see
/// [`RoomWaiters::wake_again`].
#[derive(Debug, Default)]
pub(in crate::conn) struct RoomWaiters {
    waiting: IdMap<RoomWaiter>,
    /// The keys of the waiters, short messages and long ones apart; keys without a waiter are skipped.
    queues: Option<Box<KeyQueues>>,
    /// How many of them are long.
    long: usize,
    /// How many bytes their messages have.
    bytes: u64,
    /// How many were woken and have not polled.
    woken: usize,
    /// True if waiters to wake must be looked for.
    news: bool,
    /// For how many more fragments a message of each priority counts as refused.
    refused: [u8; Priority::ALL.len()],
    /// The last key that was given to a waiter without an id.
    next_key: u64,
}

type KeyQueues = [[VecDeque<u64>; 2]; Priority::ALL.len()];

#[derive(Debug)]
struct RoomWaiter {
    waker: Waker,
    deadline: Option<Time>,
    len: u64,
}

impl RoomWaiter {
    fn is_long(&self) -> bool {
        self.len > SHORT_MESSAGE
    }
}

impl RoomWaiters {
    /// The keys of waiters without an id lie above this.
    pub(in crate::conn) const FIRST_KEY: u64 = 1 << 63;

    /// Lets the task of `cx` wait under `key` with a message of `len` bytes.
    pub(in crate::conn) fn wait(
        &mut self,
        key: u64,
        priority: Priority,
        len: u64,
        deadline: Option<Time>,
        cx: &Context<'_>,
    ) {
        self.woken = self.woken.saturating_sub(1);
        self.refused(priority);
        if let Some(waiting) = self.waiting.get_mut(&key) {
            return waiting.waker.clone_from(cx.waker());
        }
        let waker = cx.waker().clone();
        let waiting = RoomWaiter { waker, deadline, len };
        let is_long = waiting.is_long();
        self.long += usize::from(is_long);
        self.bytes = self.bytes.saturating_add(len);
        self.waiting.insert(key, waiting);
        let line = &mut self.queues.get_or_insert_default()[priority.rank()][usize::from(is_long)];
        if line.len() > 2 * self.waiting.len() + WOKEN_AT_ONCE {
            line.retain(|key| self.waiting.contains_key(key));
        }
        line.push_back(key);
    }

    /// A key for a waiter without an id.
    pub(in crate::conn) fn new_key(&mut self) -> u64 {
        self.next_key += 1;
        Self::FIRST_KEY + self.next_key
    }

    /// Removes the waiter of `key`: it has polled, or never will.
    pub(in crate::conn) fn leave(&mut self, key: u64) {
        if self.woken == 0 && self.waiting.is_empty() {
            return;
        }
        self.remove(key);
        self.woken = self.woken.saturating_sub(1);
        self.news = true;
    }

    /// True if a waiter may have to be woken.
    pub(in crate::conn) fn has_news(&self) -> bool {
        self.news
    }

    /// Notes that there is more room.
    pub(in crate::conn) fn note_more(&mut self) {
        self.news = true;
    }

    /// Lets others be woken: not all that were woken last have polled.
    pub(in crate::conn) fn wake_again(&mut self) {
        self.woken = 0;
        self.news = true;
    }

    /// Wakes some waiters that have room.
    pub(in crate::conn) fn wake(&mut self, rooms: &Rooms, woken: &mut Woken) {
        if !std::mem::take(&mut self.news) || self.waiting.is_empty() {
            return;
        }
        for rank in Priority::ALL.map(Priority::rank) {
            for (which, has_room) in [rooms.short[rank], rooms.long[rank]].into_iter().enumerate() {
                while has_room && self.woken < WOKEN_AT_ONCE {
                    let line = self.queues.as_mut().map(|lines| &mut lines[rank][which]);
                    let Some(key) = line.and_then(VecDeque::pop_front) else {
                        break;
                    };
                    if let Some(waiting) = self.remove(key) {
                        self.woken += 1;
                        woken.push(Some(waiting.waker));
                    }
                }
            }
        }
    }

    /// True if a waiter has room.
    pub(in crate::conn) fn would_wake(&self, rooms: &Rooms) -> bool {
        let Some(lines) = &self.queues else {
            return false;
        };
        Priority::ALL.map(Priority::rank).into_iter().any(|rank| {
            let [short, long] = &lines[rank];
            (rooms.short[rank] && !short.is_empty()) || (rooms.long[rank] && !long.is_empty())
        })
    }

    /// How many long messages wait.
    pub(in crate::conn) fn long(&self) -> usize {
        self.long
    }

    fn remove(&mut self, key: u64) -> Option<RoomWaiter> {
        let waiting = self.waiting.remove(&key)?;
        self.long -= usize::from(waiting.is_long());
        self.bytes = self.bytes.saturating_sub(waiting.len);
        Some(waiting)
    }

    /// Wakes all waiters.
    pub(in crate::conn) fn clear(&mut self, woken: &mut Woken) {
        for (_, waiting) in self.waiting.drain() {
            woken.push(Some(waiting.waker));
        }
        *self = Self::default();
    }

    /// Wakes the waiters whose deadline has passed.
    pub(in crate::conn) fn expire(&mut self, now: Time, woken: &mut Woken) {
        let is_due = |waiting: &RoomWaiter| waiting.deadline.is_some_and(|deadline| deadline <= now);
        let due = self.waiting.iter().filter(|(_, waiting)| is_due(waiting));
        let due: Vec<u64> = due.map(|(key, _)| *key).collect();
        for key in due {
            woken.push(self.remove(key).map(|waiting| waiting.waker));
        }
    }

    /// The earliest deadline of all waiters.
    pub(in crate::conn) fn deadline(&self) -> Option<Time> {
        self.waiting.values().filter_map(|waiting| waiting.deadline).min()
    }

    /// True if a task waits under `key`.
    pub(in crate::conn) fn has(&self, key: u64) -> bool {
        self.waiting.contains_key(&key)
    }

    /// How many bytes the messages of all waiters have.
    pub(in crate::conn) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives unused memory back.
    pub(in crate::conn) fn release(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = IdMap::default();
            self.queues = None;
        }
    }

    /// How many wait.
    pub(in crate::conn) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if no task waits.
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Notes that a message of this priority found no room, here or in the admission queues.
    pub(in crate::conn) fn refused(&mut self, priority: Priority) {
        self.refused[priority.rank()] = REFUSED_FRAGMENTS;
    }

    /// The highest priority that lately found no room.
    pub(in crate::conn) fn highest_refused(&self) -> Option<Priority> {
        let is_refused = |priority: &Priority| self.refused[priority.rank()] > 0;
        Priority::ALL.into_iter().find(is_refused)
    }

    /// A fragment went into the output.
    pub(in crate::conn) fn fragment_put(&mut self) {
        for refused in &mut self.refused {
            *refused = refused.saturating_sub(1);
        }
    }
}
