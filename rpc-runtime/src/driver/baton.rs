//! Baton: where a connection's driver lies while no task drives it, so that tasks can pass it on.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use super::{After, ByteStream, Driver, SharedConnection, TURNS, WRITE_LEN};

/// The place of a connection's driver between two drives. A task takes it, drives, and puts it back before anything else.
pub(crate) struct Baton<S>(Mutex<Place<S>>);

enum Place<S> {
    Here(Box<Driver<S>>),
    /// A task is driving right now.
    Out,
    /// The connection is over, or must end, for this reason.
    Gone(&'static str),
}

impl<S: ByteStream> Baton<S> {
    /// Makes a baton for `shared` over `stream`. No task drives it yet.
    pub(crate) fn new(stream: S, shared: Arc<SharedConnection>, max_frame: u32) -> Arc<Self> {
        Self::of(Driver::new(stream, shared, max_frame, WRITE_LEN))
    }

    pub(super) fn of(driver: Driver<S>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Place::Here(Box::new(driver)))))
    }

    /// Drives one round: reads, tells the connection, writes. It wakes the task of `cx` when there is more to do.
    ///
    /// Later rounds in a poll of the task keep the wakers that the first one left.
    pub(crate) fn round(&self, cx: &mut Context<'_>, after: After) -> Round {
        let Some(mut driver) = self.take() else {
            return Round::Over;
        };
        let mut round = driver.round(cx, after);
        if driver.woken > 0 && round == Round::Moved {
            round = Round::Woke(mem::take(&mut driver.woken));
        }
        self.put(driver, matches!(round, Round::Over));
        round
    }
}

impl<S> Baton<S> {
    /// Ends the connection now, whatever is open on it and whichever task drives. Callers get `why`.
    pub(crate) fn cut(&self, why: &'static str) {
        let mut place = self.lock();
        if matches!(*place, Place::Gone(_)) {
            return;
        }
        let old = mem::replace(&mut *place, Place::Gone(why));
        drop(place);
        if let Place::Here(mut driver) = old {
            driver.why = why;
            // Outside of the lock, because the drop fails everything that is pending on the connection.
            drop(driver);
        }
    }

    fn take(&self) -> Option<Box<Driver<S>>> {
        let mut place = self.lock();
        if !matches!(*place, Place::Here(_)) {
            return None;
        }
        match mem::replace(&mut *place, Place::Out) {
            Place::Here(driver) => Some(driver),
            Place::Out | Place::Gone(_) => None,
        }
    }

    fn put(&self, mut driver: Box<Driver<S>>, is_over: bool) {
        let mut place = self.lock();
        let why = match *place {
            Place::Gone(why) => why,
            _ if !is_over => {
                *place = Place::Here(driver);
                return;
            }
            _ => {
                *place = Place::Gone(OVER);
                OVER
            }
        };
        drop(place);
        driver.why = why;
    }

    fn lock(&self) -> MutexGuard<'_, Place<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// Something moved: there may be more to do at once.
    Moved,
    /// As `Moved`, and it woke this many tasks, which may have more to write.
    Woke(usize),
    /// Nothing moved. The task is woken when something can.
    Idle,
    /// The connection is over, or another task drives it.
    Over,
}

/// Drives a connection that takes no calls from its peer. Spawn it. Dropping it ends the connection.
pub(crate) struct Drive<S>(Arc<Baton<S>>);

impl<S> Drive<S> {
    pub(crate) fn new(baton: Arc<Baton<S>>) -> Self {
        Self(baton)
    }
}

impl<S: ByteStream> Future for Drive<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut after = After::Wake;
        for _ in 0..TURNS {
            match self.0.round(cx, mem::replace(&mut after, After::Round)) {
                Round::Moved | Round::Woke(1) => {}
                Round::Woke(_) => break,
                Round::Idle => return Poll::Pending,
                Round::Over => return Poll::Ready(()),
            }
        }
        // Other tasks must have their turn too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S> Drop for Drive<S> {
    fn drop(&mut self) {
        self.0.cut(RUNTIME_GONE);
    }
}

