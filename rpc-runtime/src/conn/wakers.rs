//! Those who wait for the connection, and those who are to be woken.

use std::{
    fmt,
    task::{Context, Waker},
};

use super::Time;

/// Wakers that are to be woken as soon as the connection's lock is free.
#[derive(Default)]
pub(super) struct Woken(Vec<Waker>);

impl Woken {
    /// Adds whoever is in `waker`.
    pub(super) fn push(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.0.push(waker);
        }
    }

    /// Whether nobody is to be woken.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives unused memory back.
    pub(super) fn release(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Moves everybody to the end of `into`.
    pub(super) fn move_to(&mut self, into: &mut Vec<Waker>) {
        into.append(&mut self.0);
    }
}

impl fmt::Debug for Woken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} wakers]", self.0.len())
    }
}

/// Those who wait for the same thing.
///
/// Nobody can leave, so all are woken at once, and those who still want to wait register again.
#[derive(Default)]
pub(super) struct Waiters(Vec<Waker>);

impl Waiters {
    /// More than these, and all are woken before a further one registers: a task that polls in a loop without being
    /// woken must not make the list grow.
    const MAX: usize = 4096;
    /// As many of the newest are searched for one that waits already.
    const SEARCHED: usize = 16;

    /// Registers the task of `cx`.
    pub(super) fn register(&mut self, cx: &Context<'_>, woken: &mut Woken) {
        let mut newest = self.0.iter().rev().take(Self::SEARCHED);
        if newest.any(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        if self.0.len() >= Self::MAX {
            self.wake(woken);
        }
        if self.0.is_empty() {
            // As a rule there is one.
            self.0.reserve_exact(1);
        }
        self.0.push(cx.waker().clone());
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wakes everybody.
    pub(super) fn wake(&mut self, woken: &mut Woken) {
        woken.0.append(&mut self.0);
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} waiters]", self.0.len())
    }
}

/// Who waits for the connection as a whole, who is woken next, and when the next deadline passes.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    pub(super) woken: Woken,
    pub(super) waiters: ConnectionWaiters,
    /// No deadline of a caller, a call or a request passes before this.
    pub(super) check_at: Option<Time>,
}

/// Those who wait for something that concerns the whole connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionWaiters {
    pub(super) closed: Waiters,
    /// None as long as nobody waits for any of these.
    pub(super) others: Option<Box<RareWaiters>>,
}

#[derive(Debug, Default)]
pub(super) struct RareWaiters {
    pub(super) ready: Waiters,
    /// For all output to be taken.
    pub(super) flush: Waiters,
    /// For this side to begin the connection's end.
    pub(super) draining: Waiters,
    pub(super) drained: Waiters,
}

impl ConnectionWaiters {
    pub(super) fn others(&mut self) -> &mut RareWaiters {
        self.others.get_or_insert_default()
    }

    /// Gives unused memory back.
    pub(super) fn release(&mut self) {
        self.others.take_if(|others| others.is_empty());
    }
}

impl RareWaiters {
    fn is_empty(&self) -> bool {
        let all = [&self.ready, &self.flush, &self.draining, &self.drained];
        all.iter().all(|waiters| waiters.is_empty())
    }
}

/// Puts the task of `cx` into `place`, unless it is there already.
pub(super) fn set_waker(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}
