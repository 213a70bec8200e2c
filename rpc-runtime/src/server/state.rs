//! ServerState: what a server's listeners, dispatchers and handles share.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, task::JoinHandle};

use super::{
    connections::Connections,
    cut_log::CutLog,
    guest::{Guest, OpenTasks},
    own_sockets::OwnSockets,
    pulse::Pulse,
    registrations::{Leaving, Registrations},
    router::Router,
    terminate::{Asker, Audit, Decision, ServerKey, TerminateKind},
};
use crate::{
    Code, Compression, Limits, Load, Status, TerminatePolicy,
    api::{
        counters::Counts,
        limits::{DRAIN_TIMEOUT, SERVER_KEEP_ALIVE},
    },
    base::log_limit::Seldom,
    conn::{BUSY_POLL, Cut, Settings, memory::Memory},
    discover::DynRegistrar,
    driver::{Clock, Wakes},
    inspect::Listed,
    message::depth,
    metrics::{self, LiveServer, ServerGauges},
    net::{ProxyFault, TlsFailure},
    session::{self, ServerView, ServiceLayer, Threads, lifecycle::Lifecycle},
};

/// What a server's listeners, dispatchers and handles share.
pub(crate) struct ServerState {
    /// The part that connections and handlers know.
    view: Arc<ServerView>,
    runtime: Handle,
    router: Router,
    options: ServerOptions,
    addresses: Vec<String>,
    connections: Connections,
    /// How many handlers have a task of their own.
    handler_tasks: AtomicUsize,
    /// The accept loops, until the drain takes them.
    accepting: Mutex<Option<Vec<JoinHandle<()>>>>,
    cuts: CutLog,
    failed_accepts: Seldom,
    /// Logs peers whose TLS handshake failed.
    failed_tls: Seldom,
    /// Logs peers without the header of a proxy that is trusted.
    failed_proxies: Seldom,
    own_sockets: OwnSockets,
    pulse: Arc<Pulse>,
    registrations: Registrations,
    key: ServerKey,
    /// The connections of the guest.
    guests: Arc<OpenTasks>,
    /// The connections whose first byte is waited for.
    undecided: Arc<OpenTasks>,
    /// Shows it to those who look into the process.
    listed: OnceLock<Listed>,
}

/// What a server is configured with, apart from its services and addresses.
#[derive(Clone, Debug)]
pub(crate) struct ServerOptions {
    pub(crate) limits: Limits,
    pub(crate) compression: Option<Compression>,
    pub(crate) policy: TerminatePolicy,
    /// What wraps calls of `terminate`: the server's policy, within the middleware that finds out who calls. Empty without a policy.
    pub(crate) terminate_layers: Vec<ServiceLayer>,
    pub(crate) drain_timeout: Duration,
    pub(crate) lame_duck: Duration,
    pub(crate) max_waiting_handlers: usize,
    pub(crate) max_buffered_bytes: u64,
    pub(crate) guest: Option<Arc<dyn Guest>>,
    pub(crate) busy_poll: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            compression: None,
            policy: TerminatePolicy::default(),
            terminate_layers: Vec::new(),
            drain_timeout: DRAIN_TIMEOUT,
            lame_duck: Duration::ZERO,
            max_waiting_handlers: ServerState::MAX_WAITING_HANDLERS,
            max_buffered_bytes: u64::MAX,
            guest: None,
            busy_poll: BUSY_POLL,
        }
    }
}

impl ServerState {
    pub(crate) fn new(
        runtime: Handle,
        router: Router,
        options: ServerOptions,
        addresses: Vec<String>,
        threads: Threads,
    ) -> Arc<Self> {
        let mut instance = [0; 16];
        fastrand::fill(&mut instance);
        let limits = &options.limits;
        let settings = Settings {
            encodings: Compression::announced(options.compression),
            priorities: router.priorities().clone(),
            served: session::served(router.services()),
            is_metered: !router.is_of_bridge(),
            memory: Arc::new(Memory::new(options.max_buffered_bytes)),
            busy_poll: options.busy_poll,
            ..Settings::new(
                limits,
                SERVER_KEEP_ALIVE,
                Bytes::copy_from_slice(&instance),
                fastrand::u32(..),
            )
        };
        let view = ServerView::new(instance, Arc::new(settings), options.compression, threads)
            .bridging(router.is_bridge());
        Arc::new(Self {
            view: Arc::new(view),
            runtime,
            router,
            options,
            addresses,
            connections: Connections::default(),
            handler_tasks: AtomicUsize::new(0),
            accepting: Mutex::new(Some(Vec::new())),
            cuts: CutLog::default(),
            failed_accepts: Seldom::new(FAILED_ACCEPTS),
            failed_tls: Seldom::new(FAILED_TLS),
            failed_proxies: Seldom::new(FAILED_PROXIES),
            own_sockets: OwnSockets::default(),
            pulse: Arc::default(),
            registrations: Registrations::new(),
            key: ServerKey::default(),
            guests: Arc::default(),
            undecided: Arc::default(),
            listed: OnceLock::new(),
        })
    }

