//! ClientCall: a call that is about to be made, as middleware gets it.

use std::{fmt, sync::Arc, time::Duration};

use prost::Message;
use tokio::time::Instant;

use super::{
    options::{CallOptions, ExtraOptions},
    stream_slot::StreamSlot,
};
use crate::{
    Error, Metadata, Procedure, Result, Status,
    api::{time_spent::TimeSpent, trace_context::TraceContext},
    client::{channel::Channel, deadline::Deadline},
    layer::{AnyCall, RawMessage, Sealed, Tries, request},
};

/// A call that a client is about to make, as [`Middleware`](crate::middleware::Middleware) gets it.
///
/// It may be cloned, to make the call again. Only a call that did not run may be repeated without harm, unless the procedure
/// does the same when it runs twice:
///
/// ```
/// use rpc_runtime::{Code, Error, Executed, middleware::{Answer, ClientCall, Next}};
///
/// async fn twice(call: ClientCall, next: Next<ClientCall>) -> Result<Answer, Error> {
///     match next.clone().run(call.clone()).await {
///         Err(error) if error.code() == Code::Unavailable && error.executed() == Executed::No => next.run(call).await,
///         result => result,
///     }
/// }
/// ```
///
/// All tries are within the call's deadline. If one of them may have run, the error that the caller gets never says `No`. The same holds for
/// the error that [`Next::run`](crate::middleware::Next::run) returns, and the tries within.
#[derive(Clone)]
pub struct ClientCall {
    pub(super) channel: Arc<Channel>,
    pub(super) procedure: &'static Procedure,
    pub(super) message: RawMessage,
    pub(super) more: Option<Box<ExtraOptions>>,
    pub(super) deadline: Deadline,
    pub(super) options: CallOptions,
    pub(super) kind: CallKind,
    pub(super) tries: Arc<Tries>,
}

/// The shape of a call. It decides what the caller waits for.
#[derive(Clone)]
pub(super) enum CallKind {
    OneWay,
    Reply,
    /// A call with streams, which is open as soon as its request is queued.
    Streams(Arc<StreamSlot>),
}

impl ClientCall {
    /// Returns the address of the server that the client is connected to; without a connection, the client's addresses.
    pub fn peer(&self) -> Arc<str> {
        self.channel.peer_or_address()
    }

    /// Returns the path of the procedure: `package.Service/Name`.
    pub fn procedure(&self) -> &'static str {
        self.procedure.path()
    }

    /// Returns true if the caller sends a stream of requests.
    pub fn has_request_stream(&self) -> bool {
        self.procedure.has_request_stream()
    }

    /// Returns true if the handler answers with a stream of replies.
    pub fn has_reply_stream(&self) -> bool {
        self.procedure.has_reply_stream()
    }

    /// Returns whether the call has no reply: it was made by `send`.
    pub fn is_one_way(&self) -> bool {
        matches!(self.kind, CallKind::OneWay)
    }

    /// Returns the time until the deadline: zero once it has passed, none if the call has none.
    pub fn remaining(&self) -> Option<Duration> {
        let at = self.deadline.at()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// Returns the trace that the call belongs to; none if it belongs to none.
    ///
    /// It is not among the metadata. If an exporter records the call's own [span](crate::trace), it is the context of that.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.more.as_deref()?.trace.as_ref()
    }

    /// What tells how far the call has come, once it is passed on.
    pub(crate) fn progress(&self) -> CallProgress {
        CallProgress {
            tries: Arc::clone(&self.tries),
            begun: self.deadline.begun(),
        }
    }

    /// Returns the entries that travel beside the request.
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata::new();
        self.more.as_deref().map_or(&NONE, |more| &more.metadata)
    }

    /// Returns the entries that travel beside the request, to change them or to add some.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.more.get_or_insert_default().metadata
    }

    /// Decodes the request.
    ///
    /// The type must be the one that the procedure takes: bytes of another type may decode to a wrong message.
    ///
    /// # Errors
    ///
    /// INTERNAL if the bytes are no such message, FAILED_PRECONDITION if the caller sends a stream: middleware wraps the whole
    /// call, and sees no message of its streams.
    pub fn message<T: Message + Default>(&self) -> Result<T> {
        request::check_no_stream(self.procedure)?;
        T::decode(self.message.0.clone())
            .map_err(|error| Status::internal(format!("the request is no message of this type: {error}")))
    }

    /// Replaces the request, by a message of the type that the procedure takes.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION if the caller sends a stream; INVALID_ARGUMENT if messages are nested too deep in it.
    pub fn set_message<T: Message + 'static>(&mut self, message: &T) -> Result<()> {
        self.message = request::replacement(self.procedure, message)?;
        Ok(())
    }
}

/// How far a call has come that middleware has passed on.
pub(crate) struct CallProgress {
    tries: Arc<Tries>,
    begun: Option<Instant>,
}

impl CallProgress {
    /// Where the time of the call went until now, as far as is known without its answer.
    pub(crate) fn time_spent(&self) -> TimeSpent {
        let total = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        match self.tries.sent() {
            None => TimeSpent::unsent(total),
            Some(sent) => TimeSpent::sent(sent.after, total),
        }
    }

    /// The id of the call on the connection of its last try; none before it is sent, and of a one-way call.
    pub(crate) fn call_id(&self) -> Option<u64> {
        self.tries.sent()?.id
    }
}

impl Sealed for ClientCall {
    fn tries(&self) -> Option<&Arc<Tries>> {
        Some(&self.tries)
    }
}

impl AnyCall for ClientCall {
    type Error = Error;

    fn procedure(&self) -> &'static str {
        self.procedure()
    }

    fn is_one_way(&self) -> bool {
        self.is_one_way()
    }

    fn remaining(&self) -> Option<Duration> {
        self.remaining()
    }

    fn metadata(&self) -> &Metadata {
        self.metadata()
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        self.metadata_mut()
    }
}

impl fmt::Debug for ClientCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCall")
            .field("procedure", &self.procedure.path())
            .field("message", &self.message)
            .field("metadata", self.metadata())
            .finish_non_exhaustive()
    }
}
