//! Keep-alive: finds out that a peer is dead.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// Sends a PING after each interval, and notices if the answer does not come.
pub(crate) struct KeepAlive {
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    interval: Duration,
    timeout: Duration,
    is_waiting: bool,
}

impl KeepAlive {
    pub(crate) fn new(pings: PingPong, interval: Duration, timeout: Duration) -> Self {
        Self {
            pings,
            timer: Box::pin(sleep(interval)),
            interval,
            timeout,
            is_waiting: false,
        }
    }

    /// Is ready if the peer is dead.
    pub(crate) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_waiting {
                if let Poll::Ready(answer) = self.pings.poll_pong(cx) {
                    if answer.is_err() {
                        return Poll::Ready(());
                    }
                    self.is_waiting = false;
                    self.arm(self.interval);
                    continue;
                }
                ready!(self.timer.as_mut().poll(cx));
                return Poll::Ready(());
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.is_waiting = true;
            self.arm(self.timeout);
        }
    }

    /// Returns whether a PING waits for its answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    fn arm(&mut self, time: Duration) {
        // A time beyond the clock's end never comes.
        let at = Instant::now()
            .checked_add(time)
            .unwrap_or_else(|| Instant::now() + FAR);
        self.timer.as_mut().reset(at);
    }
}

const FAR: Duration = Duration::from_secs(86_400 * 365);
