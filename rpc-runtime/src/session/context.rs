//! Context: what a handler knows of its call; and what code running inside a handler inherits from it.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::{Duration, Instant as StdInstant},
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    Call, Client, Code, Metadata, Peer, Procedure, Result, Status,
    client::inherited::{HandlerId, Inherited, InstanceId, inherited},
    conn::{CallId, Unwanted},
    driver::Clock,
    session::Session,
    wire::frame::control::Progress,
};

/// What a handler knows of its call: who called, what, until when, and whether the answer is still wanted.
///
/// Cheap to clone, and a clone may outlive the handler: a task that the handler spawned takes one along, and makes
/// its own calls `.within(&cx)`.
#[derive(Clone)]
pub struct Context {
    session: Arc<Session>,
    id: CallId,
    one_way: bool,
    /// How many calls it is inside of.
    depth: u8,
    procedure: &'static str,
    deadline: Option<Instant>,
    /// None for no entries: most calls have none, and then nothing is allocated.
    metadata: Option<Arc<Metadata>>,
}

impl Context {
    #[inline]
    pub(crate) fn new(
        session: Arc<Session>,
        id: CallId,
        one_way: bool,
        depth: u8,
        procedure: &'static str,
        deadline: Option<Instant>,
        metadata: Metadata,
    ) -> Self {
        let metadata = (!metadata.is_empty()).then(|| Arc::new(metadata));
        Self {
            session,
            id,
            one_way,
            depth,
            procedure,
            deadline,
            metadata,
        }
    }

    /// Who called, as far as the transport knows.
    pub fn peer(&self) -> &Peer {
        self.session.peer()
    }

    /// The procedure, as `package.Service/Name`.
    pub fn procedure(&self) -> &'static str {
        self.procedure
    }

    /// When the handler will be dropped, if it has not ended by then; none if the caller set no deadline.
    ///
    /// Calls that the handler makes inherit it by themselves.
    pub fn deadline(&self) -> Option<StdInstant> {
        self.deadline.map(Instant::into_std)
    }

    /// How long it is until the deadline: zero once it has passed, none if there is none.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The entries that the caller sent beside the request.
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata::new();
        self.metadata.as_deref().unwrap_or(&NONE)
    }

    /// Adds an entry that travels beside the reply, or beside the refusal if the handler fails.
    ///
    /// The caller reads it from the [`Receipt`](crate::Receipt) of its call, or from the refusal's [`Status`].
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED if it does not fit, INVALID_ARGUMENT if [`Metadata`] does not allow the key, or if nothing goes
    /// back: a one-way call, or one that is over.
    pub fn add_reply_metadata(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Result<()> {
        let (key, value) = (key.into(), value.into());
        Metadata::check_key(&key).map_err(|text| Status::new(Code::InvalidArgument, text))?;
        let is_added = self
            .session
            .with(Clock::Now, |conn, _| conn.add_reply_metadata(self.id, key, value));
        if is_added {
            return Ok(());
        }
        Err(if self.one_way || self.is_cancelled() {
            Status::new(
                Code::InvalidArgument,
                "no reply goes back that metadata could travel beside",
            )
        } else {
            let (entries, len) = (Metadata::MAX_ENTRIES, Metadata::MAX_LEN);
            let text = format!("metadata exceeds limit of {entries} entries or {len} bytes");
            Status::new(Code::ResourceExhausted, text)
        })
    }

    /// Whether nothing goes back to the caller: it used `send`.
    pub fn is_one_way(&self) -> bool {
        self.one_way
    }

    /// A stub to whoever called, over the connection that the call came by: for a client that serves
    /// (`ClientBuilder::serve`). `C` is a generated client: `cx.caller::<WatcherClient>()`.
    ///
    /// It may outlive the handler: a subscription calls it for as long as the connection lives. When that has ended, its
    /// calls fail UNAVAILABLE, not executed, and its `Client::state` is closed; it never connects again. A peer that serves
    /// nothing answers UNIMPLEMENTED.
    ///
    /// Calls that a handler makes wait for no slot or credit of the connection that its own call came by, for only its end
    /// might give them back: they fail RESOURCE_EXHAUSTED then, not executed.
    pub fn caller<C: From<Client>>(&self) -> C {
        self.session.caller().into()
    }

    /// Waits until the handler's answer is no longer wanted: the caller has cancelled or gone, the deadline has
    /// passed, or a drain's time is over.
    ///
    /// The handler itself is dropped then, at its next await, so it need not watch this. It is for tasks that the
    /// handler spawned, and for handlers that compute for long between awaits. After the handler's end it resolves
    /// at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn cancelled(&self) {
        poll_fn(|cx| {
            self.session
                .with(Clock::Now, |conn, _| conn.poll_unwanted(self.id, cx))
        })
        .await;
    }

    /// Whether the handler's answer is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        let mut cx = TaskContext::from_waker(Waker::noop());
        self.session
            .with(Clock::Now, |conn, _| conn.poll_unwanted(self.id, &mut cx))
            .is_ready()
    }

    /// Waits until the server is told to terminate: then it takes no more calls, and gives those that are open, this one
    /// too, the drain timeout to end. It resolves as well when only the connection is to end: one that is too old
    /// ([`Limits::max_age`](crate::Limits::max_age)), or, in a client that serves, one that the client closes.
    ///
    /// For handlers that run for long and can end early, a stream above all. When that time is over, the handler is
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn draining(&self) {
        self.session.draining().await;
        let server = self.session.server().lifecycle();
        if server.is_draining() {
            // Not a moment earlier: what ends after all peers were told is in the drain's report.
            server.announced().await;
        }
    }

    /// Whether the server has been told to terminate, or the connection is to end: see [`Context::draining`].
    pub fn is_draining(&self) -> bool {
        self.session.server().lifecycle().is_draining() || self.session.is_draining()
    }

    /// Waits until the one-way calls that came before this one by its connection have ended; what became of all.
    pub(crate) async fn sends_settled(&self) -> Progress {
        poll_fn(|cx| {
            self.session
                .with(Clock::Now, |conn, _| conn.poll_settled(self.id, cx))
        })
        .await
    }

    /// The server that the call came to.
    pub(crate) fn instance(&self) -> InstanceId {
        self.session.server().instance()
    }

    /// The connection that the call came by.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What calls made by the handler's own future inherit.
    #[inline]
    pub(crate) fn inherited(&self) -> Inherited {
        Inherited {
            handler: HandlerId::next(),
            deadline: self.deadline,
            instance: Some(self.instance()),
            depth: self.depth.saturating_add(1),
        }
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
    /// Inherits the deadline of `cx`, in a task that a handler spawned.
    ///
    /// Calls that the handler makes in its own future inherit it by themselves. A terminate of the handler's own server
    /// returns when the drain begins, so that the handler may wait for the task.
    pub fn within(self, cx: &Context) -> Self {
        self.within_call(cx.deadline, cx.instance(), cx.depth)
    }
}

