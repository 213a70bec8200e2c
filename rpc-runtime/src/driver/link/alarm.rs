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

use super::Link;
use crate::{conn::Time, driver::runtime};

/// The alarms of a connection: one for each runtime whose tasks wait for something with a deadline.
///
/// The driver has a timer as well, but it is one task of one runtime: that may stand still while a caller is polled in
/// another, and in its own the task may lie in a worker's LIFO slot, behind a task that blocks its thread. An alarm is never
/// woken but by its timer, so whichever worker is free rings it.
///
/// There is one for all calls of a runtime, and not one for each call, as a timer costs more than the call.
#[derive(Default)]
pub(super) struct Alarms(Vec<Alarm>);

struct Alarm {
    runtime: Id,
    /// When it rings.
    at: Time,
    ring: Arc<Ring>,
}

/// What has to be done so that a deadline is watched in a runtime.
pub(super) enum Wanted {
    Nothing,
    /// The alarm is to ring earlier.
    Earlier(Arc<Ring>, Time),
    /// There is no alarm yet.
    New(Time),
}

impl Alarms {
    /// Sees to it that in `runtime` a deadline `at` is watched, as far as that can be done under the lock.
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

    /// Has `ring` ring at `next`, or ends it if there is nothing to wait for; when it rings.
    pub(super) fn settle(&mut self, ring: &Arc<Ring>, next: Option<Time>) -> Option<Time> {
        let index = self.0.iter().position(|alarm| Arc::ptr_eq(&alarm.ring, ring))?;
        match next {
            Some(at) => self.0[index].at = at,
            None => drop(self.0.swap_remove(index)),
        }
        next
    }
}

/// Timers and their wakers hold each other.
impl Drop for Alarms {
    fn drop(&mut self) {
        for alarm in self.0.drain(..) {
            alarm.ring.lock().sleep = None;
        }
    }
}

/// The timer of an alarm, and its waker.
///
/// Its lock is taken before that of the link, never behind it: tokio wakes at once when a timer is set to what has passed.
pub(super) struct Ring {
    link: Weak<Link>,
    runtime: Handle,
    timer: Mutex<Timer>,
    /// Whether its runtime has shut down.
    is_dead: AtomicBool,
}

struct Timer {
    /// None once it is given up.
    sleep: Option<Pin<Box<Sleep>>>,
    at: Time,
}

/// Does what an alarm wants that cannot be done under the link's lock.
#[inline]
pub(super) fn raise(link: &Arc<Link>, wanted: Wanted) {
    if !matches!(wanted, Wanted::Nothing) {
        raise_now(link, wanted);
    }
}

#[cold]
fn raise_now(link: &Arc<Link>, wanted: Wanted) {
    match wanted {
        Wanted::Nothing => {}
        Wanted::Earlier(ring, at) => ring.advance(link, at),
        Wanted::New(at) => Ring::start(link, at),
    }
}

impl Ring {
    /// A new alarm in the runtime that is here. In one without timers there is none, and the driver's own has to do.
    fn start(link: &Arc<Link>, at: Time) {
        let (Ok(handle), Some(sleep)) = (Handle::try_current(), runtime::timer(link.instant(at))) else {
            return;
        };
        let id = handle.id();
        let ring = Arc::new(Self {
            link: Arc::downgrade(link),
            runtime: handle,
            timer: Mutex::new(Timer {
                sleep: Some(Box::pin(sleep)),
                at,
            }),
            is_dead: AtomicBool::new(false),
        });
        let mut timer = ring.lock();
        let wanted = {
            let mut state = link.lock_state();
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
            return other.advance(link, at);
        }
        if matches!(wanted, Wanted::New(_)) && ring.poll(&mut timer).is_ready() {
            drop(timer);
            ring.wake();
        }
    }

    /// Rings at `at`, unless it does so earlier.
    fn advance(&self, link: &Link, at: Time) {
        let mut timer = self.lock();
        if at >= timer.at {
            return;
        }
        timer.at = at;
        if let Some(sleep) = &mut timer.sleep {
            sleep.as_mut().reset(link.instant(at));
        }
    }

    /// Ends what is due, and waits for the next deadline.
    fn ring(self: &Arc<Self>) {
        let Some(link) = self.link.upgrade() else {
            return;
        };
        let mut timer = self.lock();
        while timer.sleep.is_some() {
            let next = link.ring(self);
            let Timer { sleep, at } = &mut *timer;
            let (Some(next), Some(set)) = (next, sleep.as_mut()) else {
                *sleep = None;
                break;
            };
            *at = next;
            set.as_mut().reset(link.instant(next));
            if self.poll(&mut timer).is_pending() {
                break;
            }
        }
        // Before the link, which may go now and take the lock.
        drop(timer);
        drop(link);
    }

    fn poll(self: &Arc<Self>, timer: &mut Timer) -> Poll<()> {
        let Some(sleep) = &mut timer.sleep else {
            return Poll::Pending;
        };
        let waker = Waker::from(Arc::clone(self));
        let mut cx = Context::from_waker(&waker);
        // A runtime that is shut down panics here, and nothing can wait in it any more.
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

/// The timer has fired: what there is to do takes locks that tokio's caller may hold, so a task does it.
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
