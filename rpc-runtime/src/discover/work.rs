//! Work: what resolvers and registrars have in common. Users write it, so it may panic, and it is begun again after it has failed.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crate::{Code, Error, base::panic::Panic};

/// The work of a resolver or a registrar.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Polls the work of `who`. A panic is an error.
pub(crate) fn poll_caught(work: &mut Work, who: &str, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
    Panic::catch(|| work.as_mut().poll(cx)).unwrap_or_else(|panic| {
        let text = panic.text().unwrap_or("without a text");
        let text = format!("the {who} panicked: {text}");
        Poll::Ready(Err(Error::local(Code::Internal, text)))
    })
}

/// The pauses before failed work is begun again: 1 s at first, and twice as long each time, up to 30 s.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
}

impl Pauses {
    /// Makes the pauses of work that has not failed yet.
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Returns the next pause, a fifth more or less: programs that fail together do not come back together.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        pause.mul_f64(0.8 + 0.4 * fastrand::f64())
    }

    /// The longest pause, but for the fifth.
    pub(crate) const LONGEST: Duration = Duration::from_secs(30);
}

const FIRST: Duration = Duration::from_secs(1);
