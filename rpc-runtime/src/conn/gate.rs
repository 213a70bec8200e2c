//! Gate: those who wait for credit, a slot or room, first come, first served.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

use super::{
    Time,
    credit::Wanted,
    wakers::{Woken, set_waker},
};

/// A queue of callers. Only the first may pass, so requests keep the order of their submission.
///
/// Numbers only grow, so a caller is found by bisection; one that leaves from the middle stays as a gap until the gaps
/// are half of the queue.
#[derive(Debug)]
pub(super) struct Gate {
    waiting: VecDeque<Waiting>,
    gaps: usize,
    next: u64,
    /// Whether those who can pass now must be looked for, and how far.
    pub(super) news: News,
}

/// What has happened since the gate's callers were last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// Nothing.
    #[default]
    None,
    /// Another caller is the first now.
    First,
    /// There is more of what they wait for.
    More,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// None is a gap.
    wanted: Option<Wanted>,
    waker: Option<Waker>,
    deadline: Option<Time>,
}

impl Gate {
    /// An empty queue that gives numbers from `first` on.
    pub(super) const fn new(first: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            gaps: 0,
            next: first,
            news: News::None,
        }
    }

    /// Lets a caller wait, and returns its number.
    pub(super) fn push(&mut self, wanted: Wanted, deadline: Option<Time>, cx: &Context<'_>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.push_back(Waiting {
            number,
            wanted: Some(wanted),
            waker: Some(cx.waker().clone()),
            deadline,
        });
        number
    }

    /// Renews the waker of a caller; false if it no longer waits here.
    #[must_use]
    pub(super) fn renew(&mut self, number: u64, cx: &Context<'_>) -> bool {
        let Some(index) = self.find(number) else {
            return false;
        };
        set_waker(&mut self.waiting[index].waker, cx);
        true
    }

    /// Lets a caller go, if it is here.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(index) = self.find(number) {
            self.clear(index);
            self.sweep();
        }
    }

    /// Lets all go whose deadline has passed; they are woken to find out.
    pub(super) fn expire(&mut self, now: Time, woken: &mut Woken) {
        for index in 0..self.waiting.len() {
            if self.waiting[index]
                .deadline
                .is_some_and(|deadline| deadline <= now)
            {
                woken.push(self.waiting[index].waker.take());
                self.clear(index);
            }
        }
        self.sweep();
    }

    /// Lets all go; they are woken to find out why.
    pub(super) fn clear_all(&mut self, woken: &mut Woken) {
        for waiting in self.waiting.drain(..) {
            woken.push(waiting.waker);
        }
        self.gaps = 0;
        self.news = News::None;
    }

    /// Notes that something has changed for those who wait.
    pub(super) fn note(&mut self, news: News) {
        if !self.is_empty() {
            self.news = self.news.max(news);
        }
    }

    /// Wakes those who can pass now: as many from the front as `may_pass` lets through, one after the other.
    ///
    /// After a mere change of the first, only that one: the others behind it were woken with it, and whoever came too
    /// early is woken when it has become the first itself.
    pub(super) fn wake(&mut self, woken: &mut Woken, mut may_pass: impl FnMut(Wanted) -> bool) {
        let limit = match std::mem::take(&mut self.news) {
            News::None => return,
            News::First => 1,
            News::More => usize::MAX,
        };
        for waiting in self
            .waiting
            .iter_mut()
            .filter(|waiting| waiting.wanted.is_some())
            .take(limit)
        {
            if !waiting.wanted.is_some_and(&mut may_pass) {
                return;
            }
            woken.push(waiting.waker.take());
        }
    }

    /// Whether it is the turn of `number`, or, without one, of whoever comes now.
    pub(super) fn is_turn(&self, number: Option<u64>) -> bool {
        self.waiting.front().map(|waiting| waiting.number) == number
    }

    /// The earliest deadline of all who wait.
    pub(super) fn deadline(&self) -> Option<Time> {
        let waiting = self.waiting.iter().filter(|waiting| waiting.wanted.is_some());
        waiting.filter_map(|waiting| waiting.deadline).min()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() - self.gaps
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn find(&self, number: u64) -> Option<usize> {
        let index = self
            .waiting
            .binary_search_by_key(&number, |waiting| waiting.number)
            .ok()?;
        self.waiting[index].wanted.is_some().then_some(index)
    }

    /// Makes a gap; to be followed by `sweep`.
    fn clear(&mut self, index: usize) {
        let waiting = &mut self.waiting[index];
        if waiting.wanted.take().is_some() {
            self.gaps += 1;
        }
        waiting.waker = None;
        waiting.deadline = None;
    }

    /// Removes the gaps at the front, and all when they are many: the first is always one who waits.
    fn sweep(&mut self) {
        let mut moved = false;
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.wanted.is_none())
        {
            self.waiting.pop_front();
            self.gaps -= 1;
            moved = true;
        }
        if self.gaps > self.waiting.len() / 2 {
            self.waiting.retain(|waiting| waiting.wanted.is_some());
            self.gaps = 0;
        }
        if moved {
            self.note(News::First);
        }
    }
}
