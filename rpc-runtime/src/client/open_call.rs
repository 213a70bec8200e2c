//! OpenCall: a call with streams, as the halves hold it that send and read.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use super::{channel::Channel, connected::Connected, deadline::Deadline, failure, receipt::Receipt};
use crate::{
    Error, Procedure,
    conn::{CallId, Cause, Failure, Reply},
};

/// A call with streams that is open on a connection. When the last who holds it lets go, it is cancelled, unless it has
/// ended.
pub(super) struct OpenCall {
    pub(super) on: Arc<Connected>,
    pub(super) id: CallId,
    pub(super) about: About,
}

/// What is said of a call, whichever connection it is on.
#[derive(Clone)]
pub(super) struct About {
    pub(super) channel: Arc<Channel>,
    pub(super) procedure: &'static Procedure,
    pub(super) deadline: Deadline,
    pub(super) receipt: Option<Receipt>,
    /// Why the first try failed, once there is a second.
    pub(super) resent: Option<Box<str>>,
}

impl OpenCall {
    /// The outcome, once it is there and every message is read.
    pub(super) fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Result<Reply, Failure>> {
        let outcome = self.on.link.with(|conn, _| conn.poll_reply(self.id, cx));
        if let Poll::Ready(Ok(reply)) = &outcome {
            self.about.channel.standing().replied();
            if let Some(receipt) = &self.about.receipt {
                receipt.fill(reply);
            }
        }
        outcome
    }

    /// The error of a call that failed so.
    pub(super) fn error(&self, failure: Failure) -> Error {
        if let (Some(receipt), Cause::Replied(status)) = (&self.about.receipt, &failure.cause) {
            receipt.fill_refused(status);
        }
        let error = failure::of_call(failure, &self.about.deadline);
        self.locate(error)
    }

    /// Says which call an error is about.
    pub(super) fn locate(&self, error: Error) -> Error {
        let error = error
            .with_peer(Arc::clone(&self.on.peer))
            .with_procedure(self.about.procedure.path());
        match &self.about.resent {
            Some(cause) => error.with_resent_after(cause),
            None => error,
        }
    }

    /// Nobody wants the outcome any more.
    pub(super) fn give_up(&self) {
        self.on.link.with(|conn, now| conn.drop_call(self.id, now));
    }

    /// It ends for a reason on this side.
    pub(super) fn fail(&self, cause: Cause) {
        self.on.link.with(|conn, now| conn.fail_call(self.id, cause, now));
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for OpenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenCall")
            .field("procedure", &self.about.procedure.path())
            .field("peer", &self.on.peer)
            .finish_non_exhaustive()
    }
}
