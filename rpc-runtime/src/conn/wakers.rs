//! Wakers: tasks that wait for the connection, and tasks to wake.

use std::{
    fmt,
    task::{Context, Waker},
};

use super::{
    Time,
    tuning::{MAX_WAITERS, WAITERS_SEARCHED},
};

/// Wakers that are to be woken as soon as the connection's lock is free.
#[derive(Default)]
pub(super) struct Woken(Vec<Waker>);

impl Woken {
    /// Adds a waker, if there is one.
    pub(super) fn push(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.0.push(waker);
        }
    }

    /// True if no task is to be woken.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives unused memory back.
    pub(super) fn release(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Moves all wakers to the end of `into`.
    pub(super) fn move_to(&mut self, into: &mut Vec<Waker>) {
        into.append(&mut self.0);
    }
}

impl fmt::Debug for Woken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} wakers]", self.0.len())
    }
}

/// The tasks that wait for the same thing.
///
/// No task can leave, so all are woken at once; a task that still wants to wait registers again.
#[derive(Default)]
pub(super) struct Waiters(Vec<Waker>);

impl Waiters {
    /// Registers the task of `cx`.
    pub(super) fn register(&mut self, cx: &Context<'_>, woken: &mut Woken) {
        let mut newest = self.0.iter().rev().take(WAITERS_SEARCHED);
        if newest.any(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        if self.0.len() >= MAX_WAITERS {
            self.wake(woken);
        }
        if self.0.is_empty() {
            // Mostly there is one.
            self.0.reserve_exact(1);
        }
        self.0.push(cx.waker().clone());
    }

    /// True if no task waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wakes all.
    pub(super) fn wake(&mut self, woken: &mut Woken) {
        woken.0.append(&mut self.0);
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} waiters]", self.0.len())
    }
}

/// The tasks that wait for the connection as a whole, those that are woken next, and the next deadline to look at.
#[derive(Debug, Default)]
pub(super) struct WakeList {
    woken: Woken,
    closed: Waiters,
    /// None until a task waits for any of these.
    rare: Option<Box<RareWaiters>>,
    /// No deadline of a caller, a call or a request passes before this.
    check_at: Option<Time>,
}

#[derive(Debug, Default)]
struct RareWaiters {
    /// For the handshake.
    ready: Waiters,
    /// For the OS to take all output.
    flush: Waiters,
    /// For this side to begin the connection's end.
    draining: Waiters,
    /// For the peer's last open request to end.
    drained: Waiters,
}

/// What a task may wait for.
#[derive(Clone, Copy, Debug)]
pub(super) enum WaitingFor {
    /// The connection's end, or news of whether the peer lives.
    Closed,
    /// The handshake.
    Ready,
    /// The OS to take all output.
    Flush,
    /// This side to begin the connection's end.
    Draining,
    /// The peer's last open request to end.
    Drained,
}

impl WakeList {
    /// The tasks to wake as soon as the connection's lock is free.
    #[inline]
    pub(super) fn woken(&mut self) -> &mut Woken {
        &mut self.woken
    }

    /// True if no task is to be woken.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.woken.is_empty()
    }

    /// Moves all wakers to the end of `into`.
    pub(super) fn move_to(&mut self, into: &mut Vec<Waker>) {
        self.woken.move_to(into);
    }

    /// Lets the task of `cx` wait.
    pub(super) fn wait(&mut self, what: WaitingFor, cx: &Context<'_>) {
        let waiters = match what {
            WaitingFor::Closed => &mut self.closed,
            _ => self.rare.get_or_insert_default().list(what),
        };
        waiters.register(cx, &mut self.woken);
    }

    /// Wakes all tasks that wait for this.
    #[inline]
    pub(super) fn wake(&mut self, what: WaitingFor) {
        match (what, &mut self.rare) {
            (WaitingFor::Closed, _) => self.closed.wake(&mut self.woken),
            (_, Some(rare)) => rare.list(what).wake(&mut self.woken),
            (_, None) => {}
        }
    }

    /// When the next deadline passes, or one that was the next.
    #[inline]
    pub(super) fn check_at(&self) -> Option<Time> {
        self.check_at
    }

    /// Notes that a deadline must be looked at.
    #[inline]
    pub(super) fn watch(&mut self, deadline: Option<Time>) {
        if let Some(deadline) = deadline {
            self.check_at = Some(self.check_at.map_or(deadline, |at| at.min(deadline)));
        }
    }

    /// Sets when the next deadline passes.
    pub(super) fn set_check_at(&mut self, at: Option<Time>) {
        self.check_at = at;
    }

    /// Gives unused memory back.
    pub(super) fn release(&mut self) {
        self.woken.release();
        self.rare.take_if(|rare| rare.is_empty());
    }

    /// What still waits, for tests: the end of the wait, by its name.
    #[cfg(any(test, fuzzing))]
    pub(super) fn left(&self) -> [(&'static str, bool); 5] {
        let nobody = RareWaiters::default();
        let rare = self.rare.as_deref().unwrap_or(&nobody);
        [
            ("wakers to wake", !self.woken.is_empty()),
            ("waiters for the handshake", !rare.ready.is_empty()),
            ("waiters for the end", !self.closed.is_empty()),
            ("waiters for a flush", !rare.flush.is_empty()),
            ("waiters for a drain", !rare.drained.is_empty()),
        ]
    }
}

impl RareWaiters {
    #[inline]
    fn list(&mut self, what: WaitingFor) -> &mut Waiters {
        match what {
            WaitingFor::Ready => &mut self.ready,
            WaitingFor::Flush => &mut self.flush,
            WaitingFor::Draining => &mut self.draining,
            // Tasks that wait for the end are in `closed`.
            WaitingFor::Drained | WaitingFor::Closed => &mut self.drained,
        }
    }

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
