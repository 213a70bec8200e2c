//! Next call: which of the waiting callers goes next. One queue for each priority.

use std::task::Context;

use super::{
    capacity::Capacity,
    credit::{CreditClaim, RequestKind},
    fifo::AdmissionQueue,
};
use crate::{
    Priority,
    conn::{Time, outbox::rotation::Rotation, types::earliest, wakers::Woken},
};

/// One queue for each priority, and one for the calls of the control service, which have credit of their own.
///
/// In each queue, the first goes first. Of the queues, control goes before normal, and normal before bulk; one turn in eight
/// goes to a lower priority that waits. Calls of [`Priority::Control`] wait only for earlier calls of their own queue.
#[derive(Debug)]
pub(in crate::conn) struct AdmissionQueues {
    /// None until the first caller waits.
    queues: Option<Box<QueuesByClass>>,
    rotation: Rotation,
    /// How far to look for callers that can pass now.
    news: Recheck,
}

#[derive(Debug)]
struct QueuesByClass {
    service: AdmissionQueue,
    ordinary: [AdmissionQueue; Priority::ALL.len()],
}

/// What has happened since the queue's callers were last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::conn) enum Recheck {
    /// Nothing.
    #[default]
    None,
    /// A queue has another first caller, or it is another queue's turn: one caller is woken.
    First,
    /// There is more credit or room.
    More,
}

/// The class in which a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum QueueClass {
    /// Of the calls of the control service.
    Service,
    /// Of a priority.
    Of(Priority),
}

impl QueueClass {
    /// The class of a request.
    pub(in crate::conn) fn new(kind: RequestKind, priority: Priority) -> Self {
        match kind {
            RequestKind::Control => Self::Service,
            RequestKind::Call | RequestKind::Send => Self::Of(priority),
        }
    }

    /// The lowest ticket number of this class: a number tells the queue.
    const fn first(self) -> u64 {
        match self {
            Self::Service => 0,
            Self::Of(priority) => (1 + priority.rank() as u64) * TICKETS_PER_QUEUE,
        }
    }
}

impl AdmissionQueues {
    /// Empty queues.
    pub(in crate::conn) fn new() -> Self {
        Self {
            queues: None,
            rotation: Rotation::default(),
            news: Recheck::None,
        }
    }

    /// True if a request may go now. `ticket` is its place in a queue, none if it is new.
    pub(in crate::conn) fn may_pass(
        &self,
        class: QueueClass,
        ticket: Option<u64>,
        claim: CreditClaim,
        capacity: &Capacity,
    ) -> bool {
        match class {
            QueueClass::Service => self.is_turn(class, ticket) && capacity.admits(claim, Priority::Control),
            QueueClass::Of(priority) => {
                self.is_turn(class, ticket)
                    && capacity.admits(claim, priority)
                    && (!self.has_ordinary() || self.next(self.ready(priority, capacity)) == Some(priority))
            }
        }
    }

    /// Notes that a request goes: removes its ticket, and counts its turn.
    pub(in crate::conn) fn pass(&mut self, class: QueueClass, ticket: Option<u64>, capacity: &Capacity) {
        if let Some(number) = ticket {
            self.remove(number);
        }
        if let (QueueClass::Of(priority), true) = (class, self.has_ordinary()) {
            self.rotation.served(priority, self.ready(priority, capacity));
            // It may be the turn of another priority now.
            self.note(Recheck::First);
        }
    }

    /// Lets a caller wait, and returns its ticket; `None` if `max` wait in its class already.
    pub(in crate::conn) fn push(
        &mut self,
        class: QueueClass,
        claim: CreditClaim,
        max: usize,
        deadline: Option<Time>,
        cx: &Context<'_>,
    ) -> Option<u64> {
        let queues = self.queues.get_or_insert_with(|| Box::new(QueuesByClass::new()));
        let queue = queues.of_mut(class);
        (queue.len() < max).then(|| queue.push(claim, deadline, cx))
    }

    /// Renews the waker of a caller; false if it no longer waits here.
    #[must_use]
    pub(in crate::conn) fn renew(&mut self, number: u64, cx: &Context<'_>) -> bool {
        let queue = self.queues.as_mut().map(|queues| queues.that_gave(number));
        queue.is_some_and(|queue| queue.renew(number, cx))
    }

    /// Removes a caller that gives up, if it is here.
    pub(in crate::conn) fn remove(&mut self, number: u64) {
        let queue = self.queues.as_mut().map(|queues| queues.that_gave(number));
        if queue.is_some_and(|queue| queue.remove(number)) {
            self.note(Recheck::First);
        }
    }

    /// Removes and wakes all callers whose deadline has passed.
    pub(in crate::conn) fn expire(&mut self, now: Time, woken: &mut Woken) {
        let mut moved = false;
        for queue in self.all_mut() {
            moved |= queue.expire(now, woken);
        }
        if moved {
            self.note(Recheck::First);
        }
    }

    /// Removes and wakes all callers. Each polls again, and gets the reason there.
    pub(in crate::conn) fn clear_all(&mut self, woken: &mut Woken) {
        self.all_mut().for_each(|queue| queue.clear_all(woken));
        self.news = Recheck::None;
    }

    /// True if a caller may have to be woken.
    pub(in crate::conn) fn has_news(&self) -> bool {
        self.news != Recheck::None
    }

    /// Notes that there is more credit or room.
    pub(in crate::conn) fn note_more(&mut self) {
        self.note(Recheck::More);
    }

