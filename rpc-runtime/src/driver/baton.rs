//! Baton: where a connection's driver lies while nobody drives, so that tasks can pass it on.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Driver, Link, TURNS, WRITE_LEN};

/// Where a connection's driver lies while nobody drives. Whoever takes it drives, and puts it back before anything else.
pub(crate) struct Baton<S>(Mutex<Place<S>>);

enum Place<S> {
    Here(Box<Driver<S>>),
    /// Somebody drives right now.
    Out,
    /// The connection is over, or is to be.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Baton<S> {
    /// The driver of `link` over `stream`, which nobody drives yet.
    pub(crate) fn new(stream: S, link: Arc<Link>, max_frame: u32) -> Arc<Self> {
        Self::of(Driver::new(stream, link, max_frame, WRITE_LEN))
    }

    pub(super) fn of(driver: Driver<S>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Place::Here(Box::new(driver)))))
    }

    /// Drives one round: reads, tells the connection, writes. It wakes the task of `cx` when there is more to do.
    ///
    /// `is_first` of this poll of the task: the following ones leave alone what will wake it.
    pub(crate) fn round(&self, cx: &mut Context<'_>, is_first: bool) -> Round {
        let Some(mut driver) = self.take() else {
            return Round::Over;
        };
        let mut round = driver.round(cx, is_first);
        if driver.woken > 1 && round == Round::Moved {
            driver.woken = 0;
            round = Round::Woke;
        }
        self.put(driver, matches!(round, Round::Over));
        round
    }
}

impl<S> Baton<S> {
    /// Ends the connection now, whatever is open on it, and whoever drives.
    pub(crate) fn cut(&self) {
        let place = std::mem::replace(&mut *self.lock(), Place::Gone);
        // Outside of the lock: it fails everything that is pending on the connection.
        drop(place);
    }

    fn take(&self) -> Option<Box<Driver<S>>> {
        let mut place = self.lock();
        if !matches!(*place, Place::Here(_)) {
            return None;
        }
        match std::mem::replace(&mut *place, Place::Out) {
            Place::Here(driver) => Some(driver),
            Place::Out | Place::Gone => None,
        }
    }

    fn put(&self, driver: Box<Driver<S>>, is_over: bool) {
        let mut place = self.lock();
        match *place {
            Place::Out if !is_over => *place = Place::Here(driver),
            _ => {
                *place = Place::Gone;
                drop(place);
                drop(driver);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// Something moved: there may be more to do at once.
    Moved,
    /// As `Moved`, and several tasks were woken, which may have more to write.
    Woke,
    /// Nothing moved; the task is woken when something can.
    Idle,
    /// The connection is over, or somebody else drives it.
    Over,
}

/// Drives a connection that is only called from: to be spawned. Dropping it at any point ends the connection.
pub(crate) struct Drive<S>(Arc<Baton<S>>);

impl<S> Drive<S> {
    pub(crate) fn new(baton: Arc<Baton<S>>) -> Self {
        Self(baton)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Drive<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for turn in 0..TURNS {
            match self.0.round(cx, turn == 0) {
                Round::Moved => {}
                Round::Woke => break,
                Round::Idle => return Poll::Pending,
                Round::Over => return Poll::Ready(()),
            }
        }
        // Others are to have their turn too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S> Drop for Drive<S> {
    fn drop(&mut self) {
        self.0.cut();
    }
}
