//! Alarm: a timer for the deadlines of a connection, in each runtime whose tasks wait for it.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::{
    runtime::{Handle, Id},
    time::Sleep,
};

use super::SharedConnection;
use crate::{conn::Time, driver::runtime};

/// The alarms of a connection: one for each runtime whose tasks wait for something with a deadline.
///
/// The driver has a timer too, but it is one task of one runtime. That runtime may stand still while another polls the caller.
/// In its own runtime, the task may lie in a worker's LIFO slot, behind a task that blocks its thread. Only its timer wakes an
/// alarm, so any free worker can run it.
///
/// All calls of a runtime share one alarm, because a timer costs more than a call.
#[derive(Default)]
pub(super) struct Alarms(Vec<Alarm>);

struct Alarm {
    runtime: Id,
    /// When it rings.
    at: Time,
    ring: Arc<Ring>,
}

/// What must happen so that a runtime watches a deadline.
pub(super) enum Wanted {
    Nothing,
    /// The alarm must ring earlier.
    Earlier(Arc<Ring>, Time),
    /// The runtime has no alarm yet.
    New(Time),
}

impl Alarms {
    /// Makes `runtime` watch the deadline `at`, as far as that is possible under the lock.
    #[inline]
    pub(super) fn watch(&mut self, runtime: Id, at: Time) -> Wanted {
        match self.0.iter_mut().find(|alarm| alarm.runtime == runtime) {
            Some(alarm) if alarm.at <= at => Wanted::Nothing,
            Some(alarm) => {
                alarm.at = at;
                Wanted::Earlier(Arc::clone(&alarm.ring), at)
            }
            None => Wanted::New(at),
        }
    }

    /// Sets `ring` to `next`, or ends it if nothing is left to wait for. Returns when it rings.
    pub(super) fn settle(&mut self, ring: &Arc<Ring>, next: Option<Time>) -> Option<Time> {
        let index = self.0.iter().position(|alarm| Arc::ptr_eq(&alarm.ring, ring))?;
        match next {
            Some(at) => self.0[index].at = at,
            None => drop(self.0.swap_remove(index)),
        }
        next
    }
}

/// A timer and its waker hold each other.
impl Drop for Alarms {
    fn drop(&mut self) {
        for alarm in self.0.drain(..) {
            alarm.ring.lock().sleep = None;
        }
    }
}

/// The timer of an alarm, and its waker.
///
/// Lock order: this lock before that of the connection. tokio wakes at once when a timer is set to the past.
pub(super) struct Ring {
    shared: Weak<SharedConnection>,
    runtime: Handle,
    timer: Mutex<Timer>,
    /// True if its runtime has shut down.
    is_dead: AtomicBool,
}

struct Timer {
    /// None once it is given up.
    sleep: Option<Pin<Box<Sleep>>>,
    at: Time,
}

/// Does the part of an alarm's work that is impossible under the connection's lock.
#[inline]
pub(super) fn raise(shared: &Arc<SharedConnection>, wanted: Wanted) {
    if !matches!(wanted, Wanted::Nothing) {
        raise_now(shared, wanted);
    }
}

#[cold]
fn raise_now(shared: &Arc<SharedConnection>, wanted: Wanted) {
    match wanted {
        Wanted::Nothing => {}
        Wanted::Earlier(ring, at) => ring.advance(shared, at),
        Wanted::New(at) => Ring::start(shared, at),
    }
}

impl Ring {
    /// Makes an alarm in the current runtime. A runtime without timers gets none; there the driver's timer must do.
    fn start(shared: &Arc<SharedConnection>, at: Time) {
        let (Ok(handle), Some(sleep)) = (Handle::try_current(), runtime::timer(shared.instant(at))) else {
            return;
        };
        let id = handle.id();
        let ring = Arc::new(Self {
            shared: Arc::downgrade(shared),
            runtime: handle,
            timer: Mutex::new(Timer {
                sleep: Some(Box::pin(sleep)),
                at,
            }),
            is_dead: AtomicBool::new(false),
        });
        let mut timer = ring.lock();
        let wanted = {
            let mut state = shared.lock_state();
            let alarms = &mut state.alarms;
            alarms.0.retain(|alarm| !alarm.ring.is_dead.load(Relaxed));
            // Another task may have been quicker.
            let wanted = alarms.watch(id, at);
            if matches!(wanted, Wanted::New(_)) {
                let ring = Arc::clone(&ring);
                alarms.0.push(Alarm {
                    runtime: id,
                    at,
                    ring,
                });
            }
            wanted
        };
        if let Wanted::Earlier(other, at) = wanted {
            drop(timer);
            return other.advance(shared, at);
        }
        if matches!(wanted, Wanted::New(_)) && ring.poll(&mut timer).is_ready() {
            drop(timer);
            ring.wake();
        }
    }

    /// Makes it ring at `at`, or earlier if it is already set to that.
    fn advance(&self, shared: &SharedConnection, at: Time) {
        let mut timer = self.lock();
        if at >= timer.at {
            return;
        }
        timer.at = at;
        if let Some(sleep) = &mut timer.sleep {
            sleep.as_mut().reset(shared.instant(at));
        }
    }

    /// Ends what is due, and waits for the next deadline.
    fn ring(self: &Arc<Self>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut timer = self.lock();
        while timer.sleep.is_some() {
            let next = shared.ring(self);
            let Timer { sleep, at } = &mut *timer;
            let (Some(next), Some(set)) = (next, sleep.as_mut()) else {
                *sleep = None;
                break;
            };
            *at = next;
            set.as_mut().reset(shared.instant(next));
            if self.poll(&mut timer).is_pending() {
                break;
            }
        }
        // Before the connection: it may be dropped now, and its drop takes the lock.
        drop(timer);
        drop(shared);
    }

    fn poll(self: &Arc<Self>, timer: &mut Timer) -> Poll<()> {
        let Some(sleep) = &mut timer.sleep else {
            return Poll::Pending;
        };
        let waker = Waker::from(Arc::clone(self));
        let mut cx = Context::from_waker(&waker);
        // A runtime that has shut down panics here, and nothing can wait in it any more.
        let poll = catch_unwind(AssertUnwindSafe(|| sleep.as_mut().poll(&mut cx)));
        poll.unwrap_or_else(|_| {
            self.is_dead.store(true, Relaxed);
            timer.sleep = None;
            Poll::Pending
        })
    }

    fn lock(&self) -> MutexGuard<'_, Timer> {
        self.timer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The timer has fired. The work takes locks that tokio's caller may hold, so a task does it.
impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        let runtime = self.runtime.clone();
        runtime.spawn(Ringing(Some(self)));
    }
}

/// Rings at its first poll. A runtime that shuts down drops it instead, or refuses it.
struct Ringing(Option<Arc<Ring>>);

impl Future for Ringing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if let Some(ring) = self.0.take() {
            ring.ring();
        }
        Poll::Ready(())
    }
}

impl Drop for Ringing {
    fn drop(&mut self) {
        if let Some(ring) = &self.0 {
            ring.is_dead.store(true, Relaxed);
        }
    }
}
