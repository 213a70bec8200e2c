//! Session: one connection as a server and its handlers see it.

mod beside;
mod call_values;
mod caller_hash;
mod connection_metadata;
pub(crate) mod context;
mod decoding;
mod denials;
mod forward;
mod handler;
mod incoming;
mod inline_poll;
mod layered;
pub(crate) mod lifecycle;
mod outgoing_call;
mod panicked;
mod refusal_log;
mod replies;
mod requests;
mod row_turns;
mod server_call;
mod server_view;
mod service;
mod stall_record;
mod stream;
mod threads;

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context as TaskContext, Poll, Wake, Waker},
    time::Duration,
};

use tokio::runtime::Handle;

pub use self::{
    call_values::CallValue,
    context::Context,
    handler::Handler,
    incoming::{BorrowingHandler, Incoming},
    layered::Layered,
    outgoing_call::{
        CallFuture, OutgoingCall, OutgoingFailure, OutgoingReplies, OutgoingRequests, ProtocolConnection,
        ProtocolTask,
    },
    replies::Replies,
    requests::Requests,
    server_call::ServerCall,
    service::Service,
    stream::{Out, stream},
};
pub(crate) use self::{
    call_values::CallValues,
    caller_hash::CallerHash,
    denials::{AfterDenial, Denial, Denied},
    inline_poll::InlinePoll,
    layered::ServiceLayer,
    panicked::WORKER,
    row_turns::{LastOutcome, RowPoll, RowTurns},
    server_call::CallWatch,
    server_view::ServerView,
    service::{priorities, served},
    stall_record::{BlockedPoll, StallRecord, StallSnapshot, TaskLook},
    threads::Threads,
};
use self::{caller_hash::AllowedCallers, connection_metadata::ConnectionMetadata, denials::Denials};
use crate::{
    Client, Compression, Metadata, Peer, Procedure, Status,
    api::{server_limit::ServerLimit, trace_context::TraceContext},
    base::ordered_wakes::Changes,
    client::Channel,
    conn::{CallId, Cause, Connection, Time},
    driver::{Baton, Clock, SharedConnection, Wakes},
    inspect::StreamTraffic,
    net::{Stream, Transport},
    trace::{CallTrace, Method, Served},
    wire::frame::control::Reason,
};

/// One connection of a server, as its dispatcher and its handlers share it.
///
/// `D` is what the dispatcher keeps of the connection (`server::dispatch`): in the same allocation, and unknown to handlers.
pub(crate) struct Session<D: ?Sized = dyn Send + Sync> {
    shared: Arc<SharedConnection>,
    peer: Peer,
    server: Arc<ServerView>,
    /// Where the tasks of this connection run.
    runtime: Handle,
    stalls: StallRecord,
    baton: OnceLock<Arc<Baton<Stream>>>,
    /// The channel by which handlers call their caller; none until one has asked, and again when somebody closes it.
    caller: Mutex<Option<Arc<Channel>>>,
    /// Raised when this side has begun the connection's end; made when a handler asks first.
    draining: OnceLock<Arc<DrainFlag>>,
    metadata: ConnectionMetadata,
    /// The calls that a policy denied; made with the first.
    denials: OnceLock<Box<Denials>>,
    /// Whose calls middleware has allowed.
    allowed: AllowedCallers,
    /// The name of the first caller that was found, and whether there are others; for those who look into the process.
    caller_name: OnceLock<Arc<str>>,
    has_other_callers: AtomicBool,
    /// What the guest has put beside the calls of its client; none if this is no connection of a guest's client.
    call_values: OnceLock<Arc<CallValues>>,
    /// What goes over the stream of the guest's peer, for those who look into the process.
    traffic: OnceLock<Arc<StreamTraffic>>,
    dispatch: D,
}

