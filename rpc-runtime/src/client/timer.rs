//! LocalTimer: a timer of the runtime that polls it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Id,
    time::{Instant, Sleep},
};

use crate::driver::runtime;

/// Runs `future` until `at`; none if `at` comes first.
///
/// Tokio's `timeout_at` uses a timer of the runtime that polls it first. This uses a timer of the runtime that polls it
/// now.
///
/// # Cancel safety
///
/// Dropping the future drops `future`.
pub(super) async fn until<F: Future>(at: Instant, future: F) -> Option<F::Output> {
    let mut bound = LocalTimer::new(at);
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => bound.poll(cx).map(|()| None),
    })
    .await
}

/// Waits for `time`.
///
/// # Cancel safety
///
/// Dropping the future changes nothing.
pub(super) async fn sleep(time: Duration) {
    let mut bound = LocalTimer::new(Instant::now() + time);
    poll_fn(|cx| bound.poll(cx)).await;
}

/// A timer of the runtime that polls it now.
pub(super) struct LocalTimer {
    at: Instant,
    timer: Option<(Id, Pin<Box<Sleep>>)>,
}

impl LocalTimer {
    pub(super) fn new(at: Instant) -> Self {
        Self { at, timer: None }
    }

    /// Restarts the timer, until `at`.
    pub(super) fn reset(&mut self, at: Instant) {
        *self = Self::new(at);
    }

    /// Ready at the set time. Outside of a runtime, and in one without timers, nothing wakes the task then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let here = runtime::here();
        if self.timer.as_ref().map(|(of, _)| *of) != here {
            let timer = runtime::timer(self.at);
            self.timer = here.zip(timer.map(Box::pin));
        }
        match &mut self.timer {
            Some((_, timer)) => timer.as_mut().poll(cx),
            None if self.at <= Instant::now() => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}
