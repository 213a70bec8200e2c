//! SharedConnection: a connection behind its lock, as callers and handlers hold it.

mod alarm;

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
};

use tokio::time::Instant;

use self::alarm::{Alarms, Ring, Wanted};
use crate::{
    base::rare_part::RarePart,
    conn::{CallId, Connection, JoiningSend, Time},
    driver::runtime,
    wire::frame::Payload,
};

/// A connection behind its lock, as callers and handlers hold it, with the alarms of its deadlines.
///
/// Nothing of the user runs under the lock, except the encoding of a message.
pub(crate) struct SharedConnection {
    state: Mutex<LockedState>,
    epoch: Instant,
    /// Tells it from all other connections of the process.
    number: u64,
}

/// What is behind the lock.
pub(super) struct LockedState {
    pub(super) conn: Connection,
    /// The driver, while it sleeps.
    driver: Option<Waker>,
    /// When the driver's timer fires.
    armed: Option<Time>,
    /// Whether the driver waits for the OS with all that it may hold: it need not be woken for more output.
    full: bool,
    /// The latest time that the connection was given.
    latest: Time,
    alarms: Alarms,
}

/// Which time the connection is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The time now.
    Now,
    /// The latest time that the connection was given. It saves a look at the clock for code that runs right behind another
    /// visit.
    Recent,
    /// The time that the caller has just read.
    At(Time),
}

/// What is woken when the lock on a connection is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakes {
    /// The waiters of the connection, and the driver if it has work.
    Driver,
    /// The waiters of the connection; the driver is left asleep.
    ///
    /// For visits that give the driver no work, and for the dispatcher between two handlers: tokio's LIFO slot cannot be
    /// stolen from, so a driver that the dispatcher woke would stay behind a handler that blocks its thread.
    Waiters,
}