impl<D> Session<D> {
    pub(crate) fn new(
        shared: Arc<SharedConnection>,
        peer: Peer,
        server: Arc<ServerView>,
        runtime: Handle,
        dispatch: D,
    ) -> Self {
        Self {
            shared,
            peer,
            server,
            runtime,
            stalls: StallRecord::default(),
            baton: OnceLock::new(),
            caller: Mutex::default(),
            draining: OnceLock::new(),
            metadata: ConnectionMetadata::default(),
            denials: OnceLock::new(),
            allowed: AllowedCallers::default(),
            caller_name: OnceLock::new(),
            has_other_callers: AtomicBool::new(false),
            call_values: OnceLock::new(),
            traffic: OnceLock::new(),
            dispatch,
        }
    }

    /// What the dispatcher keeps of the connection.
    pub(crate) fn dispatch(&self) -> &D {
        &self.dispatch
    }
}

impl<D: ?Sized> Session<D> {
    pub(crate) fn shared(&self) -> &Arc<SharedConnection> {
        &self.shared
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The server, as connections and handlers see it.
    pub(crate) fn server(&self) -> &ServerView {
        &self.server
    }

    /// Where the tasks of this connection and of its handlers run.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Sets what the guest puts beside the calls of its client, and what goes over the stream of its peer; once, before the first call.
    pub(crate) fn set_guest(&self, values: Arc<CallValues>, traffic: Arc<StreamTraffic>) {
        let _ = self.call_values.set(values);
        let _ = self.traffic.set(traffic);
    }

    #[inline]
    fn call_values(&self) -> Option<&CallValues> {
        self.call_values.get().map(|values| &**values)
    }

    /// True if it is the connection of a guest's client.
    pub(crate) fn is_of_guest(&self) -> bool {
        self.call_values.get().is_some()
    }

    /// Returns what goes over the stream of the guest's peer; none if this is no connection of a guest's client.
    pub(crate) fn traffic(&self) -> Option<&Arc<StreamTraffic>> {
        self.traffic.get()
    }

    /// Notes the name of a caller that was found.
    #[inline]
    fn note_caller(&self, name: &Arc<str>) {
        let first = self.caller_name.get_or_init(|| Arc::clone(name));
        if !Arc::ptr_eq(first, name) && first != name {
            self.has_other_callers.store(true, SeqCst);
        }
    }

    /// Returns the name of the first caller that was found, and whether there are others.
    pub(crate) fn caller_name(&self) -> (Option<Arc<str>>, bool) {
        (
            self.caller_name.get().cloned(),
            self.has_other_callers.load(SeqCst),
        )
    }

    /// What the stall monitor looks at.
    pub(crate) fn stalls(&self) -> &StallRecord {
        &self.stalls
    }

    /// Returns how messages to this peer are compressed: as the server is configured, if the peer accepts that.
    pub(crate) fn compression(&self) -> Option<Compression> {
        let chosen = self.server.compression()?;
        let is_accepted = self.with(Clock::Now, |conn, _| conn.peer_takes(chosen.encoding()));
        is_accepted.then_some(chosen)
    }

    /// Runs `f` on the connection and wakes the driver if it has work: at once, or, inside of a handler's poll that left the
    /// driver asleep, after that poll.
    ///
    /// [`Clock::Recent`] is for code that runs right behind the connection, or is polled at most a millisecond after it: at
    /// the beginning of a handler, or with the next message of a stream. It saves a look at the clock inside of such a poll,
    /// and is [`Clock::Now`] elsewhere.
    #[inline]
    pub(crate) fn with<R>(&self, clock: Clock, f: impl FnOnce(&mut Connection, Time) -> R) -> R {
        if !InlinePoll::is_of(self.address()) {
            return self.shared.with(f);
        }
        let mut conn = self.shared.lock(clock, Wakes::Waiters);
        let now = conn.now();
        let result = f(&mut conn, now);
        InlinePoll::note_work(&conn, now);
        result
    }

    /// Runs `f`, a poll of a handler in a task of its own, with the driver left asleep. The flag is true if the driver may have
    /// work now. If `f` panics, the driver is woken.
    pub(crate) fn with_driver_asleep<R>(&self, f: impl FnOnce() -> R) -> (R, bool) {
        let (result, poll) = InlinePoll::run(self.address(), &self.shared, None, Time::ZERO, f);
        (result, poll.has_work())
    }

    /// Runs `f`, which makes a handler and polls it for the first time, with the driver left asleep. Returns how the poll went.
    /// If `f` panics, the driver is woken.
    ///
    /// The handler of the call `start` need not ask before it starts; `now` is the time.
    #[inline]
    pub(crate) fn first_poll<R>(
        &self,
        start: Option<CallId>,
        now: Time,
        f: impl FnOnce() -> R,
    ) -> (R, InlinePoll) {
        InlinePoll::run(self.address(), &self.shared, start, now, f)
    }

    /// Begins the span of a call, if somebody wants it or if the call belongs to a trace.
    #[cold]
    pub(crate) fn begin_trace(
        &self,
        method: Method<'_>,
        id: CallId,
        sent: Option<TraceContext>,
    ) -> Option<Arc<CallTrace>> {
        let call = Served {
            method,
            id: Some(id.0),
            peer: &self.peer,
            is_grpc: self.call_values().is_some(),
            is_hidden: self.server.is_bridge(),
        };
        CallTrace::begin(&call, sent).map(Arc::new)
    }

    /// Starts the handler of `id` if it is polled here for the first time and need not ask. Returns when that poll began.
    #[inline]
    fn start_here(&self, id: CallId) -> Option<Time> {
        InlinePoll::start(self.address(), id)
    }

    /// Returns whether the peer is in this process, so that writing to it wakes its task.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.peer.transport(), Transport::Memory | Transport::InProcess)
    }

