//! StreamCall: a call with streams, shared by its sending and its reading half.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use prost::Message;

use super::options::CallOptions;
use crate::{
    Code, Error, Executed, Phase, Procedure,
    client::{
        channel::{Channel, connection::ClientConnection},
        deadline::Deadline,
        errors,
    },
    conn::{CallFailure, CallId, Cause, ReceivedReply, Unsent},
    message::{growth::Budget, nesting},
    wire::{compression::stays_plain, frame::Payload},
};

/// A call with streams that is open on a connection. When the last half is dropped, it is cancelled, unless it has
/// ended.
pub(super) struct StreamCall {
    pub(super) on: Arc<ClientConnection>,
    pub(super) id: CallId,
    pub(super) about: CallInfo,
    /// True if the reading half was dropped before the outcome arrived.
    is_unread: AtomicBool,
    /// True while it has a [`Sender`](crate::Sender) that has not called finish().
    is_unfinished: AtomicBool,
}

/// What is known of a call on whatever connection it is.
#[derive(Clone)]
pub(super) struct CallInfo {
    pub(super) channel: Arc<Channel>,
    pub(super) procedure: &'static Procedure,
    pub(super) deadline: Deadline,
    pub(super) options: CallOptions,
    /// Why the first try failed, once the call is retried.
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

    /// Ready with the outcome, once it has arrived and every message is read.
    pub(super) fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Result<ReceivedReply, CallFailure>> {
        self.on.shared.wait(|conn, _| conn.poll_reply(self.id, cx))
    }

    /// Adds `message` to the frame that holds the last one, as long as the driver has not taken that. Returns false if it has to
    /// be sent.
    #[inline]
    pub(super) fn add<M: Message + 'static>(&self, message: &M) -> bool {
        stays_plain(message, self.about.channel.compression())
            && nesting::check(self.about.procedure.request_nesting(), message).is_ok()
            && self.on.shared.add_data(self.id, message)
    }

    /// Ready when a message of its requests is in the output; fails if it never will be.
    pub(super) fn poll_data<P: Payload>(&self, message: &P, cx: &Context<'_>) -> Poll<Result<(), Unsent>> {
        self.on
            .shared
            .wait(|conn, now| conn.poll_data(self.id, message, now, cx))
    }

    /// The error of a call that failed with `failure`.
    pub(super) fn error(&self, failure: CallFailure) -> Error {
        let spent = errors::time_spent(&failure, &self.about.deadline, &self.on.shared);
        let error = errors::of_call(failure, &self.about.deadline).with_time_spent(spent);
        self.locate(error)
    }

    /// The same for a caller that waits for the one reply: a handler may wait for the end of the requests.
    pub(super) fn error_of_reply(&self, failure: CallFailure) -> Error {
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

    /// Adds the peer and the procedure to an error, and why the call was retried.
    pub(super) fn locate(&self, error: Error) -> Error {
        let error = error
            .with_peer(Arc::clone(&self.on.peer))
            .with_procedure(self.about.procedure.path());
        match &self.about.resent {
            Some(cause) => error.with_resent_after(cause),
            None => error,
        }
    }

    /// Notes that a reply has arrived, or the first message of a stream.
    pub(super) fn replied(&self) {
        self.about.channel.retry_budget().replied();
    }

    /// The error of a sender whose message was not sent.
    pub(super) fn unsent(&self, unsent: Unsent) -> Error {
        let (code, text) = match unsent {
            Unsent::Over(Some(failure)) => return self.error(failure),
            Unsent::Over(None) if self.is_unread.load(Relaxed) => (
                Code::Cancelled,
                "the call was cancelled: the reader of its replies was dropped",
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

    /// Ends the call, because a message of its requests is nested deeper than any peer reads.
    #[cold]
    pub(super) fn too_deep(&self, text: String) -> Error {
        let error = errors::too_deep(&text);
        self.fail(Cause::TooDeep { text });
        self.of_stream(error)
    }

    /// Notes in an error that it happened amid the call's streams.
    pub(super) fn of_stream(&self, error: Error) -> Error {
        self.locate(error.with_executed(Executed::Maybe).with_phase(Phase::Stream))
    }

    /// Cancels the call, because its reading half was dropped before the outcome arrived.
    pub(super) fn leave(&self) {
        self.is_unread.store(true, Relaxed);
        self.give_up();
    }

    /// Cancels the call, unless it has ended.
    pub(super) fn give_up(&self) {
        self.on.shared.with(|conn, now| conn.drop_call(self.id, now));
    }

    /// Ends the call for a reason on this side.
    pub(super) fn fail(&self, cause: Cause) {
        self.on
            .shared
            .with(|conn, now| conn.fail_call(self.id, cause, now));
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
