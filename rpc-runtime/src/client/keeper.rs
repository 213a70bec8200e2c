//! Keeper: the task that makes one connection, watches over it, and ends it.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout, timeout_at},
};

use super::{
    channel::Channel,
    race::{Candidate, Course, Finish, Lane, STEP, Winner},
};
use crate::{
    Error,
    conn::{News, Settings},
    driver::Link,
    net::{Address, Connector},
    server::{Callable, InProcess},
};

/// Where a channel connects to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Address(Address),
    /// What the user's function makes of an address.
    Custom(Connector, Arc<str>),
    InProcess(Arc<InProcess>),
    /// Nowhere: the channel was lent its connection.
    Lent,
    /// No address: every call fails with this.
    Bad(Error),
}

/// Held by those who want a connection; it is given up when this is dropped.
pub(super) type Hold = oneshot::Sender<Infallible>;
/// Tells when the last [`Hold`] is gone.
pub(super) type Held = oneshot::Receiver<Infallible>;

/// The task that makes one connection, watches over it, and ends it when nobody wants it any more.
///
/// It is a task of its own, so that a caller who gives up takes nothing from the others.
pub(super) struct Keeper {
    pub(super) watch: Watch,
    pub(super) settings: Arc<Settings>,
    pub(super) connect_timeout: Duration,
    /// What the peer may call.
    pub(super) services: Option<Arc<Callable>>,
    pub(super) held: Held,
    pub(super) beside: Beside,
}

impl Keeper {
    /// Tries the addresses until one answers or all have failed, and keeps what comes of it.
    pub(super) async fn run(mut self) {
        // Boxed, for it is over long before the connection is.
        let attempt = Box::pin(self.attempt());
        let mut winner = match unless_released(&mut self.held, attempt).await {
            Some(Some(winner)) => winner,
            Some(None) => {
                if let Some(channel) = self.watch.channel.upgrade() {
                    channel.gave_up(self.watch.attempt);
                }
                self.watch.kept = Kept::Nothing;
                return;
            }
            None => {
                // Whoever has released it knows.
                self.watch.kept = Kept::Nothing;
                return;
            }
        };
        let wanted = self
            .watch
            .channel
            .upgrade()
            .is_some_and(|channel| channel.opened(self.watch.attempt, &winner));
        if !wanted {
            return;
        }
        let callee = winner.candidate.keep();
        self.watch.kept = Kept::Connection(Arc::clone(&winner.candidate.link));
        self.keep(winner.candidate).await;
        // Now the channel knows that the connection is over.
        drop(self);
        if let Some(callee) = callee {
            // One-way calls of the peer may outlive their connection, but not for long.
            callee.outlive().await;
        }
    }

    /// One attempt, after its pause; none if all addresses have failed, or if nobody wants it any more.
    fn attempt(&self) -> impl Future<Output = Option<Winner>> + Send + use<> {
        let (channel, attempt) = (Weak::clone(&self.watch.channel), self.watch.attempt);
        let (settings, services) = (Arc::clone(&self.settings), self.services.clone());
        let (connect_timeout, beside) = (self.connect_timeout, self.beside);
        async move {
            match beside {
                Beside::Nothing => pause(&channel).await?,
                // The peer may have been about to answer.
                Beside::Doubtful => sleep(STEP).await,
            }
            let plan = channel.upgrade()?.plan(attempt)?;
            let course = Course {
                settings,
                connect_timeout,
                services,
                finish: plan.finish,
            };
            let failed = |place, spot, obstacle| {
                if let Some(channel) = channel.upgrade() {
                    channel.failed(attempt, place, spot, obstacle);
                }
            };
            course.run(plan.lanes, failed).await
        }
    }

    /// Watches the connection until it is over.
    async fn keep(&mut self, mut candidate: Candidate) {
        let channel = &self.watch.channel;
        let link = &Arc::clone(&candidate.link);
        let end = async {
            let ready = candidate.shake_hands().await;
            if let Some(channel) = channel.upgrade() {
                match ready {
                    Ok(()) => channel.ready(link),
                    Err(obstacle) => channel.rejected(link, obstacle),
                }
            }
            let mut doubts = 0;
            loop {
                let news = poll_fn(|cx| link.with(|conn, _| conn.poll_news(doubts, cx))).await;
                match (news, channel.upgrade()) {
                    (News::Closed, _) | (_, None) => break,
                    (News::Heard, Some(channel)) => {
                        doubts = 0;
                        channel.relieved(link);
                    }
                    (News::Doubts(now), Some(channel)) => {
                        doubts = now;
                        channel.doubted(link);
                    }
                }
            }
            closed(link).await;
        };
        if unless_released(&mut self.held, end).await.is_none() {
            link.with(|conn, now| conn.close(now));
            if timeout(FAREWELL, closed(link)).await.is_err() {
                candidate
                    .baton
                    .cut("the client was dropped, and its peer did not take what was queued");
            }
        }
    }
}

/// Waits until the connection is closed.
async fn closed(link: &Link) {
    poll_fn(|cx| link.with(|conn, _| conn.poll_closed(cx))).await;
}

/// What is to be done in an attempt.
pub(super) struct Plan {
    pub(super) lanes: Vec<Lane>,
    pub(super) finish: Finish,
}

/// Beside what an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    /// A connection whose peer may be gone.
    Doubtful,
}

/// Waits until the pause before the next attempt is over, of which a call may have cut something meanwhile.
async fn pause(channel: &Weak<Channel>) -> Option<()> {
    let mut changed = channel.upgrade()?.changes();
    while let Some(end) = channel.upgrade()?.pause_end() {
        if timeout_at(end, changed.changed()).await.is_err() {
            break;
        }
    }
    Some(())
}

/// Runs `future` to its end, unless all holds are dropped before: then it is dropped, too.
async fn unless_released<F: Future>(held: &mut Held, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        Pin::new(&mut *held).poll(cx).map(|_| None)
    })
    .await
}

/// Tells the channel at the end, however the keeper ends: a runtime that shuts down just drops it, perhaps before it
/// has begun.
pub(super) struct Watch {
    channel: Weak<Channel>,
    /// The number of the attempt.
    attempt: u64,
    kept: Kept,
}

enum Kept {
    Attempt,
    Connection(Arc<Link>),
    Nothing,
}

impl Watch {
    /// Watches an attempt to connect.
    pub(super) fn new(channel: Weak<Channel>, attempt: u64) -> Self {
        Self {
            channel,
            attempt,
            kept: Kept::Attempt,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(channel) = self.channel.upgrade() else {
            return;
        };
        match &self.kept {
            Kept::Attempt => channel.abandoned(self.attempt),
            Kept::Connection(link) => channel.ended(link),
            Kept::Nothing => {}
        }
    }
}

/// How long the connection of a dropped client may take to write what is queued.
const FAREWELL: Duration = Duration::from_secs(30);
