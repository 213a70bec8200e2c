//! Link: a connection as everyone but its driver holds it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use tokio::time::Instant;

use super::alarm::{self, Alarms, Ring, Wanted};
use crate::{
    conn::{Connection, Time},
    driver::runtime,
};

/// A connection as everyone but its driver holds it: behind a lock, with the driver's alarm.
///
/// Nothing of the user ever runs under the lock, save the encoding of a message.
pub(crate) struct Link {
    state: Mutex<State>,
    epoch: Instant,
}

pub(super) struct State {
    pub(super) conn: Connection,
    /// The driver, while it sleeps.
    driver: Option<Waker>,
    /// When the driver's timer fires.
    armed: Option<Time>,
    /// Whether the driver waits for the OS with all that it may hold: more output is no news to it.
    full: bool,
    /// The latest time that the connection was told.
    told: Time,
    pub(super) alarms: Alarms,
}

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// What the clock says.
    Now,
    /// What it said when somebody last looked: for those who come soon behind, which spares them a look of their own.
    Recent,
}

impl State {
    /// The time to tell the connection.
    pub(super) fn time(&mut self, clock: Clock, link: &Link) -> Time {
        match clock {
            Clock::Now => self.now(link.now()),
            Clock::Recent => self.told,
        }
    }

    /// Notes that the driver is about to sleep until something happens, or until `armed`.
    pub(super) fn sleep(&mut self, driver: &Waker, armed: Option<Time>, full: bool) {
        self.armed = armed;
        self.full = full;
        match &mut self.driver {
            Some(waker) => waker.clone_from(driver),
            none => *none = Some(driver.clone()),
        }
    }

    /// The time to tell the connection, for which it never goes back: somebody who looked at the clock later may have come
    /// before.
    fn now(&mut self, now: Time) -> Time {
        self.told = self.told.max(now);
        self.told
    }

    /// Sees to it that the runtime that is here watches the deadlines of the connection, too.
    #[inline]
    fn watch_here(&mut self) -> Wanted {
        match self.conn.next_deadline() {
            Some(at) => runtime::here().map_or(Wanted::Nothing, |here| self.alarms.watch(here, at)),
            None => Wanted::Nothing,
        }
    }

    /// Whether the connection has something for its driver to do.
    fn wants_driver(&self) -> bool {
        (self.conn.wants_write() && !self.full)
            || self.conn.wants_shutdown()
            || self.conn.is_closed()
            || self.is_too_late_for(self.conn.poll_timeout())
    }

    /// Whether the driver's timer fires after `wanted`.
    fn is_too_late_for(&self, wanted: Option<Time>) -> bool {
        match (wanted, self.armed) {
            (Some(wanted), Some(armed)) => wanted < armed,
            (wanted, _) => wanted.is_some(),
        }
    }
}

impl Link {
    /// A link whose time begins now.
    pub(crate) fn new(conn: Connection) -> Arc<Self> {
        let state = State {
            conn,
            driver: None,
            armed: None,
            full: false,
            told: Time::ZERO,
            alarms: Alarms::default(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            epoch: Instant::now(),
        })
    }

