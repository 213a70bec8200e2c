//! Keeper: the task that makes one connection, watches it, and ends it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use tokio::time::{sleep, timeout, timeout_at};

use super::{
    Channel,
    addresses::RaceAddress,
    connect::{ConnectRace, NewConnection, STEP, Winner, WinsAt},
    connection::GuardReleased,
};
use crate::{
    client::acceptor::CallbackServer,
    conn::{News, Settings},
    driver::{Clock, SharedConnection, Wakes},
    metrics::{OpenConnection, Side},
};

/// The task that makes one connection, watches it, and ends it when no user is left.
///
/// It is a task of its own, so that a caller that gives up does not end the attempt for others.
pub(super) struct Keeper {
    pub(super) watch: EndReport,
    pub(super) settings: Arc<Settings>,
    pub(super) connect_timeout: Duration,
    /// What the peer may call.
    pub(super) callbacks: Option<Arc<dyn CallbackServer>>,
    pub(super) released: GuardReleased,
    pub(super) beside: AttemptReason,
}

impl Keeper {
    /// Tries the addresses until one answers or all have failed, then keeps the connection until its end.
    pub(super) async fn run(mut self) {
        // Boxed, because the attempt ends long before the connection does.
        let attempt = Box::pin(self.attempt());
        let mut winner = match unless_released(&mut self.released, attempt).await {
            Some(Some(winner)) => winner,
            Some(None) => {
                if let Some(channel) = self.watch.channel.upgrade() {
                    channel.gave_up(self.watch.attempt);
                }
                self.watch.kept = ReportedItem::Nothing;
                return;
            }
            None => {
                // The task that released it knows.
                self.watch.kept = ReportedItem::Nothing;
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
        let after = winner.connection.keep();
        let shared = Arc::clone(&winner.connection.shared);
        self.watch.kept = ReportedItem::Connection(Arc::clone(&shared));
        let NewConnection {
            transport, protocol, ..
        } = winner.connection;
        let is_metered = self.settings.is_metered;
        let open = is_metered.then(|| OpenConnection::new(Side::Client, protocol, transport.name()));
        self.keep(winner.connection).await;
        if let Some(open) = open {
            open.ended(shared.lock(Clock::Recent, Wakes::Waiters).end_label());
        }
        // Now the channel knows that the connection has ended.
        drop(self);
        if let Some(after) = after {
            // One-way calls of the peer may outlive their connection for a short time.
            after.await;
        }
    }

    /// One attempt, after its pause; none if all addresses have failed, or if it is no longer wanted.
    fn attempt(&self) -> impl Future<Output = Option<Winner>> + Send + use<> {
        let (channel, attempt) = (Weak::clone(&self.watch.channel), self.watch.attempt);
        let (settings, callbacks) = (Arc::clone(&self.settings), self.callbacks.clone());
        let (connect_timeout, beside) = (self.connect_timeout, self.beside);
        async move {
            match beside {
                AttemptReason::NoConnection => pause(&channel).await?,
                // The peer may have been about to answer.
                AttemptReason::DoubtfulConnection => sleep(STEP).await,
            }
            let plan = channel.upgrade()?.plan(attempt)?;
            let course = ConnectRace {
                settings,
                connect_timeout,
                callbacks,
                wins_at: plan.wins_at,
            };
            let failed = |place, spot, failure| {
                if let Some(channel) = channel.upgrade() {
                    channel.failed(attempt, place, spot, failure);
                }
            };
            course.run(plan.addresses, failed).await
        }
    }

    /// Watches the connection until its end.
    async fn keep(&mut self, mut connection: NewConnection) {
        let channel = &self.watch.channel;
        let shared = &Arc::clone(&connection.shared);
        let end = async {
            let ready = connection.shake_hands().await;
            if let Some(channel) = channel.upgrade() {
                match ready {
                    Ok(()) => channel.ready(shared),
                    Err(failure) => channel.rejected(shared, failure),
                }
            }
            let mut doubts = 0;
            loop {
                let news = poll_fn(|cx| shared.with(|conn, _| conn.poll_news(doubts, cx))).await;
                match (news, channel.upgrade()) {
                    (News::Closed, _) | (_, None) => break,
                    (News::Heard, Some(channel)) => {
                        doubts = 0;
                        channel.relieved(shared);
                    }
                    (News::Doubts(now), Some(channel)) => {
                        doubts = now;
                        channel.doubted(shared);
                    }
                }
            }
            closed(shared).await;
        };
        if unless_released(&mut self.released, end).await.is_none() {
            shared.with(|conn, now| conn.close(now));
            if timeout(FAREWELL, closed(shared)).await.is_err() {
                connection
                    .breaker
                    .cut("the client was dropped, and its peer did not take what was queued");
            }
        }
    }
}

/// Waits until the connection is closed.
async fn closed(shared: &SharedConnection) {
    poll_fn(|cx| shared.with(|conn, _| conn.poll_closed(cx))).await;
}

/// What an attempt tries.
pub(super) struct AttemptPlan {
    pub(super) addresses: Vec<RaceAddress>,
    pub(super) wins_at: WinsAt,
}

/// Why an attempt to connect is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptReason {
    NoConnection,
    /// The peer of the current connection may be gone.
    DoubtfulConnection,
}

/// Waits for the end of the pause before the next attempt; a call may shorten it meanwhile.
async fn pause(channel: &Weak<Channel>) -> Option<()> {
    let mut changed = channel.upgrade()?.changes();
    while let Some(end) = channel.upgrade()?.pause_end() {
        if timeout_at(end, changed.changed()).await.is_err() {
            break;
        }
    }
    Some(())
}

/// Runs `future` to its end, or drops it when the guard of the connection is dropped.
async fn unless_released<F: Future>(released: &mut GuardReleased, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        Pin::new(&mut *released).poll(cx).map(|_| None)
    })
    .await
}

/// Reports the end to the channel when it is dropped. A runtime that shuts down drops the keeper, perhaps before it has
/// begun.
pub(super) struct EndReport {
    channel: Weak<Channel>,
    /// The number of the attempt.
    attempt: u64,
    kept: ReportedItem,
}

enum ReportedItem {
    Attempt,
    Connection(Arc<SharedConnection>),
    Nothing,
}

impl EndReport {
    /// The report of an attempt to connect.
    pub(super) fn new(channel: Weak<Channel>, attempt: u64) -> Self {
        Self {
            channel,
            attempt,
            kept: ReportedItem::Attempt,
        }
    }
}

impl Drop for EndReport {
    fn drop(&mut self) {
        let Some(channel) = self.channel.upgrade() else {
            return;
        };
        match &self.kept {
            ReportedItem::Attempt => channel.abandoned(self.attempt),
            ReportedItem::Connection(shared) => channel.ended(shared),
            ReportedItem::Nothing => {}
        }
    }
}

/// How long the connection of a dropped client may take to write its queue.
const FAREWELL: Duration = Duration::from_secs(30);