/// The call whose handler is polled on this thread, for whoever needs more of it than [`Inherited`] has.
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

    /// The call whose handler is polled here; none elsewhere, a task that a handler spawned among that.
    pub(crate) fn current() -> Option<Self> {
        SERVING.with(|place| {
            let serving = place.take();
            let copy = serving.as_deref().cloned();
            place.set(serving);
            copy
        })
    }

    /// Makes the future of the call's handler and runs it to its end, so that what it calls inherits `inherited`. An error is
    /// what it panicked with. One future and not several around each other: each would be moved.
    pub(crate) async fn scope<F: Future>(
        self,
        inherited: Inherited,
        make: impl FnOnce() -> F,
    ) -> Result<F::Output, Box<dyn Any + Send>> {
        let mut owner = Owner(Some(ManuallyDrop::new(self)));
        let mut handler = pin!({
            let _entered = inherited.enter();
            make()
        });
        poll_fn(|cx| {
            let _polled = Polled::new(&mut owner.0);
            let _entered = inherited.enter();
            match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
                Ok(poll) => poll.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        })
        .await
    }

    /// The procedure that was called.
    pub(crate) fn procedure(&self) -> &'static str {
        self.procedure.path()
    }

    /// The id of the call on its connection.
    pub(crate) fn id(&self) -> u64 {
        self.id.0
    }

    /// Who called.
    pub(crate) fn peer(&self) -> &str {
        self.session.peer().address()
    }

    /// What the call ends with if nobody can have its answer any more.
    pub(crate) fn lost_code(&self) -> Option<Code> {
        let mut cx = TaskContext::from_waker(Waker::noop());
        match self
            .session
            .with(Clock::Now, |conn, _| conn.poll_unwanted(self.id, &mut cx))
        {
            Poll::Ready(Unwanted::Cancelled | Unwanted::Disconnected) => Some(Code::Cancelled),
            Poll::Ready(Unwanted::Deadline) => Some(Code::DeadlineExceeded),
            Poll::Ready(Unwanted::Drained) | Poll::Pending => {
                // Its connection may not have looked yet.
                let has_passed = inherited()
                    .deadline
                    .is_some_and(|deadline| deadline <= Instant::now());
                has_passed.then_some(Code::DeadlineExceeded)
            }
        }
    }
}

/// A call that is dropped by its handler's future: a place of a thread would have to be looked after at the thread's end,
/// which costs a look at each use.
type Held = Option<ManuallyDrop<Serving>>;

/// Puts a call where [`Serving::current`] finds it, and gives it back when it is dropped, in a panic too.
struct Polled<'a> {
    owner: &'a mut Held,
    outer: Held,
}

impl<'a> Polled<'a> {
    #[inline]
    fn new(owner: &'a mut Held) -> Self {
        let outer = SERVING.replace(owner.take());
        Self { owner, outer }
    }
}

impl Drop for Polled<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.owner = SERVING.replace(self.outer.take());
    }
}

/// The owner of a [`Held`], which drops what it holds.
struct Owner(Held);

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.take().map(ManuallyDrop::into_inner));
    }
}

thread_local! {
    static SERVING: Cell<Held> = const { Cell::new(None) };
}
