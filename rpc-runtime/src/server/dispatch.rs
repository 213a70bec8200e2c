//! Dispatch: from the requests of a connection to running handlers.
//!
//! The dispatcher drives the connection and polls each handler once; a handler that is pending gets a task, or a thread if it
//! is `blocking`. `rows` polls the handlers of one-way calls that came in one frame, one after the other. The stall monitor
//! replaces a dispatcher whose handler does not return.

mod batch;
mod blocking;
mod dispatcher;
mod handler_task;
mod pass;
mod rows;
mod stall_monitor;

use std::{
    mem,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::runtime::Handle;

use self::{
    batch::RequestBatch, dispatcher::Dispatcher, handler_task::HandlerTask, stall_monitor::Monitored,
};
use super::state::ServerState;
use crate::{
    Peer, Procedure,
    base::{panic::Panic, shared_task::SharedTask},
    driver::{Baton, SharedConnection},
    metrics::{ProcedureCounts, Protocol, Shard, Side},
    net::Stream,
    session::{BlockedPoll, Session, StallRecord, Threads},
};

/// A connection with the part that only the dispatcher knows.
pub(crate) type Dispatched = Session<Dispatch>;

/// What the dispatcher keeps of a connection.
pub(crate) struct Dispatch {
    server: Arc<ServerState>,
    /// Names the connection among all of the server.
    key: u64,
    batch: RequestBatch,
    /// Pending handlers, until the dispatcher stops and gives each a task. A task that it spawned earlier could end up in the
    /// LIFO slot of this worker, behind a handler that blocks, where no other worker can take it.
    deferred: Mutex<Vec<HandlerTask>>,
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.server.connections().remove(self.key);
    }
}

impl Dispatched {
    /// Adds a connection to those of `server`; its tasks run in `runtime`. Returns none if the drain has told all connections
    /// already.
    pub(crate) fn register(
        server: &Arc<ServerState>,
        shared: Arc<SharedConnection>,
        peer: Peer,
        runtime: Handle,
    ) -> Option<Arc<Self>> {
        server.connections().add(|key| {
            let dispatch = Dispatch {
                server: Arc::clone(server),
                key,
                batch: RequestBatch::default(),
                deferred: Mutex::default(),
            };
            Self::new(shared, peer, Arc::clone(server.view()), runtime, dispatch)
        })
    }

    /// Spawns the dispatcher of the connection, which drives it by `baton`.
    pub(crate) fn spawn_dispatcher(self: &Arc<Self>, baton: Arc<Baton<Stream>>) {
        self.set_baton(Arc::clone(&baton));
        let dispatcher = Dispatcher::new(Arc::clone(self), Some(baton), 0);
        let bridged = self.state().router().bridged();
        match bridged.and_then(|connection| connection.take_driver()) {
            Some(driver) => self.runtime().spawn(SharedTask::new(dispatcher, driver)),
            None => self.runtime().spawn(dispatcher),
        };
    }

    /// The server with its router.
    pub(crate) fn state(&self) -> &Arc<ServerState> {
        &self.dispatch().server
    }

    /// Keeps a pending handler until [`Dispatched::spawn_deferred`].
    fn defer(&self, task: HandlerTask) {
        self.dispatch()
            .deferred
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task);
    }

    /// Gives every pending handler a task of its own, unless the connection of a bridge takes it.
    fn spawn_deferred(&self) {
        let deferred = &self.dispatch().deferred;
        let deferred = mem::take(&mut *deferred.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(taker) = self.state().router().call_taker() else {
            deferred
                .into_iter()
                .for_each(|task| drop(self.runtime().spawn(task)));
            return;
        };
        for task in deferred {
            if let Some(task) = taker.take_call(Box::pin(task)) {
                self.runtime().spawn(task);
            }
        }
    }

    /// Requests that the dispatcher has taken and not started.
    fn batch(&self) -> &RequestBatch {
        &self.dispatch().batch
    }

    /// Gives the connection back what the dispatcher has taken and not started.
    fn give_batch_back(&self) {
        self.batch().give_back(self.shared(), self.stalls());
    }

    /// Makes sure that the stall monitor looks at this connection.
    fn monitor(self: &Arc<Self>) {
        if self.stalls().is_unlisted() && self.server().threads() == Threads::Many {
            stall_monitor::list(self);
        }
    }
}

impl Monitored for Dispatched {
    fn stalls(&self) -> &StallRecord {
        Self::stalls(self)
    }

    fn take_over(self: Arc<Self>, turn: u64) -> bool {
        // Spawned before it has its turn. Between the late dispatcher and this one the runtime is never idle, so a clock that is
        // paused does not jump to a deadline, however long this thread gets no processor.
        let given = Arc::new(OnceLock::new());
        let next = Dispatcher::new(Arc::clone(&self), self.baton().cloned(), turn);
        self.runtime().spawn(next.run_when_given(Arc::clone(&given)));
        let taken = self.stalls().take_turn(turn);
        let _ = given.set(taken.map(|(turn, _)| turn));
        let Some((_, route)) = taken else {
            return false;
        };
        self.state().router().route(route).note_slow();
        self.count_blocked(route);
        true
    }

    fn count_blocked(&self, route: usize) {
        let route = self.state().router().route(route);
        if !route.is_control() {
            self.count_blocked_handler(route.procedure());
        }
    }

    fn log_blocked(&self, poll: &BlockedPoll) {
        let route = self.state().router().route(poll.route);
        let Some(unsaid) = route.blocked_lines().turn(self.server().age()) else {
            return;
        };
        let (procedure, call) = (route.procedure().path(), poll.call.0);
        let (peer, blocks_for) = (self.peer().address_arc(), poll.since.elapsed());
        let log = move || {
            let peer = &*peer;
            tracing::warn!(
                procedure,
                call,
                peer,
                ?blocks_for,
                unsaid,
                "a handler blocks its thread"
            );
        };
        // Not by a task, since the handler may block the last worker, and not here, since a log that waits must not hold up the monitor.
        // It panics if the OS has no thread.
        let _ = Panic::catch(|| self.runtime().spawn_blocking(log));
    }

    fn relieve(&self) {
        // From here they go where every worker finds them, so nothing gets stuck behind the next handler.
        self.spawn_deferred();
    }

    fn poke(self: Arc<Self>, number: u32) {
        let answer = PokeAnswer {
            session: Arc::clone(&self),
            number,
        };
        self.runtime().spawn(async move { drop(answer) });
        self.shared().wake_driver();
    }
}

impl Dispatched {
    /// Counts a handler that blocks its thread.
    fn count_blocked_handler(&self, procedure: &'static Procedure) {
        let protocol = match self.is_of_guest() {
            true => Protocol::Grpc,
            false => Protocol::Native,
        };
        if self.server().settings().is_metered {
            let counts = ProcedureCounts::of(procedure.id(), procedure.path());
            counts.counts(Side::Server, protocol, Shard::default()).blocks();
        }
    }
}

/// The answer to a poke; given, too, if the runtime is gone and drops the task.
struct PokeAnswer {
    session: Arc<Dispatched>,
    number: u32,
}

impl Drop for PokeAnswer {
    fn drop(&mut self) {
        self.session.stalls().answer(self.number);
    }
}
