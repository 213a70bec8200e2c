//! StreamCall: a call with streams, as the halves hold it that send and read.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use crate::{
    Code, Error, Executed, Phase, Procedure,
    client::{
        channel::{Channel, connection::ClientConnection},
        deadline::Deadline,
        errors,
    },
    conn::{CallId, Cause, Failure, Reply, Unsent},
    message::growth::Budget,
};

/// A call with streams that is open on a connection. When the last who holds it lets go, it is cancelled, unless it has
/// ended.
pub(super) struct StreamCall {
    pub(super) on: Arc<ClientConnection>,
    pub(super) id: CallId,
    pub(super) about: CallInfo,
    /// Whether who was to read gave the call up before its outcome was there.
    is_unread: AtomicBool,
    /// Whether it has a [`Sender`](crate::Sender) that has not said finish().
    is_unfinished: AtomicBool,
}

/// What is said of a call, whichever connection it is on.
#[derive(Clone)]
pub(super) struct CallInfo {
    pub(super) channel: Arc<Channel>,
    pub(super) procedure: &'static Procedure,
    pub(super) deadline: Deadline,
    /// Why the first try failed, once there is a second.
    pub(super) resent: Option<Box<str>>,
}

impl CallInfo {
    /// How much memory its replies may take once they are decoded.
    pub(super) fn budget(&self) -> Budget {
        self.channel.budget(self.procedure.reply_growth())
    }
}

impl StreamCall {
    pub(super) fn new(on: Arc<ClientConnection>, id: CallId, about: CallInfo) -> Self {
        Self {
            on,
            id,
            about,
            is_unread: AtomicBool::new(false),
            is_unfinished: AtomicBool::new(false),
        }
    }

    /// The outcome, once it is there and every message is read.
    pub(super) fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Result<Reply, Failure>> {
        self.on.link.wait(|conn, _| conn.poll_reply(self.id, cx))
    }

    /// The error of a call that failed so.
    pub(super) fn error(&self, failure: Failure) -> Error {
        let error = errors::of_call(failure, &self.about.deadline);
        self.locate(error)
    }

    /// As [`StreamCall::error`], for a caller that waits for the one reply: the server may wait for the end of its requests.
    pub(super) fn error_of_reply(&self, failure: Failure) -> Error {
        let is_late = matches!(failure.cause, Cause::Deadline | Cause::Idle { .. });
        let error = self.error(failure);
        if is_late && self.is_unfinished.load(Relaxed) {
            return error.with_hint(
                "its Sender was still open: call finish() when all is sent, and then wait for the reply",
            );
        }
        error
    }

    /// Notes whether requests may still be sent.
    pub(super) fn set_unfinished(&self, is_unfinished: bool) {
        self.is_unfinished.store(is_unfinished, Relaxed);
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

    /// A reply has come, or the first of a stream.
    pub(super) fn replied(&self) {
        self.about.channel.retry_budget().replied();
    }

    /// Why nothing more of its requests can be sent, when that is so.
    pub(super) fn unsent(&self, unsent: Unsent) -> Error {
        let (code, text) = match unsent {
            Unsent::Over(Some(failure)) => return self.error(failure),
            Unsent::Over(None) if self.is_unread.load(Relaxed) => (
                Code::Cancelled,
                "the call was cancelled: what was to read its replies was dropped",
            ),
            Unsent::Over(None) => (
                Code::Cancelled,
                "the call is over and takes no more messages: its reply tells how it ended",
            ),
            Unsent::TooLong { len, max } => {
                self.fail(Cause::Oversize { len, max });
                return self.of_stream(errors::oversize(len, max));
            }
        };
        self.of_stream(Error::local(code, text))
    }

    /// A message of its requests is nested deeper than anybody reads: the call ends with it.
    #[cold]
    pub(super) fn too_deep(&self, text: String) -> Error {
        let error = errors::too_deep(&text);
        self.fail(Cause::TooDeep { text });
        self.of_stream(error)
    }

    /// Says of an error that it happened amid the call's streams.
    pub(super) fn of_stream(&self, error: Error) -> Error {
        self.locate(error.with_executed(Executed::Maybe).with_phase(Phase::Stream))
    }

    /// Nobody reads the replies any more, of which the outcome was not one.
    pub(super) fn leave(&self) {
        self.is_unread.store(true, Relaxed);
        self.give_up();
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

impl Drop for StreamCall {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for StreamCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamCall")
            .field("procedure", &self.about.procedure.path())
            .field("peer", &self.on.peer)
            .finish_non_exhaustive()
    }
}