    /// Wakes, in their order, as many callers as `capacity` lets through.
    ///
    /// If only the first has changed, one is enough: the others were woken when there was more room.
    pub(in crate::conn) fn wake(&mut self, woken: &mut Woken, capacity: impl FnOnce() -> Capacity) {
        let limit = match std::mem::take(&mut self.news) {
            Recheck::None => return,
            Recheck::First => 1,
            Recheck::More => usize::MAX,
        };
        if self.is_empty() {
            return;
        }
        let Some(queues) = &mut self.queues else { return };
        let mut capacity = capacity();
        queues.wake_service(woken, &mut capacity, limit);
        let mut rotation = self.rotation;
        let mut places = [0; Priority::ALL.len()];
        for _ in 0..limit {
            let firsts = Priority::ALL.map(|priority| {
                let queue = &queues.ordinary[priority.rank()];
                let first = queue.waiting_from(places[priority.rank()]);
                first.filter(|&(_, claim)| capacity.admits(claim, priority))
            });
            let ready = firsts.map(|first| first.is_some());
            let Some(priority) = next(&rotation, ready) else {
                return;
            };
            let Some((index, claim)) = firsts[priority.rank()] else {
                return;
            };
            rotation.served(priority, ready);
            capacity.take(claim, priority);
            queues.ordinary[priority.rank()].wake(index, woken);
            places[priority.rank()] = index + 1;
        }
    }

    /// The earliest deadline of all callers.
    pub(in crate::conn) fn deadline(&self) -> Option<Time> {
        let QueuesByClass {
            service,
            ordinary: [control, normal, bulk],
        } = &**self.queues.as_ref()?;
        earliest([
            service.deadline(),
            control.deadline(),
            normal.deadline(),
            bulk.deadline(),
        ])
    }

    /// How many wait.
    pub(in crate::conn) fn len(&self) -> usize {
        let queues = self.queues.iter();
        let lens = queues.map(|queues| {
            queues.service.len() + queues.ordinary.iter().map(AdmissionQueue::len).sum::<usize>()
        });
        lens.sum()
    }

    /// How many bytes the messages of all callers have.
    pub(in crate::conn) fn bytes(&self) -> u64 {
        let queues = self.queues.iter();
        let of_all = queues.flat_map(|queues| std::iter::once(&queues.service).chain(&queues.ordinary));
        of_all.map(AdmissionQueue::bytes).sum()
    }

    /// True if no caller waits.
    #[inline]
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.is_empty())
    }

    /// True if a caller of an ordinary request waits: of one that is no call of the control service.
    pub(in crate::conn) fn has_ordinary(&self) -> bool {
        self.queues.as_ref().is_some_and(|queues| queues.has_ordinary())
    }

    fn is_turn(&self, class: QueueClass, ticket: Option<u64>) -> bool {
        match &self.queues {
            Some(queues) => queues.of(class).is_turn(ticket),
            None => ticket.is_none(),
        }
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut AdmissionQueue> {
        let queues = self.queues.iter_mut();
        queues.flat_map(|queues| std::iter::once(&mut queues.service).chain(&mut queues.ordinary))
    }

    /// The priorities that could pass now, `priority` among them.
    fn ready(&self, priority: Priority, capacity: &Capacity) -> [bool; Priority::ALL.len()] {
        Priority::ALL.map(|other| {
            let first = || self.queues.as_ref()?.ordinary[other.rank()].waiting_from(0);
            other == priority || first().is_some_and(|(_, claim)| capacity.admits(claim, other))
        })
    }

    fn next(&self, ready: [bool; Priority::ALL.len()]) -> Option<Priority> {
        next(&self.rotation, ready)
    }

    fn note(&mut self, news: Recheck) {
        self.news = self.news.max(news);
    }
}

impl QueuesByClass {
    fn new() -> Self {
        Self {
            service: AdmissionQueue::new(QueueClass::Service.first()),
            ordinary: Priority::ALL.map(|priority| AdmissionQueue::new(QueueClass::Of(priority).first())),
        }
    }

    fn is_empty(&self) -> bool {
        self.service.is_empty() && !self.has_ordinary()
    }

    fn has_ordinary(&self) -> bool {
        !self.ordinary.iter().all(AdmissionQueue::is_empty)
    }

    fn of(&self, class: QueueClass) -> &AdmissionQueue {
        match class {
            QueueClass::Service => &self.service,
            QueueClass::Of(priority) => &self.ordinary[priority.rank()],
        }
    }

    fn of_mut(&mut self, class: QueueClass) -> &mut AdmissionQueue {
        match class {
            QueueClass::Service => &mut self.service,
            QueueClass::Of(priority) => &mut self.ordinary[priority.rank()],
        }
    }

    /// The one that gave a ticket.
    fn that_gave(&mut self, number: u64) -> &mut AdmissionQueue {
        match number / TICKETS_PER_QUEUE {
            0 => &mut self.service,
            class => &mut self.ordinary[(class as usize - 1).min(Priority::ALL.len() - 1)],
        }
    }

    fn wake_service(&mut self, woken: &mut Woken, capacity: &mut Capacity, limit: usize) {
        let mut place = 0;
        for _ in 0..limit {
            let first = self.service.waiting_from(place);
            let Some((index, claim)) = first.filter(|&(_, claim)| capacity.admits(claim, Priority::Control))
            else {
                return;
            };
            capacity.take(claim, Priority::Control);
            self.service.wake(index, woken);
            place = index + 1;
        }
    }
}

/// The priority whose turn it is: control does not wait for others.
fn next(rotation: &Rotation, ready: [bool; Priority::ALL.len()]) -> Option<Priority> {
    match ready {
        [true, ..] => Some(Priority::Control),
        _ => rotation.next(ready),
    }
}

/// How many tickets each queue gives.
const TICKETS_PER_QUEUE: u64 = 1 << 61;
