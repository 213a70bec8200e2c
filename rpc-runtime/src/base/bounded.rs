//! Bounded: code of users that must answer in time, and may panic.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio::time::timeout;

use super::panic::Panic;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    Panicked,
    Late,
}

/// Runs `answer`, for at most `time`.
pub(crate) async fn bounded<T>(time: Duration, answer: impl Future<Output = T>) -> Result<T, Unanswered> {
    let mut answer = pin!(timeout(time, answer));
    poll_fn(|cx| match Panic::catch(|| answer.as_mut().poll(cx)) {
        Ok(poll) => poll.map(|result| result.map_err(|_| Unanswered::Late)),
        Err(_) => Poll::Ready(Err(Unanswered::Panicked)),
    })
    .await
}