    /// Shows the state of the server in metrics, as long as it lives, and what it counts.
    pub(crate) fn show_in_metrics(self: &Arc<Self>) {
        let server: Weak<Self> = Arc::downgrade(self);
        metrics::add_server(server, Arc::clone(&self.view.settings().counts));
    }

    /// The part that connections and handlers know.
    pub(crate) fn view(&self) -> &Arc<ServerView> {
        &self.view
    }

    /// How far the server has come between serving and closed.
    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        self.view.lifecycle()
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

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        self.options.drain_timeout
    }

    /// How long SIGTERM lets the server accept before it drains.
    pub(crate) fn lame_duck(&self) -> Duration {
        self.options.lame_duck
    }

    /// The listening sockets, for a process that is to take them over.
    pub(crate) fn own_sockets(&self) -> &OwnSockets {
        &self.own_sockets
    }

    /// Tells whether the runtimes of the accept loops still run.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Which peers may terminate this server.
    pub(crate) fn policy(&self) -> &TerminatePolicy {
        &self.options.policy
    }

    /// The limits of each connection.
    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// The protocol that serves peers that do not speak ours.
    pub(crate) fn guest(&self) -> Option<&Arc<dyn Guest>> {
        self.options.guest.as_ref()
    }

    /// The connections of the guest.
    pub(crate) fn guests(&self) -> &Arc<OpenTasks> {
        &self.guests
    }

    /// The connections whose first byte is waited for.
    pub(crate) fn undecided(&self) -> &Arc<OpenTasks> {
        &self.undecided
    }

    /// What wraps calls of `terminate`; empty if the [`TerminatePolicy`] decides.
    pub(crate) fn terminate_layers(&self) -> &[ServiceLayer] {
        &self.options.terminate_layers
    }

    /// Keeps it visible to those who look into the process, as long as it is there.
    pub(crate) fn set_listed(&self, listed: Listed) {
        let _ = self.listed.set(listed);
    }

    /// The key by which loopback peers prove their user.
    pub(crate) fn key(&self) -> &ServerKey {
        &self.key
    }

    /// Counters of refused requests and of connections cut off, of all connections together.
    pub(crate) fn counts(&self) -> &Counts {
        &self.view.settings().counts
    }

    /// The memory that all connections hold together.
    pub(crate) fn memory(&self) -> &Memory {
        &self.view.settings().memory
    }

    /// Returns what the server has in hand right now.
    pub(crate) fn load(&self) -> Load {
        let all = self.connections.all();
        let loads = all
            .iter()
            .map(|one| one.shared().lock(Clock::Recent, Wakes::Waiters).load());
        let handlers = Load {
            handler_tasks: self.handler_tasks.load(Ordering::Relaxed),
            ..Load::default()
        };
        loads.fold(handlers, Load::and)
    }

    /// Logs that a peer was cut off.
    pub(crate) fn note_cut(&self, cut: Cut, peer: &str, text: &str) {
        self.cuts.note(cut, peer, text, self.view.age());
    }

    /// Logs that a peer of `listener` was lost before it was accepted.
    pub(crate) fn note_failed_accept(&self, listener: &str, error: &std::io::Error) {
        if let Some(unsaid) = self.failed_accepts.turn(self.view.age()) {
            tracing::warn!(address = listener, %error, unsaid, "a peer was not accepted");
        }
    }

    /// Counts a peer whose TLS handshake failed, and logs why.
    pub(crate) fn note_tls_failure(&self, peer: &str, failure: &TlsFailure) {
        self.counts().tls_handshakes_failed.add();
        let TlsFailure { fault, text, .. } = failure;
        // Health checks and port scanners connect and leave: they are counted, and not worth a warning.
        if failure.has_left {
            return tracing::debug!(peer, text, "TLS handshake failed");
        }
        if let Some(unsaid) = self.failed_tls.turn(self.view.age()) {
            tracing::warn!(peer, fault, text, unsaid, "TLS handshake failed");
        }
    }

    /// Counts a connection without the header of a proxy that is trusted, and logs why.
    pub(crate) fn note_proxy_fault(&self, from: &str, fault: &ProxyFault) {
        self.counts().proxy_headers_refused.add();
        // Health checks connect and leave: they are counted, and not worth a warning.
        if fault.has_left() {
            return tracing::debug!(from, %fault, "no PROXY header");
        }
        if let Some(unsaid) = self.failed_proxies.turn(self.view.age()) {
            tracing::warn!(from, %fault, unsaid, "a connection was closed: it has no PROXY header of a trusted proxy");
        }
    }

    /// Writes a terminate and its decision to the audit log.
    pub(crate) fn audit(&self, asker: &Asker<'_>, kind: TerminateKind, decision: Decision) {
        let audit = Audit {
            asker,
            kind,
            policy: &self.options.policy,
            instance: self.view.instance(),
        };
        audit.log(decision);
    }
}