/// A reason that no caller sees: everything pending has already failed.
const OVER: &str = "the connection is over";
/// The reason when the task of a connection is dropped.
pub(crate) const RUNTIME_GONE: &str = "the runtime shut down";

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use bytes::Bytes;
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::{
        Limits,
        conn::{Connection, Request, Side, Ticket},
        driver::{Clock, Wakes},
    };

    const MAX_FRAME: u32 = 144 * 1024;

    fn pair() -> (Arc<SharedConnection>, Arc<Baton<DuplexStream>>, DuplexStream) {
        let settings = crate::conn::Settings::new(
            &Limits::default(),
            std::time::Duration::from_secs(30),
            Bytes::from_static(b"baton"),
            fastrand::u32(..),
        );
        let shared = SharedConnection::new(Connection::new(Side::Connector, settings));
        let (ours, theirs) = duplex(64 * 1024);
        let baton = Baton::new(ours, Arc::clone(&shared), MAX_FRAME);
        (shared, baton, theirs)
    }

    fn is_closed(shared: &SharedConnection) -> bool {
        shared.with(|conn, _| conn.is_closed())
    }

    fn round(baton: &Baton<DuplexStream>, after: After) -> Round {
        baton.round(&mut Context::from_waker(Waker::noop()), after)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_holder_of_the_baton_goes_on_where_the_last_one_was() {
        let (shared, baton, _theirs) = pair();
        assert_eq!(round(&baton, After::Wake), Round::Moved, "the HELLO goes out");
        let other = Arc::clone(&baton);
        let task = tokio::spawn(async move { round(&other, After::Wake) });
        assert_eq!(task.await.unwrap(), Round::Idle);
        assert!(!is_closed(&shared));
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_wakes_its_own_task_is_not_the_last() {
        let (shared, baton, _theirs) = pair();
        let flush = shared.with(|conn, _| conn.start_flush());
        let rounds = poll_fn(move |cx| {
            assert!(shared.with(|conn, _| conn.poll_flush(&flush, cx)).is_pending());
            let rounds = [After::Wake, After::Round, After::Round].map(|after| baton.round(cx, after));
            assert!(shared.with(|conn, _| conn.poll_flush(&flush, cx)).is_ready());
            Poll::Ready(rounds)
        });
        // In a task, because two of its wakers are known to be equal.
        let rounds = tokio::spawn(rounds).await.unwrap();
        assert_eq!(rounds, [Round::Moved, Round::Moved, Round::Idle]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_after_handlers_writes_what_they_left_and_woke_nobody_for() {
        let (shared, baton, _theirs) = pair();
        assert_eq!(round(&baton, After::Wake), Round::Moved, "the HELLO goes out");
        assert_eq!(round(&baton, After::Round), Round::Idle);
        let sends = |conn: &mut Connection, now| {
            let mut cx = Context::from_waker(Waker::noop());
            let request = Request::default();
            let sent = conn.poll_send(&mut Ticket::default(), &request, &Bytes::new(), now, &mut cx);
            assert!(matches!(sent, Poll::Ready(Ok(()))));
        };
        let mut conn = shared.lock(Clock::Now, Wakes::Waiters);
        let now = conn.now();
        sends(&mut conn, now);
        drop(conn);
        let settled = round(&baton, After::Round);
        assert_eq!(settled, Round::Idle, "nothing but a round came before");
        assert_eq!(round(&baton, After::Handlers), Round::Moved);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_cut_while_it_is_driven_ends_when_the_baton_returns() {
        let (shared, baton, _theirs) = pair();
        let driver = baton.take().unwrap();
        assert_eq!(round(&baton, After::Wake), Round::Over, "only one drives");
        baton.cut("cut by the test");
        assert!(!is_closed(&shared));
        baton.put(driver, false);
        assert!(is_closed(&shared));
        assert_eq!(round(&baton, After::Wake), Round::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_cut_while_the_holder_of_its_baton_does_not_drive() {
        let (shared, baton, _theirs) = pair();
        assert_eq!(round(&baton, After::Wake), Round::Moved);
        baton.cut("cut by the test");
        assert!(is_closed(&shared));
        baton.cut("cut by the test");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_dropped_before_it_has_driven_ends_the_connection() {
        let (shared, baton, _theirs) = pair();
        drop(Drive::new(Arc::clone(&baton)));
        assert!(is_closed(&shared));
    }
}
