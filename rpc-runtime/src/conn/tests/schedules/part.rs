//! Part: a future of the test, which is polled only when it was woken or has more to do.

use super::*;

/// A future of the test.
pub(super) struct Part {
    flag: Arc<Flag>,
    /// True if it has more to do, so that it needs no wake.
    ready: bool,
    done: bool,
}

/// Sends a message of a stream as senders do: mostly into a frame that is there already, which stays leased to the stream until
/// something else is done to the connection.
pub(super) fn send(
    conn: &mut Connection,
    id: CallId,
    message: &impl Message,
    now: Time,
    waker: &Waker,
) -> Poll<Result<(), Unsent>> {
    // Every third one goes the long way, which may find the same frame.
    let is_added = message.encoded_len() % 3 > 0 && conn.add_on_lease(id, message);
    if is_added {
        return Poll::Ready(Ok(()));
    }
    conn.end_lease();
    conn.poll_data(id, message, now, &Context::from_waker(waker))
}

/// The result of a poll.
pub(super) enum Polled {
    /// It did something and may have more to do.
    Moved,
    /// It waits for its waker.
    Waits,
    Done,
}

impl Part {
    /// Makes a part that has something to do.
    pub(super) fn new() -> Self {
        Self {
            flag: Arc::default(),
            ready: true,
            done: false,
        }
    }

    /// Makes a part that is done.
    pub(super) fn none() -> Self {
        Self {
            done: true,
            ..Self::new()
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn end(&mut self) {
        self.done = true;
    }

    /// Lets it go on because another part of its task has moved.
    pub(super) fn nudge(&mut self) {
        self.ready = true;
    }

    /// True if it must be polled.
    pub(super) fn wants(&mut self) -> bool {
        self.ready |= self.flag.take();
        self.ready && !self.done
    }

    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.flag))
    }

    pub(super) fn note(&mut self, polled: &Polled) {
        self.ready = matches!(polled, Polled::Moved);
        self.done |= matches!(polled, Polled::Done);
    }
}
