//! ServerCall: a call that has arrived, as middleware gets it.

use std::{fmt, sync::Arc, time::Duration};

use prost::Message;

use super::{
    beside::Heard,
    decoding::parse,
    incoming::{CallSlot, Incoming},
};
use crate::{
    Context, Metadata, Peer, Priority, Procedure, Result, Status,
    layer::{AnyCall, Sealed, Tries, request},
    wire::frame::Encoded,
};

/// A call that has arrived at a server, before its handler starts, as [`Middleware`](crate::middleware::Middleware) gets it.
///
/// Middleware reads and changes the metadata, decodes the request if it needs to, and puts values beside the call that the
/// handler reads by [`Context::get`]:
///
/// ```
/// use rpc_runtime::{Result, Status, middleware::{Answer, Next, ServerCall}};
///
/// struct User(String);
///
/// async fn log_in(mut call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
///     let Some(token) = call.metadata_mut().remove("x-token") else {
///         return Err(Status::unauthenticated("send x-token"));
///     };
///     call.insert(User(String::from_utf8_lossy(&token).into_owned()));
///     next.run(call).await
/// }
/// ```
///
/// It does not end the call when it is dropped: the middleware's result does.
pub struct ServerCall {
    context: Context,
    payload: Encoded,
    procedure: &'static Procedure,
    /// The place of the procedure in its service.
    index: usize,
    slot: Arc<CallSlot>,
}

impl ServerCall {
    pub(super) fn new(
        context: Context,
        payload: Encoded,
        procedure: &'static Procedure,
        index: usize,
        slot: Arc<CallSlot>,
    ) -> Self {
        Self {
            context,
            payload,
            procedure,
            index,
            slot,
        }
    }

    /// Returns the context that the handler gets: a clone of it outlives this value, to add reply metadata after the
    /// handler, or to wait for the end of the call.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the caller, as far as the transport knows it.
    pub fn peer(&self) -> &Peer {
        self.context.peer()
    }

    /// Returns the path of the procedure: `package.Service/Name`.
    pub fn procedure(&self) -> &'static str {
        self.procedure.path()
    }

    /// Returns the roles that the .proto allows to call the procedure: see
    /// [`Procedure::allowed_roles`](crate::server::Procedure::allowed_roles).
    pub fn allowed_roles(&self) -> &'static [&'static str] {
        self.procedure.allowed_roles()
    }

    /// Returns true if the caller sends a stream of requests.
    pub fn has_request_stream(&self) -> bool {
        self.procedure.has_request_stream()
    }

    /// Returns true if the handler answers with a stream of replies.
    pub fn has_reply_stream(&self) -> bool {
        self.procedure.has_reply_stream()
    }

    /// Returns whether the call has no reply: its caller used `send`.
    pub fn is_one_way(&self) -> bool {
        self.context.is_one_way()
    }

    /// Returns the time until the deadline: zero once it has passed, none if the caller set no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.context.remaining()
    }

    /// Returns how long the call has been at this server: the time since its last byte was read. Zero once it is over.
    ///
    /// As long as no middleware has waited, it is the time that the call waited for its handler's turn.
    pub fn queued(&self) -> Duration {
        self.context.queued()
    }

    /// Returns the priority that the .proto declares for the procedure.
    pub fn priority(&self) -> Priority {
        self.procedure.priority()
    }

    /// Returns the entries that the caller sent beside the request.
    pub fn metadata(&self) -> &Metadata {
        self.context.metadata()
    }

    /// Returns the entries beside the request, to change what the handler reads.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.context.beside_mut().metadata
    }

    /// Returns the entries that the caller said once for all calls of its connection, the entry `authorization` included.
    ///
    /// Handlers read them without that entry, by [`Context::connection_metadata`].
    pub fn connection_metadata(&self) -> &Metadata {
        self.context.whole_connection_metadata()
    }

    /// Puts `value` beside the call, in place of an earlier one of its type. The handler reads it by [`Context::get`].
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.context.beside_mut().insert(value);
    }

    /// Returns the value of type `T` that other middleware has put beside the call.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.context.get()
    }

    /// Decodes the request, which costs as much as the handler's own decoding.
    ///
    /// The type must be the one that the procedure takes: bytes of another type may decode to a wrong message.
    ///
    /// # Errors
    ///
    /// INTERNAL if the bytes are no such message, RESOURCE_EXHAUSTED if the message takes too much memory,
    /// FAILED_PRECONDITION if the caller sends a stream: middleware wraps the whole call, and sees no message of its streams.
    pub fn message<T: Message + Default>(&self) -> Result<T> {
        request::check_no_stream(self.procedure)?;
        let server = self.context.session().server();
        let budget = server.budget(self.procedure.request_growth());
        parse(self.payload.clone(), self.procedure, budget)
    }

    /// Replaces the request, by a message of the type that the procedure takes.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION if the caller sends a stream; INVALID_ARGUMENT if messages are nested too deep in it.
    pub fn set_message<T: Message + 'static>(&mut self, message: &T) -> Result<()> {
        self.payload = Encoded::plain(request::replacement(self.procedure, message)?.0);
        Ok(())
    }

    /// The length of the request as it came, in bytes; zero if the caller sends a stream.
    pub(crate) fn request_len(&self) -> u64 {
        self.payload.len()
    }

    /// What tells how the call goes on, once it is passed on.
    pub(crate) fn watch(&mut self) -> CallWatch {
        CallWatch {
            context: self.context.clone(),
            slot: Arc::clone(&self.slot),
            heard: self.context.beside_mut().listen(),
        }
    }

    /// The place of the procedure in its service.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Takes the call for its handler, and the slot to which it goes back.
    pub(super) fn into_incoming(self) -> (Arc<CallSlot>, Option<Incoming>) {
        let incoming = self.slot.take(self.context, self.payload);
        (self.slot, incoming)
    }
}

/// What tells how a call goes on that middleware has passed on.
pub(crate) struct CallWatch {
    context: Context,
    slot: Arc<CallSlot>,
    heard: Heard,
}

impl CallWatch {
    /// The call.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// True if its handler has started.
    pub(crate) fn has_started(&self) -> bool {
        self.slot.has_started()
    }

    /// The value of type `T` that was put beside the call, before or since.
    pub(crate) fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.heard.get().or_else(|| self.context.get().cloned())
    }
}

impl Sealed for ServerCall {
    fn tries(&self) -> Option<&Arc<Tries>> {
        None
    }
}

impl AnyCall for ServerCall {
    type Error = Status;

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

impl fmt::Debug for ServerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCall")
            .field("context", &self.context)
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}
