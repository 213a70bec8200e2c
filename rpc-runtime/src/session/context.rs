//! Context: what a handler knows of its call, and the call whose handler is polled on this thread.

use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    mem::ManuallyDrop,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant as StdInstant},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::beside::Beside;
use crate::{
    Call, Client, Code, Metadata, Peer, Procedure, Result, Status,
    api::trace_context::TraceContext,
    base::panic::Panic,
    client::inherited::{HandlerId, Inherited, InstanceId, inherited},
    conn::{CallId, DRAINING, Unwanted},
    driver::Clock,
    session::{CallerHash, Denial, Denied, Session},
    trace::CallTrace,
    wire::frame::control::{Progress, Reason},
};

/// What a handler knows of its call: peer, procedure, deadline, metadata, and whether the reply is still wanted.
///
/// Cheap to clone, and a clone may outlive the handler: a task that the handler spawned takes one along, and makes
/// its own calls `.within(&cx)`.
///
/// ```
/// use rpc_runtime::{Code, Context, Result, Status};
///
/// struct Quotes;
///
/// impl Quotes {
///     // As the method of a generated trait.
///     async fn rpc_quote(&self, cx: &Context, symbol: String) -> Result<String> {
///         let Some(user) = cx.metadata().get_str("x-user") else {
///             return Err(Status::new(Code::Unauthenticated, "send x-user"));
///         };
///         if cx.remaining().is_some_and(|remaining| remaining.as_millis() < 5) {
///             return Err(Status::new(Code::DeadlineExceeded, "too little time for a quote"));
///         }
///         println!("{} asks for {symbol} as {user}", cx.peer().address());
///         cx.add_reply_metadata("x-source", "cache")?;
///         Ok(format!("{symbol}: 42"))
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Context {
    session: Arc<Session>,
    id: ContextId,
    one_way: bool,
    /// How many calls this one is nested in.
    depth: u8,
    procedure: &'static str,
    deadline: Option<Instant>,
    /// None for no entries and no values: most calls have none, and then nothing is allocated.
    beside: Option<Arc<Beside>>,
}

impl Context {
    #[inline]
    pub(super) fn new(
        session: Arc<Session>,
        id: CallId,
        one_way: bool,
        depth: u8,
        procedure: &'static str,
        deadline: Option<Instant>,
        beside: Option<Arc<Beside>>,
    ) -> Self {
        Self {
            session,
            id: ContextId(AtomicU64::new(id.0)),
            one_way,
            depth,
            procedure,
            deadline,
            beside,
        }
    }

    /// Makes it the context of another call of the same row. Clones of it stay those of their calls.
    #[inline]
    pub(super) fn set_id(&self, id: CallId) {
        self.id.0.store(id.0, Relaxed);
    }

    /// The call.
    pub(crate) fn id(&self) -> CallId {
        CallId(self.id.0.load(Relaxed))
    }

    /// Returns the caller, as far as the transport knows it.
    pub fn peer(&self) -> &Peer {
        self.session.peer()
    }

