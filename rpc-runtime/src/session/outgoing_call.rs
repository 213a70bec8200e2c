//! OutgoingCall: a call of a client that another protocol carries to its server.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{context::Context, replies::Replies, requests::Requests};
use crate::{
    Executed, Metadata, Procedure, Result, Status, api::trace_context::TraceContext, layer::RawMessage,
};

/// A connection of another protocol, which carries the calls of a client.
///
/// [`Protocol::connect`](crate::protocol::Protocol::connect) makes it. When it is dropped, the client needs it no longer: it finishes the
/// calls that are open, and closes.
pub trait ProtocolConnection: Send + Sync + 'static {
    /// Makes a call. Returns the metadata that came beside its reply, headers and trailers together.
    ///
    /// The future is dropped when the client gives the call up, or at its deadline. The peer is to be told then. Metadata beyond the
    /// limits of [`Metadata`] is left out.
    ///
    /// # Errors
    ///
    /// How the call failed, and whether its handler ran.
    fn call(&self, call: OutgoingCall) -> CallFuture;

    /// Waits until the connection takes no further calls, and returns why.
    ///
    /// The client then makes another connection for its next call. Calls that are open here may go on. This future must be ready before any
    /// call fails for that reason. It must not keep the connection alive, and it is ready when the connection is dropped.
    fn closed(&self) -> Pin<Box<dyn Future<Output = String> + Send>>;

    /// Takes what drives the connection. None if a task of the protocol's own does, and if it was taken before.
    ///
    /// It then shares a task with what hands the calls over, so that a call wakes no further task. It is polled until it ends, also when the
    /// connection is dropped.
    fn take_driver(&self) -> Option<ProtocolTask> {
        None
    }

    /// Returns whether it takes calls by [`ProtocolConnection::take_call`]. It always says the same. Default: no.
    fn takes_calls(&self) -> bool {
        false
    }

    /// Takes a future that makes one call by [`ProtocolConnection::call`], to poll it with what drives the connection. Returns it if that has
    /// ended. Otherwise it must be polled until it ends, or be dropped.
    ///
    /// Calls come in the order in which they are made, and are to begin in that order.
    fn take_call(&self, call: ProtocolTask) -> Option<ProtocolTask> {
        Some(call)
    }
}

/// What a [`ProtocolConnection`] runs: what drives it, or a call.
pub type ProtocolTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A call as it is made by [`ProtocolConnection::call`].
pub type CallFuture = Pin<Box<dyn Future<Output = Result<Metadata, OutgoingFailure>> + Send>>;

/// A call of a client that another protocol carries to its server.
#[must_use = "a call that is not made fails"]
pub struct OutgoingCall {
    context: Context,
    procedure: &'static Procedure,
    requests: OutgoingRequests,
    replies: OutgoingReplies,
}

impl OutgoingCall {
    pub(super) fn new(
        context: Context,
        procedure: &'static Procedure,
        requests: OutgoingRequests,
        replies: OutgoingReplies,
    ) -> Self {
        Self {
            context,
            procedure,
            requests,
            replies,
        }
    }

    /// Returns the procedure that is called.
    pub fn procedure(&self) -> &'static Procedure {
        self.procedure
    }

    /// Returns the time until the deadline; none without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.context.remaining()
    }

    /// Returns the trace that the call belongs to; none if it belongs to none. It is not among the metadata.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.context.trace()
    }

    /// Returns whether the caller wants no reply: it used `send`.
    pub fn is_one_way(&self) -> bool {
        self.context.is_one_way()
    }

    /// Returns the entries beside the request: those of the call, and those that the client says for all calls of a connection.
    ///
    /// An entry of the call takes the place of entries with its key that are said for all calls.
    pub fn metadata(&self) -> Metadata {
        let own = self.context.metadata();
        let common = self.context.whole_connection_metadata();
        let common = common.iter().filter(|(key, _)| !own.contains_key(key));
        let entries = common.chain(own.iter());
        entries.map(|(key, value)| (key, value.clone())).collect()
    }

    /// Takes the requests, and where the replies go.
    pub fn into_streams(self) -> (OutgoingRequests, OutgoingReplies) {
        (self.requests, self.replies)
    }
}