    /// Returns whether the caller is a guest, which calls for its own peer.
    pub(crate) fn is_guests(&self) -> bool {
        self.call_values.get().is_some()
    }

    /// Returns whether requests wait for their handlers.
    pub(crate) fn has_waiting_requests(&self) -> bool {
        self.shared.lock(Clock::Recent, Wakes::Waiters).waiting_requests() > 0
    }

    /// Returns whether several requests of the peer are open.
    pub(crate) fn has_more_requests(&self) -> bool {
        self.shared
            .lock(Clock::Recent, Wakes::Waiters)
            .has_more_requests()
    }

    /// Stores what drives the connection; set once, before its dispatcher starts.
    pub(crate) fn set_baton(&self, baton: Arc<Baton<Stream>>) {
        let _ = self.baton.set(baton);
    }

    pub(crate) fn baton(&self) -> Option<&Arc<Baton<Stream>>> {
        self.baton.get()
    }

    /// Drains the connection: the peer learns `reason` and `text`, and its open calls may end.
    fn drain(&self, reason: Reason, text: &str) {
        let time = self.server.settings().max_age_grace;
        self.with(Clock::Now, |conn, now| conn.begin_drain(reason, text, time, now));
    }

    /// Lets the peer start no more calls here, because the connection behind this one takes none: `why` says the reason. Calls that are
    /// open end by themselves.
    pub(crate) fn retire(&self, why: &str) {
        self.with(Clock::Now, |conn, now| {
            conn.begin_drain(Reason::Drain, why, RETIREMENT, now)
        });
    }

    /// Logs, once in a while, that a call of `procedure` was refused because of a limit.
    #[cold]
    pub(crate) fn note_refusal(&self, limit: ServerLimit, procedure: &Procedure, status: &Status) {
        let (procedure, text) = (Some(procedure.path()), Some(status.message()));
        self.server
            .refusals()
            .note(limit, self.peer.address(), procedure, text, self.server.age());
    }

    /// Logs, once in a while, that requests were refused because of a limit when they came.
    #[cold]
    pub(crate) fn note_limit(&self, limit: ServerLimit) {
        self.server
            .refusals()
            .note(limit, self.peer.address(), None, None, self.server.age());
    }