/// One-way calls that came in one frame.
impl ServerState {
    /// Returns the index of the route of one-way calls of `procedure` that can be handled together: their handlers run in order, no
    /// limit refuses them, and nothing of them is urgent.
    pub(crate) fn route_of_row(&self, procedure: u64, depth: u8) -> Option<usize> {
        let index = self.router.find(procedure)?;
        let takes_them = self.router.route(index).takes_rows();
        (takes_them && depth <= depth::MAX && !self.is_full(true)).then_some(index)
    }
}

/// The limit of handlers with tasks of their own.
impl ServerState {
    /// The default limit.
    pub(crate) const MAX_WAITING_HANDLERS: usize = 10_000;

    /// How many handlers have a task of their own, and how many may.
    pub(crate) fn handler_tasks(&self) -> (usize, usize) {
        let running = self.handler_tasks.load(Ordering::Relaxed);
        (running, self.options.max_waiting_handlers)
    }

    /// Returns the status of a call that exceeds the limit.
    pub(crate) fn overloaded(&self) -> Status {
        let max = self.options.max_waiting_handlers;
        Status::new(
            Code::ResourceExhausted,
            format!("the server runs {max} calls already: its ServerBuilder::max_waiting_handlers"),
        )
    }

    /// Returns whether no further handler may start. Each worker may be between this question and its count, so the limit may
    /// be exceeded by one handler per worker.
    ///
    /// One-way calls leave a quarter of the limit to other calls: no caller waits for them, and those of lost peers still run.
    pub(crate) fn is_full(&self, one_way: bool) -> bool {
        let max = self.options.max_waiting_handlers;
        let most = if one_way { max - max / 4 } else { max };
        self.handler_tasks.load(Ordering::Relaxed) >= most
    }

    /// Counts a handler with a task of its own.
    pub(crate) fn count_handler_task(&self) {
        self.handler_tasks.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a handler with a task of its own.
    pub(crate) fn uncount_handler_task(&self) {
        self.handler_tasks.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The accept loops.
impl ServerState {
    /// Keeps an accept loop for the drain to wait for. It is the error if the drain has taken the loops already.
    pub(crate) fn add_accepting(&self, task: JoinHandle<()>) -> Result<(), JoinHandle<()>> {
        match &mut *self.accepting() {
            Some(tasks) => tasks.push(task),
            None => return Err(task),
        }
        Ok(())
    }

    /// Takes the accept loops; none can be added from then on.
    pub(crate) fn take_accepting(&self) -> Vec<JoinHandle<()>> {
        self.accepting().take().unwrap_or_default()
    }

    fn accepting(&self) -> MutexGuard<'_, Option<Vec<JoinHandle<()>>>> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registries that know of the server.
impl ServerState {
    /// Begins to register the server, unless a drain is asked for.
    pub(super) fn begin_registrations(&self, registrars: Vec<Arc<dyn DynRegistrar>>) {
        self.registrations
            .begin(&self.runtime, registrars, &self.addresses);
    }

    /// Has the server taken out of the registries. Returns the end of that; none if it is in no registry.
    pub(super) fn end_registrations(&self) -> Option<Leaving> {
        self.registrations.end()
    }
}

impl LiveServer for ServerState {
    fn gauges(&self) -> ServerGauges {
        let memory = self.memory();
        ServerGauges {
            buffered: memory.held(),
            buffered_limit: (memory.max() < u64::MAX).then_some(memory.max()),
            handler_tasks: self.handler_tasks.load(Ordering::Relaxed) as u64,
            handler_tasks_limit: self.options.max_waiting_handlers as u64,
            is_draining: self.lifecycle().is_ending(),
        }
    }
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState")
            .field("services", &self.router)
            .field("addresses", &self.addresses)
            .field("lifecycle", self.lifecycle())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl ServerState {
    /// A server without procedures and addresses, in the runtime of the test.
    pub(crate) fn of_nothing(options: ServerOptions) -> Arc<Self> {
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

        Self::of(Arc::new(Nothing), options)
    }

    /// A server of `service` without addresses, in the runtime of the test.
    pub(crate) fn of(service: Arc<dyn crate::Service>, options: ServerOptions) -> Arc<Self> {
        let router = Router::new(vec![service], super::router::TerminateProcedure::Served).unwrap();
        Self::new(Handle::current(), router, options, Vec::new(), Threads::Many)
    }
}

/// The shortest time between two log lines about peers that were lost before they were accepted.
const FAILED_ACCEPTS: Duration = Duration::from_secs(1);
/// The shortest time between two log lines about peers whose TLS handshake failed.
const FAILED_TLS: Duration = Duration::from_secs(1);
/// The shortest time between two log lines about connections without the header of a trusted proxy.
const FAILED_PROXIES: Duration = Duration::from_secs(1);