    /// The connection of the call.
    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Returns the path of the procedure: `package.Service/Name`.
    pub fn procedure(&self) -> &'static str {
        self.procedure
    }

    /// Returns when the handler is dropped if it has not ended; none if the caller set no deadline.
    ///
    /// Calls that the handler makes inherit the deadline by themselves.
    pub fn deadline(&self) -> Option<StdInstant> {
        self.deadline.map(Instant::into_std)
    }

    /// Returns the time until the deadline: zero once it has passed, none if the caller set no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns the entries that the caller sent beside the request.
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata::new();
        self.beside.as_deref().map_or(&NONE, |beside| &beside.metadata)
    }

    /// Returns the trace that the call belongs to, and that calls of the handler go on with; none if it belongs to none.
    ///
    /// If an exporter records the handler's own [span](crate::trace), it is the context of that span, and otherwise what the caller has
    /// sent. A handler that sends something by another protocol writes it into the headers `traceparent`, `tracestate` and `baggage`.
    ///
    /// ```
    /// use rpc_runtime::Context;
    ///
    /// fn trace_id(cx: &Context) -> String {
    ///     let id = cx.trace().and_then(|trace| trace.trace_id());
    ///     id.map_or_else(String::new, |id| format!("{id:032x}"))
    /// }
    /// ```
    pub fn trace(&self) -> Option<&TraceContext> {
        self.beside.as_deref()?.trace.as_ref()
    }

    /// Returns the id of the call on its connection: the same number on both sides, in log lines and spans.
    pub fn call_id(&self) -> u64 {
        self.id().0
    }

    /// Returns the entries that the caller said once for all calls of its connection; none if it said none.
    ///
    /// A client sets them by [`ClientBuilder::connection_metadata`](crate::ClientBuilder::connection_metadata). The entry
    /// `authorization` is not among them: only middleware sees it, by
    /// [`ServerCall::connection_metadata`](crate::middleware::ServerCall::connection_metadata).
    ///
    /// ```
    /// use rpc_runtime::Context;
    ///
    /// fn build_of_caller(cx: &Context) -> &str {
    ///     cx.connection_metadata().get_str("x-build").unwrap_or("unknown")
    /// }
    /// ```
    pub fn connection_metadata(&self) -> &Metadata {
        self.session.metadata_without_token()
    }

    /// The entries of the connection, the token included.
    pub(crate) fn whole_connection_metadata(&self) -> &Metadata {
        self.session.metadata()
    }

    /// Returns the value of type `T` that [middleware](crate::middleware) or a [guest](crate::server::GuestServer::put_beside) has put
    /// beside the call; none if there is none.
    ///
    /// ```
    /// use rpc_runtime::{Context, Result, Status};
    ///
    /// // Put there by `call.insert(User { .. })` in a middleware of the server.
    /// struct User {
    ///     name: String,
    /// }
    ///
    /// async fn rpc_whoami(cx: &Context) -> Result<String> {
    ///     let user = cx.get::<User>().ok_or_else(|| Status::unauthenticated("log in first"))?;
    ///     Ok(user.name.clone())
    /// }
    /// ```
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.beside.as_deref()?.get()
    }

    /// Adds an entry to the metadata of the reply, or of the refusal if the handler fails.
    ///
    /// The caller reads it from the [`Receipt`](crate::client::Receipt) of its call, or from the refusal's [`Status`].
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED if the entry does not fit, INVALID_ARGUMENT if [`Metadata`] does not allow the key, or if the call
    /// has no reply: a one-way call, or one that is over.
    pub fn add_reply_metadata(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Result<()> {
        let (key, value) = (key.into(), value.into());
        Metadata::check_key(&key).map_err(|text| Status::new(Code::InvalidArgument, text))?;
        let is_added = self.session.with(Clock::Now, |conn, _| {
            conn.add_reply_metadata(self.id(), key, value)
        });
        if is_added {
            return Ok(());
        }
        Err(if self.one_way || self.is_cancelled() {
            Status::new(
                Code::InvalidArgument,
                "metadata needs a reply to travel with: this call is one-way or over",
            )
        } else {
            let (entries, len) = (Metadata::MAX_ENTRIES, Metadata::MAX_LEN);
            let text = format!("metadata exceeds limit of {entries} entries or {len} bytes");
            Status::new(Code::ResourceExhausted, text)
        })
    }

    /// Returns whether the call has no reply: its caller used `send`.
    pub fn is_one_way(&self) -> bool {
        self.one_way
    }

    /// Makes a stub that calls the caller back, over the connection of this call: for a client that serves
    /// (`ClientBuilder::service`). `C` is a generated client: `cx.caller::<WatcherClient>()`.
    ///
    /// The stub may outlive the handler: a subscription calls it as long as the connection lives. After the end of the
    /// connection its calls fail UNAVAILABLE, not executed, and its `Client::state` is closed; it never connects again. A peer
    /// that serves nothing, such as a gRPC caller, answers UNIMPLEMENTED.
    ///
    /// Calls that a handler makes do not wait for a slot or credit of the connection that its own call came by, since perhaps
    /// only the handler's end would give them back. They fail RESOURCE_EXHAUSTED instead, not executed.
    pub fn caller<C: From<Client>>(&self) -> C {
        self.session.caller().into()
    }

    /// Waits until the reply is no longer wanted: the call is cancelled, its connection is lost, its deadline has passed, or
    /// the drain timeout is over.
    ///
    /// The handler itself is dropped then, at its next await, so it need not wait for this. It is for tasks that the
    /// handler spawned, and for handlers that compute for long between awaits. After the handler's end it resolves
    /// at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn cancelled(&self) {
        poll_fn(|cx| {
            self.session
                .with(Clock::Now, |conn, _| conn.poll_unwanted(self.id(), cx))
        })
        .await;
    }

    /// Returns whether the reply is no longer wanted: see [`Context::cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.session
            .with(Clock::Now, |conn, _| conn.unwanted(self.id()))
            .is_some()
    }

    /// Waits until the server drains, or the connection is about to end.
    ///
    /// A server that drains accepts no further calls, and gives open calls, this one too, the drain timeout to end; then it
    /// drops their handlers. A connection ends without a drain at its [`Limits::max_age`](crate::Limits::max_age), or, in a
    /// client that serves, when the client closes it.
    ///
    /// For handlers that run for long and can end early, above all streams.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn draining(&self) {
        self.session.draining().await;
        let server = self.session.server().lifecycle();
        if server.is_draining() {
            // The drain's report counts calls that end after all peers have been told, and this call is to be one of them.
            server.announced().await;
        }
    }

    /// Returns whether the server drains or the connection is about to end: see [`Context::draining`].
    pub fn is_draining(&self) -> bool {
        self.session.server().lifecycle().is_draining() || self.session.is_draining()
    }

    /// Drains the connection of this call: the peer learns `why` by a GOAWAY, and starts no more calls on it.
    ///
    /// Open calls, this one too, may end within [`Limits::max_age_grace`](crate::Limits::max_age_grace). A client of this library
    /// makes another connection for its next call. It is for middleware and handlers that have had enough of a peer, or that know
    /// that its credentials have expired. A connection that drains already goes on with that.
    ///
    /// ```
    /// use rpc_runtime::{Result, Status, middleware::{Answer, Next, ServerCall}};
    ///
    /// struct Session { is_over: bool }
    ///
    /// async fn end_old_sessions(call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
    ///     if call.get::<Session>().is_some_and(|session| session.is_over) {
    ///         call.context().drain_connection("the session is over: log in again");
    ///         return Err(Status::unauthenticated("the session is over"));
    ///     }
    ///     next.run(call).await
    /// }
    /// ```
    pub fn drain_connection(&self, why: &str) {
        self.session.drain(Reason::Drain, why);
    }

    /// Tells the peer of this call that the server drains, and that open calls have `time`.
    pub(crate) fn announce_drain(&self, time: Duration) {
        self.session.with(Clock::Now, |conn, now| {
            conn.begin_drain(Reason::Drain, DRAINING, time, now)
        });
    }

    /// Drains the connection of a peer of which too much had to be refused.
    pub(crate) fn drain_abused_connection(&self, why: &str) {
        self.session.server().settings().counts.drained_by_denials.add();
        self.session.drain(Reason::Excess, why);
    }

    /// Notes that this call was denied.
    pub(crate) fn note_denial(&self, denied: Denied) -> Denial {
        self.session.note_denial(denied)
    }

    /// Notes that this call of `caller` was allowed.
    pub(crate) fn note_allowed(&self, caller: CallerHash) {
        self.session.allowed.note(caller);
    }

    /// Notes the name of the caller, for those who look into the process.
    pub(crate) fn note_caller(&self, name: &Arc<str>) {
        self.session.note_caller(name);
    }

    /// Returns for how long calls of a caller are refused on this connection, because too many of them were denied; `caller` finds out whose
    /// this one is.
    pub(crate) fn refused_for(&self, caller: impl FnOnce() -> CallerHash) -> Option<Duration> {
        self.session.refused_for(caller)
    }

    /// Waits until the one-way calls that came before this one on its connection have ended. Returns how all of them ended.
    pub(crate) async fn sends_settled(&self) -> Progress {
        poll_fn(|cx| {
            self.session
                .with(Clock::Now, |conn, _| conn.poll_settled(self.id(), cx))
        })
        .await
    }

    /// How long the call has been here; zero once it is over.
    pub(super) fn queued(&self) -> Duration {
        self.session
            .with(Clock::Now, |conn, now| conn.time_since_read(self.id(), now))
    }

    /// What stands beside the message, to change it.
    pub(super) fn beside_mut(&mut self) -> &mut Beside {
        Arc::make_mut(self.beside.get_or_insert_default())
    }

    /// The server that the call came to.
    pub(crate) fn instance(&self) -> InstanceId {
        self.session.server().instance()
    }

    /// Returns what calls inherit that the handler's own future makes.
    #[inline]
    pub(crate) fn inherited(&self) -> Inherited {
        Inherited {
            handler: HandlerId::next(),
            deadline: self.deadline,
            instance: Some(self.instance()),
            depth: self.depth.saturating_add(1),
            is_traced: self.trace().is_some(),
        }
    }
}

