//! Served: one connection of a server, as its dispatcher and its handlers share it.

use std::{
    cell::Cell,
    fmt, mem,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::runtime::Handle;

use crate::server::{
    dispatch::{
        dispatcher::Dispatcher,
        handler_task::HandlerTask,
        stall_monitor::{Watch, Watched},
    },
    state::Shared,
};
use crate::{
    Client, Compression, Peer,
    base::changes::Changes,
    client::Channel,
    conn::{Cause, Connection, State, Time},
    driver::{Baton, Clock, Link},
    net::{Stream, Transport},
};

/// One connection of a server, as its dispatcher and its handlers share it.
pub(crate) struct Served {
    key: u64,
    link: Arc<Link>,
    peer: Peer,
    server: Arc<Shared>,
    /// Where its tasks run.
    runtime: Handle,
    watch: Watch,
    /// Handlers that have to wait, until the dispatcher stops and gives each a task: one that it spawned earlier
    /// could end up in the LIFO slot of this worker, from where nobody can take it, behind a handler that blocks.
    deferred: Mutex<Vec<HandlerTask>>,
    baton: OnceLock<Arc<Baton<Stream>>>,
    /// By which handlers call their caller, once one has asked; until somebody closes it.
    caller: Mutex<Option<Arc<Channel>>>,
    /// Whether this side has begun the connection's end, once a handler has asked.
    draining: OnceLock<Arc<Flag>>,
}

impl Served {
    pub(crate) fn new(key: u64, link: Arc<Link>, peer: Peer, server: Arc<Shared>, runtime: Handle) -> Self {
        let watch = Watch::default();
        Self {
            key,
            link,
            peer,
            server,
            runtime,
            watch,
            deferred: Mutex::default(),
            baton: OnceLock::new(),
            caller: Mutex::default(),
            draining: OnceLock::new(),
        }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn server(&self) -> &Arc<Shared> {
        &self.server
    }

    /// Where the tasks of this connection and of its handlers run.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// How messages to this peer are compressed: as the server was told, if the peer takes that.
    pub(crate) fn compression(&self) -> Option<Compression> {
        let chosen = self.server.compression()?;
        let is_taken = self.with(|conn, _| conn.peer_takes(chosen.encoding()));
        is_taken.then_some(chosen)
    }

    /// Runs `f` on the connection, and wakes its driver if it has work: at once, or, inside of a handler that the
    /// dispatcher polls, when the dispatcher stops.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Connection, Time) -> R) -> R {
        let inline = INLINE.get();
        if inline.served != self.address() {
            return self.link.with(f);
        }
        self.with_inline(inline, Clock::Now, f)
    }

    /// As [`Served::with`], for who comes from the connection, or is polled no longer than a millisecond before it does: at the
    /// beginning of a handler, or with the next message of a stream. It costs no look at the clock.
    pub(crate) fn with_recent<R>(&self, f: impl FnOnce(&mut Connection, Time) -> R) -> R {
        let inline = INLINE.get();
        if inline.served != self.address() {
            return self.link.with(f);
        }
        self.with_inline(inline, Clock::Recent, f)
    }

    fn with_inline<R>(&self, inline: Inline, clock: Clock, f: impl FnOnce(&mut Connection, Time) -> R) -> R {
        let result = self.link.with_quiet(clock, f);
        INLINE.set(Inline { work: true, ..inline });
        result
    }

    /// Runs `f`, a poll of a handler, with the driver left asleep; true if the driver may have work now. If `f` panics, the
    /// driver is woken.
    pub(crate) fn with_driver_asleep<R>(&self, f: impl FnOnce() -> R) -> (R, bool) {
        let asleep = Asleep {
            served: self,
            outer: INLINE.replace(Inline {
                served: self.address(),
                work: false,
            }),
            told: false,
        };
        let result = f();
        (result, asleep.work())
    }

    /// Whether the peer is in this process, so that writing to it wakes its task.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.peer.transport(), Transport::Memory | Transport::InProcess)
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Whether several requests of the peer are open.
    pub(crate) fn has_more_requests(&self) -> bool {
        self.link.look(|conn| conn.has_more_requests())
    }

    /// Keeps a handler that has to wait until [`Served::spawn_deferred`].
    pub(crate) fn defer(&self, task: HandlerTask) {
        self.deferred
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task);
    }

    /// Gives every handler that has to wait a task of its own.
    pub(crate) fn spawn_deferred(&self) {
        let deferred = mem::take(&mut *self.deferred.lock().unwrap_or_else(PoisonError::into_inner));
        for task in deferred {
            self.runtime.spawn(task);
        }
    }

    /// Says how the connection is driven; set once, before its dispatcher starts.
    pub(crate) fn set_baton(&self, baton: Arc<Baton<Stream>>) {
        let _ = self.baton.set(baton);
    }

    pub(crate) fn baton(&self) -> Option<&Arc<Baton<Stream>>> {
        self.baton.get()
    }

    /// Ends the connection now, whatever is open on it; `why` is what callers are told.
    pub(crate) fn cut(&self, why: &'static str) {
        if let Some(baton) = self.baton.get() {
            baton.cut(why);
        }
    }

    /// A client of whoever is at the other end.
    pub(crate) fn caller(&self) -> Client {
        let mut caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = caller.as_ref().filter(|channel| !channel.is_closed()) {
            return Client::over(Arc::clone(channel));
        }
        let server = &self.server;
        let channel = Channel::over_connection(
            &self.link,
            self.peer.address_arc(),
            server.settings(),
            server.compression(),
        );
        *caller = Some(Arc::clone(&channel));
        drop(caller);
        // After that nobody tells it.
        if self.link.with(|conn, _| conn.is_closed()) {
            channel.ended(&self.link);
        }
        Client::over(channel)
    }

    /// The connection has ended: whoever calls by it learns so.
    pub(crate) fn caller_gone(&self) {
        let channel = self.caller.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(channel) = channel {
            channel.ended(&self.link);
        }
    }

    /// Waits until this side has begun the connection's end.
    pub(crate) async fn draining(&self) {
        let flag = self.draining.get_or_init(|| {
            let flag = Arc::new(Flag::default());
            let waker = Waker::from(Arc::clone(&flag));
            let mut cx = Context::from_waker(&waker);
            if self.with(|conn, _| conn.poll_draining(&mut cx)).is_ready() {
                waker.wake();
            }
            flag
        });
        flag.changes
            .wait_for(|| flag.is_raised.load(SeqCst).then_some(()))
            .await;
    }

    /// Whether this side has begun the connection's end.
    pub(crate) fn is_draining(&self) -> bool {
        self.with(|conn, _| conn.is_draining())
    }

    /// Ready when no request of the peer is open, and it knows that no further one will be taken.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.with(|conn, _| conn.poll_drained(cx))
    }

    /// Whether the peer is still there, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.link.with(|conn, _| conn.state());
        matches!(state, State::Open | State::Draining)
    }

    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<Cause> {
        self.link.with(|conn, _| conn.poll_closed(cx))
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// What the monitor asks of a connection whose dispatcher it watches.
impl Watched for Arc<Served> {
    fn watch(&self) -> &Watch {
        &self.watch
    }

    fn take_over(&self, turn: u64, route: usize) {
        self.server.router().route(route).note_slow();
        Dispatcher::take_over(self, turn);
    }

    fn relieve(&self) {
        // From here they go where every worker finds them, so nothing gets stuck behind the next handler.
        self.spawn_deferred();
    }

    fn poke(&self, number: u32) {
        let answer = Answer {
            served: Self::clone(self),
            number,
        };
        self.runtime.spawn(async move { drop(answer) });
        self.link.wake_driver();
    }
}

/// What a connection wakes once, for any number of handlers that wait and may leave again: a connection's own list of
/// those who wait has no way to leave it.
#[derive(Default)]
struct Flag {
    is_raised: AtomicBool,
    changes: Changes,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.is_raised.store(true, SeqCst);
        self.changes.tell();
    }
}

/// The answer to a poke; given, too, if the runtime is gone and drops the task.
struct Answer {
    served: Arc<Served>,
    number: u32,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.served.watch.answer(self.number);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.forget(self.key);
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("peer", &self.peer.address())
            .finish_non_exhaustive()
    }
}

/// The connection whose dispatcher polls a handler on this thread right now.
#[derive(Clone, Copy)]
struct Inline {
    /// The address of its `Served`; zero for none.
    served: usize,
    /// Whether the handler did something with the connection, so that its driver may have work.
    work: bool,
}

thread_local! {
    static INLINE: Cell<Inline> = const { Cell::new(Inline { served: 0, work: false }) };
}

/// The poll of a handler with the driver of `served` left asleep.
struct Asleep<'a> {
    served: &'a Served,
    outer: Inline,
    /// Whether somebody else sees to it that the driver is woken.
    told: bool,
}

impl Asleep<'_> {
    /// Whether the driver may have work; whoever asks wakes it.
    fn work(mut self) -> bool {
        self.told = true;
        INLINE.get().work
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        let work = INLINE.replace(self.outer).work;
        if work && !self.told {
            // The handler panicked: its caller is told by the driver all the same.
            self.served.link.wake_driver();
        }
    }
}