impl fmt::Debug for OutgoingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingCall")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// The requests of an [`OutgoingCall`]: one, or those of a stream.
#[derive(Debug)]
pub struct OutgoingRequests(RequestSource);

#[derive(Debug)]
enum RequestSource {
    One(Option<RawMessage>),
    Many(Requests<RawMessage>),
}

impl OutgoingRequests {
    pub(super) fn one(request: RawMessage) -> Self {
        Self(RequestSource::One(Some(request)))
    }

    pub(super) fn many(requests: Requests<RawMessage>) -> Self {
        Self(RequestSource::Many(requests))
    }

    /// Waits for the next request. Returns none after the last one.
    ///
    /// Reading lets the caller send more, so read only what can go on.
    ///
    /// # Errors
    ///
    /// The caller's stream broke before its end, so the call must not end well.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no request.
    pub async fn message(&mut self) -> Result<Option<RawMessage>> {
        match &mut self.0 {
            RequestSource::One(request) => Ok(request.take()),
            RequestSource::Many(requests) => requests.message().await,
        }
    }
}

/// Where the replies of an [`OutgoingCall`] go: one, or those of a stream.
#[derive(Debug)]
pub struct OutgoingReplies(ReplySink);

#[derive(Debug)]
enum ReplySink {
    One(OnlyReply),
    Many(Replies<RawMessage>),
}

impl OutgoingReplies {
    pub(super) fn one(reply: &OnlyReply) -> Self {
        Self(ReplySink::One(reply.clone()))
    }

    pub(super) fn many(replies: Replies<RawMessage>) -> Self {
        Self(ReplySink::Many(replies))
    }

    /// Hands a reply to the caller, once there is room for it. So a caller that does not read makes its own server wait.
    ///
    /// # Errors
    ///
    /// UNIMPLEMENTED for a second reply of a call that has only one; RESOURCE_EXHAUSTED for a message that is longer than the caller takes;
    /// CANCELLED if the caller is gone. The call fails with that.
    ///
    /// # Cancel safety
    ///
    /// A reply whose future is dropped may be lost.
    pub async fn send(&mut self, reply: RawMessage) -> Result<()> {
        match &self.0 {
            ReplySink::One(only) => only.put(reply),
            ReplySink::Many(replies) => replies.send_one(&reply).await,
        }
    }

    /// Hands short replies of a stream to the caller, as long as they fit beside the one before. Returns true if all were handed over.
    /// Otherwise the last one that was taken of `replies` has to be sent by [`OutgoingReplies::send`].
    ///
    /// Each costs less than by `send`, so call it for the replies that have arrived together with one that was sent. The connection is
    /// locked meanwhile, so `replies` must not wait, and must not use it.
    #[inline]
    pub fn add_all<'a>(&mut self, replies: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut replies = replies.into_iter();
        match &self.0 {
            ReplySink::One(_) => replies.next().is_none(),
            ReplySink::Many(many) => many.add_slices(replies),
        }
    }
}

/// The only reply of a call without a stream of replies.
#[derive(Clone, Debug, Default)]
pub(super) struct OnlyReply(Arc<Mutex<Option<RawMessage>>>);

impl OnlyReply {
    fn put(&self, reply: RawMessage) -> Result<()> {
        let mut only = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if only.is_some() {
            return Err(Status::unimplemented(
                "the server sent several replies, and the procedure has one",
            ));
        }
        *only = Some(reply);
        Ok(())
    }

    /// Takes it; none if the server has sent none.
    pub(super) fn take(&self) -> Option<RawMessage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How an [`OutgoingCall`] failed.
#[derive(Clone, Debug)]
pub struct OutgoingFailure {
    status: Status,
    executed: Executed,
}

impl OutgoingFailure {
    /// Makes the failure of a call whose handler ran, or not, as `executed` says.
    ///
    /// The client makes a call again on another connection if it is UNAVAILABLE and [`Executed::No`].
    pub fn new(status: Status, executed: Executed) -> Self {
        Self { status, executed }
    }

    /// Returns what the caller is told.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Returns whether the handler ran.
    pub fn executed(&self) -> Executed {
        self.executed
    }
}