    /// Notes that a call was denied.
    fn note_denial(&self, denied: Denied) -> Denial {
        let settings = self.server.settings();
        settings.counts.calls_denied.add();
        let is_shared = match denied {
            Denied::Caller(caller) | Denied::Guess(caller) => self.allowed.have_other_than(caller),
            Denied::Nobody | Denied::Connection => false,
        };
        let (now, most, lines) = (
            self.server.age(),
            settings.max_denials,
            self.server.denial_lines(),
        );
        let denials = self.denials.get_or_init(Box::default);
        denials.note(now, denied, most, is_shared, lines)
    }

    /// Returns for how long calls of a caller are refused here, because too many of them were denied.
    fn refused_for(&self, caller: impl FnOnce() -> CallerHash) -> Option<Duration> {
        self.denials.get()?.refused_for(self.server.age(), caller)
    }

    /// Ends the connection now, whatever is open on it; callers get `why`.
    pub(crate) fn cut(&self, why: &'static str) {
        if let Some(baton) = self.baton.get() {
            baton.cut(why);
        }
    }

    /// Returns a client that calls the peer over this connection.
    pub(crate) fn caller(&self) -> Client {
        let mut caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = caller.as_ref().filter(|channel| !channel.is_closed()) {
            return Client::over(Arc::clone(channel));
        }
        let server = &self.server;
        let channel = Channel::over_connection(
            &self.shared,
            self.peer.address_arc(),
            Arc::clone(server.settings()),
            server.compression(),
        );
        *caller = Some(Arc::clone(&channel));
        drop(caller);
        // `caller_gone` may have run before the channel was stored, and does not run again.
        if self.shared.with(|conn, _| conn.is_closed()) {
            channel.ended(&self.shared);
        }
        Client::over(channel)
    }

    /// Ends the channel of [`Session::caller`], if there is one: the connection has ended.
    pub(crate) fn caller_gone(&self) {
        let channel = self.caller.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(channel) = channel {
            channel.ended(&self.shared);
        }
    }

    /// The entries that the peer has said once for all calls of the connection; for middleware.
    fn metadata(&self) -> &Metadata {
        self.metadata.all(|| self.take_metadata())
    }

    /// The same for handlers: without the token.
    fn metadata_without_token(&self) -> &Metadata {
        self.metadata.without_token(|| self.take_metadata())
    }

    fn take_metadata(&self) -> Metadata {
        self.with(Clock::Recent, |conn, _| conn.take_peer_metadata())
    }

    /// Waits until this side has begun the connection's end.
    pub(crate) async fn draining(&self) {
        let flag = self.draining.get_or_init(|| {
            let flag = Arc::new(DrainFlag::default());
            let waker = Waker::from(Arc::clone(&flag));
            let mut cx = TaskContext::from_waker(&waker);
            if self
                .with(Clock::Now, |conn, _| conn.poll_draining(&mut cx))
                .is_ready()
            {
                waker.wake();
            }
            flag
        });
        flag.changes
            .wait_for(|| flag.is_raised.load(SeqCst).then_some(()))
            .await;
    }

    /// Returns whether this side has begun the connection's end.
    pub(crate) fn is_draining(&self) -> bool {
        self.with(Clock::Now, |conn, _| conn.is_draining())
    }

    /// Ready when no request of the peer is open, and it knows that no further one will be taken.
    pub(crate) fn poll_drained(&self, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.shared.with(|conn, _| conn.poll_drained(cx))
    }

    /// Ready when the connection has ended.
    pub(crate) fn poll_closed(&self, cx: &mut TaskContext<'_>) -> Poll<Cause> {
        self.shared.with(|conn, _| conn.poll_closed(cx))
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// How long the calls of a retired connection may go on: as long as they like.
const RETIREMENT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A flag that the connection raises once, and that any number of handlers wait for.
///
/// Handlers may stop waiting. The connection's own list of waiters has no way to leave it, so only this flag is in it.
#[derive(Default)]
struct DrainFlag {
    is_raised: AtomicBool,
    changes: Changes,
}

impl Wake for DrainFlag {
    fn wake(self: Arc<Self>) {
        self.is_raised.store(true, SeqCst);
        self.changes.tell();
    }
}

impl<D: ?Sized> fmt::Debug for Session<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer.address())
            .finish_non_exhaustive()
    }
}
