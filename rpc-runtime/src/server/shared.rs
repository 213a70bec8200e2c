//! Shared: what a server's listeners, connections, handlers and handles have in common.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};

use super::{cuts::CutLog, drain, router::Router};
use crate::session::Served;
use crate::{
    Code, Compression, DrainReport, Limits, Load, Peer, Status, TerminatePolicy,
    api::{counters::Counts, limits::SERVER_KEEP_ALIVE},
    base::{changes::Changes, seldom::Seldom},
    client::inherited::InstanceId,
    conn::{Cut, Settings, memory::Memory},
    driver::Link,
    message::growth::{Budget, Grows},
    server::terminate::{Asker, Audit, Decision, Wish},
};

/// What a server's listeners, connections, handlers and handles have in common.
pub(crate) struct Shared {
    instance: InstanceId,
    /// Those of each connection.
    settings: Arc<Settings>,
    runtime: Handle,
    router: Router,
    options: Options,
    addresses: Vec<String>,
    /// How many handlers have a task of their own.
    calls: AtomicUsize,
    /// When it began.
    epoch: Instant,
    cuts: CutLog,
    left_out: Seldom,
    failed_accepts: Seldom,
    connections: Mutex<Connections>,
    /// The accept loops, until the drain takes them.
    accepting: Mutex<Option<Vec<JoinHandle<()>>>>,
    phase: Mutex<Phase>,
    is_aborted: AtomicBool,
    /// Told when one of the two changes.
    changes: Changes,
}

/// What a server is configured with, apart from its services and addresses.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) limits: Limits,
    pub(crate) compression: Option<Compression>,
    pub(crate) policy: TerminatePolicy,
    pub(crate) drain_timeout: Duration,
    pub(crate) max_calls: usize,
    pub(crate) max_buffered_bytes: u64,
}

/// Where a server stands; it only ever goes forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// No new connections: listeners are being closed.
    Draining,
    /// All peers are told, and no new calls are taken; those that are open may finish.
    Announced,
    /// No handler is left, or none that could be dropped; connections are being closed.
    Drained(DrainReport),
    /// Nothing of the server is left.
    Closed(DrainReport),
}

#[derive(Default)]
struct Connections {
    last_key: u64,
    /// Whether the drain has told all of them, so that no further one is taken in.
    sealed: bool,
    /// In the order in which they came.
    open: BTreeMap<u64, Weak<Served>>,
}

impl Connections {
    /// All of which something is left: to be dropped when the lock is free, for the last owner of one takes it.
    fn all(&self) -> Vec<Arc<Served>> {
        self.open.values().filter_map(Weak::upgrade).collect()
    }
}