impl LockedState {
    /// Returns the time to give the connection.
    #[inline]
    pub(super) fn time(&mut self, clock: Clock, shared: &SharedConnection) -> Time {
        match clock {
            Clock::Now => self.now(shared.now()),
            Clock::Recent => self.latest,
            Clock::At(time) => self.now(time),
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

    /// Returns the time to give the connection. It never goes back for the connection, though a visitor that looked at the
    /// clock later may have come before.
    fn now(&mut self, now: Time) -> Time {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// Returns what is to be done so that the current runtime watches the deadlines of the connection, too.
    #[inline]
    fn watch_here(&mut self) -> Wanted {
        match self.conn.next_deadline() {
            Some(at) => runtime::here().map_or(Wanted::Nothing, |here| self.alarms.watch(here, at)),
            None => Wanted::Nothing,
        }
    }

    /// Returns whether the driver sleeps and the connection has work for it.
    fn wants_driver(&self) -> bool {
        self.driver.is_some() && self.has_work()
    }

    fn has_work(&self) -> bool {
        (self.conn.wants_write() && !self.full)
            || self.conn.wants_shutdown()
            || self.conn.is_closed()
            || self.is_too_late_for(self.conn.poll_timeout())
    }

    /// Returns whether the driver's timer fires after `wanted`.
    fn is_too_late_for(&self, wanted: Option<Time>) -> bool {
        match (wanted, self.armed) {
            (Some(wanted), Some(armed)) => wanted < armed,
            (wanted, _) => wanted.is_some(),
        }
    }
}

impl SharedConnection {
    /// A connection whose time begins now.
    pub(crate) fn new(conn: Connection) -> Arc<Self> {
        Self::begun_at(Instant::now(), conn)
    }

    /// A connection whose time began at `epoch`.
    pub(crate) fn begun_at(epoch: Instant, conn: Connection) -> Arc<Self> {
        let state = LockedState {
            conn,
            driver: None,
            armed: None,
            full: false,
            latest: Time::ZERO,
            alarms: Alarms::default(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            epoch,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The number of the connection, which no other one of the process has. Later ones have higher numbers.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Locks the connection.
    #[inline(always)]
    pub(crate) fn lock(&self, clock: Clock, wakes: Wakes) -> Locked<'_> {
        let mut state = self.lock_state();
        let now = state.time(clock, self);
        Locked {
            state,
            woken: RarePart::NONE,
            alarm: None,
            now,
            wakes,
        }
    }

    /// Runs `f` on the connection, and wakes waiters and driver as it needs.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Connection, Time) -> R) -> R {
        let mut conn = self.lock(Clock::Now, Wakes::Driver);
        let now = conn.now();
        f(&mut conn, now)
    }

    /// Adds a message of a stream to the last frame of the output: see [`Connection::add_on_lease`]. Returns false if it has to go by
    /// [`Connection::poll_data`].
    ///
    /// It wakes nothing and reads no clock, because the visit that began the frame has done that.
    #[inline]
    pub(crate) fn add_data<P: Payload>(&self, id: CallId, message: &P) -> bool {
        self.lock_leased().conn.add_on_lease(id, message)
    }

    /// Adds messages of a stream as [`SharedConnection::add_data`] does, in one visit. Returns true if all were added, and otherwise the
    /// last one that was taken of `messages` has to go by [`Connection::poll_data`]. `messages` run under the lock.
    #[inline]
    pub(crate) fn add_all_data<P: Payload>(&self, id: CallId, mut messages: impl Iterator<Item = P>) -> bool {
        let mut state = self.lock_leased();
        messages.all(|message| state.conn.add_on_lease(id, &message))
    }

    /// Adds a one-way request to the last frame of the output: see [`Connection::join_send`]. Returns false if it has to go by
    /// [`Connection::poll_send`].
    ///
    /// It wakes nothing and reads no clock, because the visit that began the frame has done that.
    #[inline]
    pub(crate) fn join_send<P: Payload>(&self, send: &JoiningSend, message: &P) -> bool {
        self.lock_state().conn.join_send(send, message)
    }

    /// Runs `f` on the connection as [`SharedConnection::with`] does. While `f` is pending, its caller waits no longer than until the next
    /// deadline: the current runtime watches that, too.
    pub(crate) fn wait<R>(self: &Arc<Self>, f: impl FnOnce(&mut Connection, Time) -> Poll<R>) -> Poll<R> {
        let mut conn = self.lock(Clock::Now, Wakes::Driver);
        let now = conn.now();
        let poll = f(&mut conn, now);
        if poll.is_pending() {
            conn.watch_deadlines(self);
        }
        poll
    }

    /// Ends what is due, since the alarm `ring` has fired. Returns when it is to fire again, if anything is left to wait for.
    fn ring(&self, ring: &Arc<Ring>) -> Option<Time> {
        let mut locked = self.lock(Clock::Now, Wakes::Driver);
        let now = locked.now();
        locked.handle_deadlines(now);
        let next = locked.next_deadline();
        locked.state.alarms.settle(ring, next)
    }

    /// Wakes the driver if it has work.
    pub(crate) fn wake_driver_with_work(&self) {
        drop(self.lock(Clock::Recent, Wakes::Driver));
    }

    /// True if the connection has work for the driver, or has woken it.
    pub(super) fn wants_driver(&self) -> bool {
        let state = self.lock_leased();
        state.driver.is_none() || state.has_work()
    }

    /// Wakes the driver.
    pub(crate) fn wake_driver(&self) {
        let driver = self.lock_state().driver.take();
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

    /// Locks the state, and ends a lease: whatever is done now may change what that relies on.
    #[inline]
    pub(super) fn lock_state(&self) -> MutexGuard<'_, LockedState> {
        let mut state = self.lock_leased();
        state.conn.end_lease();
        state
    }

    #[inline]
    fn lock_leased(&self) -> MutexGuard<'_, LockedState> {
        // A panic under the lock is a bug of ours; the other calls of the connection go on all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A locked connection. When it is dropped, it releases the lock, and only then wakes what is to be woken.
pub(crate) struct Locked<'a> {
    // Dropped in this order: the lock is free before anything is woken.
    state: MutexGuard<'a, LockedState>,
    woken: RarePart<WakeOnDrop>,
    alarm: Option<RaiseOnDrop<'a>>,
    now: Time,
    wakes: Wakes,
}

impl<'a> Locked<'a> {
    /// The time that the connection is given.
    #[inline]
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Makes the current runtime watch the deadlines of the connection, too: a caller waits for one of its calls. `shared` is
    /// that of the connection.
    #[inline]
    pub(crate) fn watch_deadlines(&mut self, shared: &'a Arc<SharedConnection>) {
        let wanted = self.state.watch_here();
        if !matches!(wanted, Wanted::Nothing) {
            self.alarm = Some(RaiseOnDrop(shared, wanted));
        }
    }
}

impl Deref for Locked<'_> {
    type Target = Connection;

    #[inline]
    fn deref(&self) -> &Connection {
        &self.state.conn
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.state.conn
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        let wakes_driver = self.wakes == Wakes::Driver && self.state.wants_driver();
        if wakes_driver || self.state.conn.wants_to_wake() {
            self.woken = RarePart::some(WakeOnDrop::take(&mut self.state, wakes_driver));
        }
    }
}

/// Wakes tasks when it is dropped.
struct WakeOnDrop {
    waiters: Vec<Waker>,
    driver: Option<Waker>,
}

impl WakeOnDrop {
    #[inline(never)]
    fn take(state: &mut LockedState, wakes_driver: bool) -> Self {
        let driver = if wakes_driver { state.driver.take() } else { None };
        let mut waiters = Vec::new();
        state.conn.take_wakers(&mut waiters);
        Self { waiters, driver }
    }
}

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        let waiters = mem::take(&mut self.waiters);
        waiters
            .into_iter()
            .chain(self.driver.take())
            .for_each(Waker::wake);
    }
}

/// Raises an alarm when it is dropped.
struct RaiseOnDrop<'a>(&'a Arc<SharedConnection>, Wanted);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        alarm::raise(self.0, mem::replace(&mut self.1, Wanted::Nothing));
    }
}

/// The number of the next connection.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConnection").finish_non_exhaustive()
    }
}