/// The id of a context's call. The context of a row has that of one call after the other, and each handler borrows it.
struct ContextId(AtomicU64);

impl Clone for ContextId {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Relaxed)))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("procedure", &self.procedure)
            .field("peer", &self.peer().address())
            .field("remaining", &self.remaining())
            .field("one_way", &self.one_way)
            .field("metadata", self.metadata())
            .finish_non_exhaustive()
    }
}

/// Calls within a handler's call.
impl Call<'_> {
    /// Inherits the deadline and the trace of `cx`, in a task that a handler spawned.
    ///
    /// Calls that the handler makes in its own future inherit it by themselves. A terminate of the handler's own server
    /// returns when the drain begins, so that the handler may wait for the task.
    pub fn within(self, cx: &Context) -> Self {
        self.within_call(cx.deadline, cx.instance(), cx.depth, cx.trace())
    }
}

/// The call whose handler is polled on this thread, for code that needs more of it than [`Inherited`] has.
#[derive(Clone)]
pub(crate) struct Serving {
    session: Arc<Session>,
    id: CallId,
    procedure: &'static Procedure,
}

impl Serving {
    pub(crate) fn new(session: &Arc<Session>, id: CallId, procedure: &'static Procedure) -> Self {
        Self {
            session: Arc::clone(session),
            id,
            procedure,
        }
    }

