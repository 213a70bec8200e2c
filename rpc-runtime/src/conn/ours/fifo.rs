//! Fifo: one queue of callers that wait for credit, a slot or room, first come, first served.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

use crate::conn::{
    Time,
    ours::credit::CreditClaim,
    wakers::{Woken, set_waker},
};

/// A queue of callers. Only the first may pass, so requests keep the order of their submission.
///
/// Numbers only grow, so a caller is found by bisection; one that leaves from the middle stays as a gap until the gaps
/// are half of the queue.
#[derive(Debug)]
pub(in crate::conn) struct AdmissionQueue {
    waiting: VecDeque<QueuedCaller>,
    gaps: usize,
    next: u64,
    /// How many bytes the messages of all callers have.
    bytes: u64,
}

#[derive(Debug)]
struct QueuedCaller {
    number: u64,
    /// None is a gap.
    claim: Option<CreditClaim>,
    waker: Option<Waker>,
    deadline: Option<Time>,
}

impl AdmissionQueue {
    /// An empty queue that gives numbers from `first` on.
    pub(in crate::conn) const fn new(first: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            gaps: 0,
            next: first,
            bytes: 0,
        }
    }

    /// Lets a caller wait, and returns its number.
    pub(in crate::conn) fn push(
        &mut self,
        claim: CreditClaim,
        deadline: Option<Time>,
        cx: &Context<'_>,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes = self.bytes.saturating_add(claim.len);
        self.waiting.push_back(QueuedCaller {
            number,
            claim: Some(claim),
            waker: Some(cx.waker().clone()),
            deadline,
        });
        number
    }

    /// Renews the waker of a caller; false if it no longer waits here.
    #[must_use]
    pub(in crate::conn) fn renew(&mut self, number: u64, cx: &Context<'_>) -> bool {
        let Some(index) = self.find(number) else {
            return false;
        };
        set_waker(&mut self.waiting[index].waker, cx);
        true
    }

    /// Removes a caller, if it is here; true if another one is the first now, or none is left.
    pub(in crate::conn) fn remove(&mut self, number: u64) -> bool {
        let Some(index) = self.find(number) else {
            return false;
        };
        self.clear(index);
        self.sweep()
    }

    /// Removes and wakes all callers whose deadline has passed. True if the first was one of them.
    pub(in crate::conn) fn expire(&mut self, now: Time, woken: &mut Woken) -> bool {
        for index in 0..self.waiting.len() {
            if self.waiting[index]
                .deadline
                .is_some_and(|deadline| deadline <= now)
            {
                woken.push(self.waiting[index].waker.take());
                self.clear(index);
            }
        }
        self.sweep()
    }

    /// Removes and wakes all callers; they find out why.
    pub(in crate::conn) fn clear_all(&mut self, woken: &mut Woken) {
        for waiting in self.waiting.drain(..) {
            woken.push(waiting.waker);
        }
        self.gaps = 0;
        self.bytes = 0;
    }

    /// The first caller from the place `from` on: its place, and what it wants.
    pub(in crate::conn) fn waiting_from(&self, from: usize) -> Option<(usize, CreditClaim)> {
        let mut waiting = self.waiting.iter().enumerate().skip(from);
        waiting.find_map(|(index, waiting)| Some((index, waiting.claim?)))
    }

    /// Wakes the caller at a place that [`AdmissionQueue::waiting_from`] gave.
    pub(in crate::conn) fn wake(&mut self, index: usize, woken: &mut Woken) {
        woken.push(self.waiting[index].waker.take());
    }

    /// True if it is the turn of `number`, or, without one, of a caller that comes now.
    pub(in crate::conn) fn is_turn(&self, number: Option<u64>) -> bool {
        self.waiting.front().map(|waiting| waiting.number) == number
    }

    /// The earliest deadline of all callers.
    pub(in crate::conn) fn deadline(&self) -> Option<Time> {
        let waiting = self.waiting.iter().filter(|waiting| waiting.claim.is_some());
        waiting.filter_map(|waiting| waiting.deadline).min()
    }

    /// How many wait.
    pub(in crate::conn) fn len(&self) -> usize {
        self.waiting.len() - self.gaps
    }

    /// How many bytes the messages of all callers have.
    pub(in crate::conn) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True if no caller waits.
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn find(&self, number: u64) -> Option<usize> {
        let index = self
            .waiting
            .binary_search_by_key(&number, |waiting| waiting.number)
            .ok()?;
        self.waiting[index].claim.is_some().then_some(index)
    }

    /// Makes a gap; to be followed by `sweep`.
    fn clear(&mut self, index: usize) {
        let waiting = &mut self.waiting[index];
        if let Some(claim) = waiting.claim.take() {
            self.gaps += 1;
            self.bytes = self.bytes.saturating_sub(claim.len);
        }
        waiting.waker = None;
        waiting.deadline = None;
    }

    /// Removes the gaps at the front, and all when they are many, so that the first is always a caller. True if there were
    /// any at the front.
    fn sweep(&mut self) -> bool {
        let mut moved = false;
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.claim.is_none())
        {
            self.waiting.pop_front();
            self.gaps -= 1;
            moved = true;
        }
        if self.gaps > self.waiting.len() / 2 {
            self.waiting.retain(|waiting| waiting.claim.is_some());
            self.gaps = 0;
        }
        moved
    }
}