    /// Runs `f` on the connection; then wakes the driver if it has work, and everybody else whom `f` concerned.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Connection, Time) -> R) -> R {
        let mut state = self.lock();
        let now = state.now(self.now());
        let result = f(&mut state.conn, now);
        let wanted = state.driver.is_some() && state.wants_driver();
        wake(state, wanted);
        result
    }

    /// As [`Link::with`], for a request that goes out or waits to. Its deadline is then watched in the runtime that is here,
    /// too, unless `is_over` says that nobody waits any more.
    ///
    /// `now` is the time, if the caller has looked at the clock just now.
    pub(crate) fn request<R>(
        self: &Arc<Self>,
        now: Option<Time>,
        f: impl FnOnce(&mut Connection, Time) -> R,
        is_over: impl FnOnce(&R) -> bool,
    ) -> R {
        let mut state = self.lock();
        let now = state.now(now.unwrap_or_else(|| self.now()));
        let result = f(&mut state.conn, now);
        let alarm = match is_over(&result) {
            true => Wanted::Nothing,
            false => state.watch_here(),
        };
        let wanted = state.driver.is_some() && state.wants_driver();
        wake(state, wanted);
        alarm::raise(self, alarm);
        result
    }

    /// As [`Link::with`], for a caller who waits until `f` is ready, and no longer than until the next deadline.
    pub(crate) fn wait<R>(self: &Arc<Self>, f: impl FnOnce(&mut Connection, Time) -> Poll<R>) -> Poll<R> {
        self.request(None, f, Poll::is_ready)
    }

    /// As [`Link::wait`], for an `f` that gives the driver nothing to do.
    #[inline]
    pub(crate) fn wait_look<R>(self: &Arc<Self>, f: impl FnOnce(&mut Connection) -> Poll<R>) -> Poll<R> {
        let mut state = self.lock();
        let result = f(&mut state.conn);
        let alarm = match &result {
            Poll::Ready(_) => Wanted::Nothing,
            Poll::Pending => state.watch_here(),
        };
        wake(state, false);
        alarm::raise(self, alarm);
        result
    }

    /// `ring` has come: ends what is due. When it is to come again, if there is anything left to wait for.
    pub(super) fn ring(&self, ring: &Arc<Ring>) -> Option<Time> {
        let mut state = self.lock();
        let now = state.now(self.now());
        state.conn.handle_deadlines(now);
        let next = state.conn.next_deadline();
        let next = state.alarms.settle(ring, next);
        let wanted = state.driver.is_some() && state.wants_driver();
        wake(state, wanted);
        next
    }

    /// Runs `f`, which looks at the connection or takes something from it, and so gives the driver nothing to do.
    pub(crate) fn look<R>(&self, f: impl FnOnce(&mut Connection) -> R) -> R {
        let mut state = self.lock();
        let result = f(&mut state.conn);
        wake(state, false);
        result
    }

    /// As [`Link::with`], but leaves the driver asleep.
    ///
    /// For the dispatcher between two handlers: tokio's LIFO slot cannot be stolen from, so a driver that the
    /// dispatcher woke would stay behind a handler that blocks its thread.
    pub(crate) fn with_quiet<R>(&self, clock: Clock, f: impl FnOnce(&mut Connection, Time) -> R) -> R {
        let mut state = self.lock();
        let now = state.time(clock, self);
        let result = f(&mut state.conn, now);
        wake(state, false);
        result
    }

    /// Wakes the driver if it has work.
    pub(crate) fn wake_driver_with_work(&self) {
        let state = self.lock();
        let wanted = state.driver.is_some() && state.wants_driver();
        wake(state, wanted);
    }

    /// Wakes the driver.
    pub(crate) fn wake_driver(&self) {
        let driver = self.lock().driver.take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// The time as the connection counts it.
    pub(crate) fn now(&self) -> Time {
        self.time(Instant::now())
    }

    /// The connection's time of `instant`; zero for one before it began.
    pub(crate) fn time(&self, instant: Instant) -> Time {
        instant.saturating_duration_since(self.epoch)
    }

    /// The instant of the connection's `time`; far away for one that no clock reaches.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        const FAR: Time = Time::from_secs(30 * 365 * 24 * 3600);
        self.epoch.checked_add(time).unwrap_or_else(|| self.epoch + FAR)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug of ours; the other calls of the connection go on all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Releases the lock, and only then wakes whom the connection names, and the driver if it is wanted.
#[inline]
fn wake(state: MutexGuard<'_, State>, driver: bool) {
    if driver || state.conn.wants_to_wake() {
        wake_some(state, driver);
    }
}

fn wake_some(mut state: MutexGuard<'_, State>, driver: bool) {
    let driver = if driver { state.driver.take() } else { None };
    let mut wakers = Vec::new();
    state.conn.take_wakers(&mut wakers);
    drop(state);
    wakers.into_iter().chain(driver).for_each(Waker::wake);
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