    /// Returns the call whose handler is polled here; none elsewhere, also in a task that a handler spawned.
    pub(crate) fn current() -> Option<Self> {
        SERVING.with(|place| {
            let serving = place.take();
            let copy = serving.as_deref().cloned();
            place.set(serving);
            copy
        })
    }

    /// The procedure that was called.
    pub(crate) fn procedure(&self) -> &'static str {
        self.procedure.path()
    }

    /// The id of the call on its connection.
    pub(crate) fn id(&self) -> u64 {
        self.id.0
    }

    /// The address of the caller.
    pub(crate) fn peer(&self) -> &str {
        self.session.peer().address()
    }

    /// Returns the code that the call ends with if its reply can no longer reach the caller.
    pub(crate) fn lost_code(&self) -> Option<Code> {
        // A caller whose deadline passes cancels its call. So the deadline counts first, whichever of the two is known here.
        let deadline = inherited().deadline;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Some(Code::DeadlineExceeded);
        }
        match self.session.with(Clock::Now, |conn, _| conn.unwanted(self.id)) {
            Some(Unwanted::Cancelled | Unwanted::Disconnected) => Some(Code::Cancelled),
            Some(Unwanted::Deadline) => Some(Code::DeadlineExceeded),
            Some(Unwanted::Drained) | None => None,
        }
    }
}

/// The polls of a call's handler: what its code finds on its thread meanwhile.
pub(super) struct HandlerScope {
    owner: ServingOwner,
    inherited: Inherited,
    /// None for most calls: they belong to no trace, and nobody wants their span.
    trace: Option<Arc<CallTrace>>,
}

impl HandlerScope {
    /// The scope of the handler of `serving`; calls that it makes inherit `inherited`.
    #[inline]
    pub(super) fn new(serving: Serving, inherited: Inherited, trace: Option<Arc<CallTrace>>) -> Self {
        Self {
            owner: ServingOwner::new(serving),
            inherited,
            trace,
        }
    }

    /// Makes the handler's future.
    #[inline]
    pub(super) fn make<F>(&self, make: impl FnOnce() -> F) -> F {
        let _entered = self.inherited.enter();
        match &self.trace {
            None => make(),
            Some(trace) => trace.within(make),
        }
    }

    /// Polls the handler's future. The error is what it panicked with.
    #[inline]
    pub(super) fn poll<F: Future>(
        &mut self,
        handler: Pin<&mut F>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Result<F::Output, Panic>> {
        let _polled = self.owner.enter();
        let _entered = self.inherited.enter();
        let poll = || Panic::catch(|| handler.poll(cx));
        let polled = match &self.trace {
            None => poll(),
            Some(trace) => trace.within(poll),
        };
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// A call that its handler's future drops. A thread-local value with a destructor costs a check at each use, so this has none.
type ServingSlot = Option<ManuallyDrop<Serving>>;

/// Puts a call where [`Serving::current`] finds it, and gives it back on drop, also in a panic.
pub(super) struct ServingPoll<'a> {
    owner: &'a mut ServingSlot,
    outer: ServingSlot,
}

impl<'a> ServingPoll<'a> {
    #[inline]
    fn new(owner: &'a mut ServingSlot) -> Self {
        let outer = SERVING.replace(owner.take());
        Self { owner, outer }
    }

    /// Names another call of the same procedure and connection.
    #[inline]
    pub(super) fn set_id(&self, id: CallId) {
        SERVING.with(|place| {
            let mut serving = place.take();
            if let Some(serving) = &mut serving {
                serving.id = id;
            }
            place.set(serving);
        });
    }
}

impl Drop for ServingPoll<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.owner = SERVING.replace(self.outer.take());
    }
}

/// The owner of a [`ServingSlot`], which drops its call.
pub(super) struct ServingOwner(ServingSlot);

impl ServingOwner {
    pub(super) fn new(serving: Serving) -> Self {
        Self(Some(ManuallyDrop::new(serving)))
    }

    /// Puts the call where [`Serving::current`] finds it, until the guard is dropped.
    #[inline]
    pub(super) fn enter(&mut self) -> ServingPoll<'_> {
        ServingPoll::new(&mut self.0)
    }
}

impl Drop for ServingOwner {
    fn drop(&mut self) {
        drop(self.0.take().map(ManuallyDrop::into_inner));
    }
}

thread_local! {
    static SERVING: Cell<ServingSlot> = const { Cell::new(None) };
}