impl Shared {
    pub(crate) fn new(
        runtime: Handle,
        router: Router,
        options: Options,
        addresses: Vec<String>,
    ) -> Arc<Self> {
        let mut instance = [0; 16];
        fastrand::fill(&mut instance);
        let limits = &options.limits;
        let settings = Settings {
            encodings: Compression::announced(options.compression),
            priorities: router.priorities().clone(),
            memory: Arc::new(Memory::new(options.max_buffered_bytes)),
            ..Settings::new(
                limits,
                SERVER_KEEP_ALIVE,
                Bytes::copy_from_slice(&instance),
                fastrand::u32(..),
            )
        };
        Arc::new(Self {
            instance,
            settings: Arc::new(settings),
            runtime,
            router,
            options,
            addresses,
            calls: AtomicUsize::new(0),
            epoch: Instant::now(),
            cuts: CutLog::default(),
            left_out: Seldom::new(LEFT_OUT),
            failed_accepts: Seldom::new(FAILED_ACCEPTS),
            connections: Mutex::default(),
            accepting: Mutex::new(Some(Vec::new())),
            phase: Mutex::new(Phase::Serving),
            is_aborted: AtomicBool::new(false),
            changes: Changes::default(),
        })
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.instance
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        self.options.drain_timeout
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// What was refused, and who was cut off, on all connections together.
    pub(crate) fn counts(&self) -> &Counts {
        &self.settings.counts
    }

    /// What all connections hold together.
    /// How much memory messages of that type may take once they are decoded.
    #[inline]
    pub(crate) fn budget(&self, grows: Option<Grows>) -> Budget {
        Budget::new(grows, self.settings.decode_bytes)
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.settings.memory
    }

    /// Says that a peer was cut off.
    pub(crate) fn note_cut(&self, cut: Cut, peer: &str, text: &str) {
        self.cuts.note(cut, peer, text, self.epoch.elapsed());
    }

    /// Says that a failure of a handler was told its caller without all that it brought.
    pub(crate) fn note_left_out(&self, procedure: &str, text: &str) {
        if let Some(unsaid) = self.left_out.turn(self.epoch.elapsed()) {
            tracing::warn!(
                procedure,
                text,
                unsaid,
                "a part of a handler's status did not travel"
            );
        }
    }

    /// Says that a peer of `listener` was lost before it was accepted.
    pub(crate) fn note_failed_accept(&self, listener: &str, error: &std::io::Error) {
        if let Some(unsaid) = self.failed_accepts.turn(self.epoch.elapsed()) {
            tracing::warn!(address = listener, %error, unsaid, "a peer was not accepted");
        }
    }

    /// How replies are compressed for peers that take it.
    pub(crate) fn compression(&self) -> Option<Compression> {
        self.options.compression
    }

    /// Who may terminate this server.
    pub(crate) fn policy(&self) -> &TerminatePolicy {
        &self.options.policy
    }

    /// What the caller of a procedure that is not here is told.
    pub(crate) fn unknown(&self, id: u64) -> Status {
        self.router.unknown(id)
    }

    /// What the caller of one call too many is told.
    pub(crate) fn overloaded(&self) -> Status {
        let max = self.options.max_calls;
        Status::new(
            Code::ResourceExhausted,
            format!("the server runs {max} calls already, which is its limit"),
        )
    }

    /// Whether no further handler may start. A few may be between this question and their count: one per worker.
    ///
    /// One-ways leave a quarter to calls: nobody waits for them, and those of peers that are gone still run.
    pub(crate) fn is_full(&self, one_way: bool) -> bool {
        let max = self.options.max_calls;
        let most = if one_way { max - max / 4 } else { max };
        self.calls.load(Ordering::Relaxed) >= most
    }

    pub(crate) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn uncount_call(&self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections.
impl Shared {
    /// Takes a connection in, whose tasks run in `runtime`; none if the drain has seen all of them already.
    pub(crate) fn register(
        self: &Arc<Self>,
        link: Arc<Link>,
        peer: Peer,
        runtime: Handle,
    ) -> Option<Arc<Served>> {
        let mut connections = self.connections();
        if connections.sealed {
            return None;
        }
        connections.last_key += 1;
        let key = connections.last_key;
        let served = Arc::new(Served::new(key, link, peer, Arc::clone(self), runtime));
        connections.open.insert(key, Arc::downgrade(&served));
        Some(served)
    }

    /// Forgets a connection of which nothing is left, no handler either.
    pub(crate) fn forget(&self, key: u64) {
        self.connections().open.remove(&key);
    }

    /// All connections of which something is left. No further one is taken in.
    pub(crate) fn seal(&self) -> Vec<Arc<Served>> {
        let mut connections = self.connections();
        connections.sealed = true;
        connections.all()
    }

    /// What there is in hand right now.
    pub(crate) fn load(&self) -> Load {
        let all = self.connections().all();
        let loads = all.iter().map(|one| one.link().look(|conn| conn.load()));
        let handlers = Load {
            handler_tasks: self.calls.load(Ordering::Relaxed),
            ..Load::default()
        };
        loads.fold(handlers, Load::and)
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an accept loop for the drain to wait for; gives it back if the drain has taken them already.
    pub(crate) fn add_accepting(&self, task: JoinHandle<()>) -> Result<(), JoinHandle<()>> {
        match &mut *self.accepting() {
            Some(tasks) => tasks.push(task),
            None => return Err(task),
        }
        Ok(())
    }

    pub(crate) fn take_accepting(&self) -> Vec<JoinHandle<()>> {
        self.accepting().take().unwrap_or_default()
    }

    fn accepting(&self) -> MutexGuard<'_, Option<Vec<JoinHandle<()>>>> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The drain.
impl Shared {
    /// Begins the one drain, unless it has begun.
    pub(crate) fn begin_drain(self: &Arc<Self>, asker: &Asker<'_>) {
        self.drain(asker, Wish::Drain);
    }

    /// Begins the drain if it has not begun, and gives the open calls no more time.
    pub(crate) fn abort(self: &Arc<Self>, asker: &Asker<'_>) {
        self.is_aborted.store(true, Ordering::SeqCst);
        self.changes.tell();
        self.drain(asker, Wish::Abort);
    }

    /// Writes down what became of a terminate.
    pub(crate) fn audit(&self, asker: &Asker<'_>, wish: Wish, decision: Decision) {
        let audit = Audit {
            asker,
            wish,
            policy: &self.options.policy,
            instance: self.instance,
        };
        audit.log(decision);
    }

    fn drain(self: &Arc<Self>, asker: &Asker<'_>, wish: Wish) {
        let begins = {
            let mut phase = self.phase();
            let begins = *phase == Phase::Serving;
            if begins {
                *phase = Phase::Draining;
            }
            begins
        };
        let decision = if begins {
            Decision::First
        } else {
            Decision::Repeated
        };
        self.audit(asker, wish, decision);
        if begins {
            self.changes.tell();
            self.runtime.spawn(drain::coordinate(Arc::clone(self)));
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        *self.phase() = phase;
        self.changes.tell();
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.phase(), Phase::Closed(_))
    }

    /// Whether the drain has begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase() != Phase::Serving
    }

    /// Waits until the drain has begun.
    pub(crate) async fn draining(&self) {
        self.wait(|phase| (*phase != Phase::Serving).then_some(())).await;
    }

    /// Waits until all peers are told of the drain.
    pub(crate) async fn announced(&self) {
        self.wait(|phase| (!matches!(phase, Phase::Serving | Phase::Draining)).then_some(()))
            .await;
    }

    /// Waits until no handler is left, or none that could be dropped.
    pub(crate) async fn drained(&self) -> DrainReport {
        self.wait(|phase| match phase {
            Phase::Drained(report) | Phase::Closed(report) => Some(report.clone()),
            Phase::Serving | Phase::Draining | Phase::Announced => None,
        })
        .await
    }

    /// Waits until nothing of the server is left.
    pub(crate) async fn closed(&self) -> DrainReport {
        self.wait(|phase| match phase {
            Phase::Closed(report) => Some(report.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until the open calls are to be given no more time.
    pub(crate) async fn aborted(&self) {
        let is_aborted = || self.is_aborted.load(Ordering::SeqCst).then_some(());
        self.changes.wait_for(is_aborted).await;
    }

    async fn wait<T>(&self, reached: impl Fn(&Phase) -> Option<T>) -> T {
        self.changes.wait_for(|| reached(&self.phase())).await
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("services", &self.router)
            .field("addresses", &self.addresses)
            .field("phase", &*self.phase())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Shared {
    /// A server without procedures and addresses, in the runtime of the test.
    pub(crate) fn of_nothing(options: Options) -> Arc<Self> {
        struct Nothing;

        impl crate::Service for Nothing {
            fn name(&self) -> &'static str {
                "a.Nothing"
            }
            fn procedures(&self) -> &'static [crate::Procedure] {
                &[]
            }
            fn call(&self, _: usize, call: crate::Incoming) -> crate::Handler {
                call.unknown()
            }
        }

        let router = Router::new(vec![Arc::new(Nothing)], true).unwrap();
        Self::new(Handle::current(), router, options, Vec::new())
    }
}

/// How often it is said, at most, that parts of failures did not travel.
const LEFT_OUT: Duration = Duration::from_secs(60);
/// How often it is said, at most, that a peer was lost before it was accepted.
const FAILED_ACCEPTS: Duration = Duration::from_secs(1);
