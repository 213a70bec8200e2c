//! ServerBuilder: configures a server, its services, addresses and limits.

use std::{collections::HashMap, fmt, future::Future, io, mem, sync::Arc, time::Duration};

use futures_core::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
};

use super::{
    AbortOnDrop, Server,
    drain::END,
    endpoint::{CheckedEndpoint, Endpoint},
    guest::Guest,
    inspected::{UnsetLimits, list_server},
    listen::{admission::AdmissionLimits, defaults, workers::Workers},
    near_paths,
    router::{Router, TerminateProcedure},
    state::{ServerOptions, ServerState},
};
use crate::{
    Code, DrainReport, Error, Limits, Procedure, Service, TerminatePolicy,
    api::limits::DRAIN_TIMEOUT,
    auth::{Guard, Policy, Rule, TERMINATE},
    discover::{DynRegistrar, Registrar},
    driver::runtime,
    layer::Middleware,
    net::{Address, IncomingStreams, Listener, ListeningSocket, ServerSecurity},
    session::{Layered, ServerCall, ServiceLayer, Threads},
};

/// Configures a server: at least one service and one address.
///
/// ```
/// # struct Hello;
/// # impl rpc_runtime::server::Service for Hello {
/// #     fn name(&self) -> &'static str { "doc.v1.Hello" }
/// #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
/// #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// use std::time::Duration;
/// use rpc_runtime::{Server, server::TerminatePolicy};
///
/// let server = Server::builder()
///     .service(Hello)
///     .listener("tcp://127.0.0.1:0")
///     .drain_timeout(Duration::from_secs(10))
///     .terminate_policy(TerminatePolicy::loopback())
///     .max_connections(1000)
///     .bind()
///     .await?;
/// assert_eq!(server.addresses().len(), 1);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until it binds or serves"]
pub struct ServerBuilder {
    services: Vec<Arc<dyn Service>>,
    layers: Vec<ServiceLayer>,
    policy: Option<Guard>,
    rules: Vec<(String, Vec<Arc<str>>)>,
    terminate_policy: Option<TerminatePolicy>,
    endpoints: Vec<Endpoint>,
    incoming: Vec<(String, IncomingStreams)>,
    registrars: Vec<Arc<dyn DynRegistrar>>,
    options: ServerOptions,
    /// None for the default.
    drain_timeout: Option<Duration>,
    signals: bool,
    max_connections: Option<usize>,
    max_buffered_bytes: Option<u64>,
    max_handshakes: usize,
    workers: usize,
    security: ServerSecurity,
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            services: Vec::new(),
            layers: Vec::new(),
            policy: None,
            rules: Vec::new(),
            terminate_policy: None,
            endpoints: Vec::new(),
            incoming: Vec::new(),
            registrars: Vec::new(),
            options: ServerOptions::default(),
            drain_timeout: None,
            signals: true,
            max_connections: None,
            max_buffered_bytes: None,
            max_handshakes: AdmissionLimits::MAX_HANDSHAKES,
            workers: 0,
            security: ServerSecurity::default(),
        }
    }

    /// Adds a service: a generated `XServer` around your type. A server may have many.
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Arc::new(service));
        self
    }

    /// Adds [middleware](crate::middleware) around the calls of all services, also of those that are added later.
    ///
    /// A call passes middleware in the order in which it was added: the first is the outermost.
    ///
    /// ```
    /// use rpc_runtime::{Server, Status, middleware::{self, ServerCall}};
    ///
    /// let server = Server::builder()
    ///     .layer(middleware::from_fn(async |call: ServerCall, next| {
    ///         println!("{} calls {}", call.peer().address(), call.procedure());
    ///         next.run(call).await
    ///     }))
    ///     .layer_for("kv.v1.Kv/rpc_clear", middleware::from_fn(async |call: ServerCall, next| {
    ///         match call.peer().is_local() {
    ///             true => next.run(call).await,
    ///             false => Err(Status::permission_denied("only from this machine")),
    ///         }
    ///     }));
    /// ```
    pub fn layer(mut self, middleware: impl Middleware<ServerCall>) -> Self {
        self.layers.push(ServiceLayer::new(None, middleware));
        self
    }

    /// Adds middleware around the calls of one service, `kv.v1.Kv`, or of one procedure, `kv.v1.Kv/rpc_fetch`.
    ///
    /// It has its place in the same order as that of [`ServerBuilder::layer`].
    pub fn layer_for(mut self, path: impl Into<String>, middleware: impl Middleware<ServerCall>) -> Self {
        self.layers.push(ServiceLayer::new(Some(path.into()), middleware));
        self
    }

    /// Sets the policy, which decides which calls go on. Default: none, and every call does.
    ///
    /// It is asked about each call of each service, inside of all middleware of [`ServerBuilder::layer`] and
    /// [`ServerBuilder::layer_for`], wherever it is set. So it knows the [`Caller`](crate::auth::Caller) that middleware has found.
    /// It alone decides about `terminate`, too: set a rule for that by [`ServerBuilder::allow`]. Otherwise
    /// [`Roles`](crate::auth::Roles) denies it to all, and signals and handles end the server.
    ///
    /// A server whose .proto has rules does not start without a policy.
    ///
    /// ```
    /// use rpc_runtime::{Server, auth::{self, Caller, Roles}};
    ///
    /// let of_user = Roles::new().callers(|peer| peer.is_same_user().then(|| Caller::new("ops").with_role("operator")));
    /// let server = Server::builder().policy(of_user).allow(auth::TERMINATE, ["operator"]);
    /// ```
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policy = Some(Guard::new(policy));
        self
    }

    /// Sets the rule of a service, `kv.v1.Kv`, of one procedure, `kv.v1.Kv/rpc_fetch`, or of
    /// [`TERMINATE`], in place of what the .proto says. That of a procedure goes before that of its service.
    ///
    /// The roles are those that may call: see [`Rule`]. The rule of a service is for its procedures with other paths, too, such as those of an
    /// older version, unless those have a rule of their own.
    pub fn allow<R: Into<Arc<str>>>(
        mut self,
        path: impl Into<String>,
        roles: impl IntoIterator<Item = R>,
    ) -> Self {
        let roles = roles.into_iter().map(Into::into).collect();
        self.rules.push((path.into(), roles));
        self
    }

    /// Adds an address to listen on: `tcp://host:port`, `tls://host:port`, `unix:/path` (on Windows `pipe:name`) or `mem:name`. A server may
    /// have many.
    ///
    /// An [`Endpoint`] in place of the text says more: that it is behind proxies, or that sockets listen there already.
    ///
    /// `tls://` needs the feature `tls`, and a certificate: see `ServerBuilder::tls`.
    ///
    /// Port 0 takes a free port, which [`Server::addresses`] returns. `tcp://[::]:port` includes IPv4 if the OS allows it; beside
    /// an IPv4 address of the same port it is for IPv6 alone.
    ///
    /// The file of a Unix socket has mode 0600, and is removed at the end. If its folder is missing, that is made with mode 0700. A
    /// file that a killed server left behind is replaced. A file that another server may listen on is never replaced: of several
    /// servers that start at once, one gets the path. A path may have as many bytes as the OS takes: 107 on Linux.
    ///
    /// Only the user who runs the server can open its named pipe, and no other machine. If there is a pipe of that name, the server does not
    /// start.
    pub fn listener(mut self, endpoint: impl Into<Endpoint>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Serves byte streams that something else accepts: vsock, a tunnel, a simulated network. `address` is their name in
    /// [`Server::addresses`], logs and [`Peer::address`](crate::Peer::address).
    ///
    /// The server knows nothing of such peers, so set a [`TerminatePolicy`] if one of them may terminate it. An error of
    /// `streams`, such as a failed TLS handshake, delays no other peer. Only an error about files or memory that the OS lacks
    /// (EMFILE, ENFILE, ENOMEM, ENOBUFS, also within another `io::Error`) causes a pause before the next stream is asked for.
    /// When `streams` ends, the server logs it and goes on without it. A drain drops `streams`.
    ///
    /// A stream may buffer what is written, as [`BufStream`](tokio::io::BufStream) does. It is flushed when there is nothing more
    /// to write, and at least every 32 KiB.
    ///
    /// [`Server::addresses`]: crate::Server::addresses
    pub fn incoming<I, S>(mut self, address: impl Into<String>, streams: I) -> Self
    where
        I: Stream<Item = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = address.into();
        let incoming = IncomingStreams::new(&address, streams);
        self.incoming.push((address, incoming));
        self
    }

    /// Keeps the server in a registry by `registrar`, from when it accepts until a drain is asked for. A server may have many.
    ///
    /// The drain first lets it take the server out, for at most 2 s: see [`Registrar::register`]. A registry that is away delays nothing else,
    /// and the server serves also while it is not registered.
    ///
    /// The crate `rpc-etcd` has a registrar for etcd.
    pub fn register(mut self, registrar: impl Registrar) -> Self {
        self.registrars.push(Arc::new(registrar));
        self
    }

    /// Sets the certificate of the `tls://` listeners, and which clients they let in.
    ///
    /// A TLS handshake counts as part of the connection's own: it has the time of
    /// [`Limits::handshake_timeout`](crate::Limits::handshake_timeout), a place in [`ServerBuilder::max_connections`] and in
    /// [`ServerBuilder::max_handshakes`], and no other peer waits for it.
    #[cfg(feature = "_tls")]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "tls", feature = "tls-ring"))))]
    pub fn tls(mut self, tls: crate::tls::ServerTls) -> Self {
        self.security = ServerSecurity::new(tls);
        self
    }

    /// Sets what one connection may hold, and how long it may take. Default: those of [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// Accepts compressed requests, and compresses replies for clients that accept them. Default: none.
    ///
    /// See [`Compression`](crate::Compression).
    #[cfg(any(feature = "zstd", feature = "lz4"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "zstd", feature = "lz4"))))]
    pub fn compression(mut self, compression: crate::Compression) -> Self {
        self.options.compression = Some(compression);
        self
    }

    /// Sets how long open calls may take to end after a terminate. Default: 30 s.
    ///
    /// With [`ServerBuilder::lame_duck`] the default is shorter.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = Some(timeout);
        self
    }

    /// Sets how long the server goes on after SIGTERM, as a lame duck, before it drains. Default: not at all.
    ///
    /// Kubernetes sends SIGTERM to a pod and takes the pod out of its services at the same time, and callers learn of that later. So at SIGTERM
    /// the server says NOT_SERVING ([`Service::before_drain`]), accepts connections and calls for this time, and then drains as always.
    /// A second signal ends all of that at once. Other ways to stop a server have no such time: Ctrl-C, `terminate`, and handles.
    ///
    /// The whole stop takes at most this time, the [drain timeout](ServerBuilder::drain_timeout) and 3 s. Kubernetes kills a pod after 30 s, so
    /// with a lame duck the default of the drain timeout is what makes it 29 s. If you set a drain timeout with which it takes 30 s or more, the
    /// server logs a warning with the sum: `terminationGracePeriodSeconds` has to be longer then.
    ///
    /// ```
    /// use std::time::Duration;
    /// use rpc_runtime::Server;
    ///
    /// // 5 s, a drain of at most 21 s, and 3 s.
    /// let server = Server::builder().lame_duck(Duration::from_secs(5));
    /// ```
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.options.lame_duck = time;
        self
    }

    /// Sets which peers may terminate the server. Default: peers of the server's own user on this machine, see
    /// [`TerminatePolicy`].
    ///
    /// It is for a server without [`ServerBuilder::policy`], which decides about `terminate`, too.
    pub fn terminate_policy(mut self, policy: TerminatePolicy) -> Self {
        self.terminate_policy = Some(policy);
        self
    }

    /// Sets whether SIGTERM and Ctrl-C drain the server, and a second one gives open calls no more time. Default: true.
    ///
    /// On Windows they are Ctrl-C, Ctrl-Break, a console that closes, and a system that shuts down. After the last two Windows ends the
    /// process, as a rule after 5 s. So these shorten the drain: open calls have 1.75 s, or less if the drain timeout is shorter.
    ///
    /// Signals belong to the process: each goes to all of its servers that obey signals. The first of them to serve starts a
    /// thread, `rpc-signals`, which takes both signals from the OS and keeps them until the process ends. When the last of these
    /// servers has ended, a signal ends the process at once, with exit code 143 or 130; one that comes in the second after that
    /// end counts as a repetition and is ignored.
    ///
    /// With `false` for all servers of the process nothing of this happens. Say so if the program handles signals itself, and
    /// drain by [`ServerBuilder::serve_with_shutdown`] or [`ServerHandle::drain`](crate::server::ServerHandle::drain).
    pub fn signals(mut self, obey: bool) -> Self {
        self.signals = obey;
        self
    }

    /// Limits the connections that are open at once, on all listeners together; at least 1. Default: 10,000, or half of the
    /// files that the process may open (the soft limit, on Linux) if that is less.
    ///
    /// Protects files and memory: further peers wait to be accepted.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Limits the bytes that all connections hold together. Default: 1 GiB, or (on Linux) a quarter of the memory of the machine,
    /// of the control group, or of the address space that the process may have, if that is less.
    ///
    /// They are requests until their handlers have ended, unfinished messages, messages of streams that are not read, and replies
    /// that wait for room or are not written.
    ///
    /// Protects memory, in steps:
    ///
    /// - A connection that holds more than half of what is left gets RESOURCE_EXHAUSTED for further calls, not executed. So one
    ///   connection alone may hold a third of all, two may hold a quarter each, and something is left for others. Calls of the
    ///   control service are not refused.
    /// - At nine tenths, a peer that holds too much and reads nothing for 1 s is cut off.
    /// - At nineteen twentieths, no connections are accepted.
    /// - At the limit, calls are refused on every connection, unfinished calls fail, and one-way calls are dropped as overload,
    ///   which the account reports. Until then their credit alone bounds one-way calls: it comes back only when they end.
    pub fn max_buffered_bytes(mut self, bytes: u64) -> Self {
        self.max_buffered_bytes = Some(bytes.max(1));
        self
    }

    /// Limits the handlers that wait at once, on all connections together. Default: 10,000.
    ///
    /// Protects memory: a further call fails with RESOURCE_EXHAUSTED, not executed. One-way calls leave a quarter of the limit to
    /// other calls; beyond three quarters they are dropped as overload, which the account reports. Calls that end without waiting
    /// for anything do not count.
    pub fn max_waiting_handlers(mut self, handlers: usize) -> Self {
        self.options.max_waiting_handlers = handlers;
        self
    }

    /// Limits the peers that are in their handshake at once; at least 1. Default: 256.
    ///
    /// Protects against peers that connect and stay mute. If all places are taken, a newcomer gets the place of the peer that has
    /// had its own for the longest: after 250 ms, or over TLS, whose handshake takes a round trip, after 1 s.
    pub fn max_handshakes(mut self, handshakes: usize) -> Self {
        self.max_handshakes = handshakes;
        self
    }

    /// Serves peers that speak another protocol by `guest`, on each TCP, TLS and Unix listener of this server. A second guest replaces the first.
    pub fn guest(mut self, guest: impl Guest) -> Self {
        self.options.guest = Some(Arc::new(guest));
        self
    }

    /// Limits how long the task of a connection looks at its socket again before it sleeps; zero for never. Default: 50 µs.
    ///
    /// As [`ClientBuilder::busy_poll`](crate::ClientBuilder::busy_poll), for the connections of this server: while calls come quickly
    /// one after the other, on one connection.
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.options.busy_poll = limit;
        self
    }

    /// Sets the number of threads of the server's own that drive its connections. Default: 0, where the runtime that
    /// [`ServerBuilder::bind`] is called in drives them.
    ///
    /// Each has a runtime of one thread and, for TCP on Linux, a listener of its own (SO_REUSEPORT). Nothing then crosses between
    /// threads, which pays with many connections that are busy with small calls: see docs/how-to/workers.md for when, and for
    /// figures. A connection stays with the worker that accepted it, so few connections may share one worker while others idle. A
    /// handler that computes or blocks delays all connections of its worker, unless its procedure is declared `blocking`. Tasks that
    /// handlers spawn run on their worker, and end with the server.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Listens on all addresses.
    ///
    /// # Errors
    ///
    /// - FAILED_PRECONDITION without a service or an address, for a `tls://` address without a certificate, in a runtime without timers or, for sockets, without IO (build it
    ///   with `enable_all()`), or if two services or procedures have one name or id.
    /// - FAILED_PRECONDITION if a procedure has a rule and there is no policy, or if there are both a policy and a terminate policy.
    /// - What a [`Registrar::check`] says against the addresses.
    /// - FAILED_PRECONDITION if a service [refuses](Service::served_with) to be served with the others.
    /// - NOT_FOUND if [`ServerBuilder::layer_for`] or [`ServerBuilder::allow`] names a service or procedure that the server does not have.
    /// - INVALID_ARGUMENT for a text that is no address, and for an [`Endpoint`] that cannot be.
    /// - UNAVAILABLE for an address that is in use, with what to do, or if a worker cannot be started.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn bind(mut self) -> Result<Server, Error> {
        let runtime = runtime::with_timers("a server needs a tokio runtime")?;
        self.add_policy()?;
        let terminate = match self.options.policy.is_disabled() {
            true => TerminateProcedure::Unknown,
            false => TerminateProcedure::Served,
        };
        let router = Router::new(layered(self.services, self.layers)?, terminate)?;
        if self.endpoints.is_empty() && self.incoming.is_empty() {
            return Err(Error::local(
                Code::FailedPrecondition,
                "a server needs an address: add one by .listener(\"tcp://127.0.0.1:0\")",
            ));
        }
        let endpoints = self.endpoints.into_iter().map(Endpoint::checked);
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        if let Some(endpoint) = endpoints
            .iter()
            .find(|endpoint| matches!(endpoint.address, Address::Tls(_)))
        {
            if !self.security.is_set() {
                let text = format!(
                    "{} needs a certificate: add one by .tls(ServerTls::builder(identity).build()?)",
                    endpoint.address
                );
                return Err(Error::local(Code::FailedPrecondition, text));
            }
        }
        let security = match &self.options.guest {
            Some(guest) => self.security.with_guests(guest.alpn()),
            None => self.security,
        };
        let threads = Threads::here();
        let workers = match threads {
            Threads::Many => self.workers,
            Threads::One => 0,
        };
        let workers = Workers::start(workers)?;
        let runtimes = workers.runtimes();
        let addresses: Vec<_> = endpoints.iter().map(|one| one.address.clone()).collect();
        let mut listeners = Vec::new();
        let mut copies = Vec::new();
        let mut bound = Vec::with_capacity(addresses.len());
        for (index, endpoint) in endpoints.into_iter().enumerate() {
            let CheckedEndpoint {
                written,
                address,
                sockets,
                proxies,
            } = endpoint;
            let of_address = match sockets {
                Some(sockets) => Listener::adopt(&address, sockets, or_one(&runtimes, &runtime)).await?,
                None if runtimes.is_empty() => {
                    let one = Listener::bind_one(&addresses, index).await?;
                    vec![(runtime.clone(), one)]
                }
                None => {
                    let each = Listener::bind_each(&addresses, index, &runtimes).await?;
                    runtimes.iter().cloned().zip(each).collect()
                }
            };
            let of_address = of_address
                .into_iter()
                .map(|(runtime, listener)| (runtime, listener.secured(&security).behind(proxies.clone())));
            let of_address: Vec<_> = of_address.collect();
            copies.extend(copies_of(&of_address, &written));
            bound.extend(
                of_address
                    .first()
                    .map(|(_, listener)| listener.address().to_owned()),
            );
            listeners.extend(of_address);
        }
        for (address, incoming) in self.incoming {
            let accepts = runtimes.first().unwrap_or(&runtime).clone();
            listeners.push((accepts, Listener::incoming(&address, incoming)));
            bound.push(address);
        }
        for registrar in &self.registrars {
            registrar.check(&bound)?;
        }
        let options = ServerOptions {
            max_buffered_bytes: self
                .max_buffered_bytes
                .unwrap_or_else(defaults::max_buffered_bytes),
            drain_timeout: drain_timeout(self.drain_timeout, self.options.lame_duck),
            ..self.options
        };
        let unset = UnsetLimits {
            connections: self.max_connections.is_none(),
            buffered_bytes: self.max_buffered_bytes.is_none(),
            drain_timeout: self.drain_timeout.is_none(),
        };
        let max_connections = self.max_connections.unwrap_or_else(defaults::max_connections);
        let admission = Arc::new(AdmissionLimits::new(max_connections, self.max_handshakes));
        let server = ServerState::new(runtime, router, options, bound, threads);
        server.show_in_metrics();
        if server.policy().needs_key() && listeners.iter().any(|(_, listener)| listener.is_loopback()) {
            server.key().write(server.view().instance());
        }
        server.own_sockets().keep(copies);
        workers.belong_to(&server);
        list_server(&server, Some(&admission), unset);
        Ok(Server {
            owned: AbortOnDrop(server),
            listeners,
            admission,
            registrars: self.registrars,
            signals: self.signals && threads == Threads::Many,
        })
    }

    /// Puts the policy inside of all middleware, and makes it decide about `terminate`.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION for a terminate policy beside it, or for a rule without it; NOT_FOUND or INVALID_ARGUMENT for a wrong rule.
    fn add_policy(&mut self) -> Result<(), Error> {
        let rules = mem::take(&mut self.rules);
        let Some(guard) = self.policy.take() else {
            if let Some((path, _)) = rules.first() {
                let text = format!(
                    "allow sets a rule of {path} and no policy decides by it: add one by .policy(auth::Roles::new())"
                );
                return Err(Error::local(Code::FailedPrecondition, text));
            }
            self.options.policy = self.terminate_policy.take().unwrap_or_default();
            return Ok(());
        };
        if self.terminate_policy.is_some() {
            return Err(Error::local(
                Code::FailedPrecondition,
                "a server with a policy has no terminate policy: its policy decides about terminate, so say who may by \
                 .allow(auth::TERMINATE, [..]) and leave .terminate_policy(..) out",
            ));
        }
        let guard = guard.with_rules(checked_rules(rules, &self.services)?);
        self.layers.push(ServiceLayer::policy(guard));
        let of_terminate = self.layers.iter().filter(|layer| layer.wraps_terminate());
        self.options.terminate_layers = of_terminate.cloned().collect();
        self.options.policy = TerminatePolicy::server_policy();
        Ok(())
    }

    /// Binds and serves in one: [`ServerBuilder::bind`], then [`Server::serve`].
    ///
    /// # Errors
    ///
    /// Those of the two.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the server.
    pub async fn serve(self) -> Result<DrainReport, Error> {
        self.bind().await?.serve().await
    }

    /// Binds and serves in one, and drains when `shutdown` resolves: [`ServerBuilder::bind`], then
    /// [`Server::serve_with_shutdown`].
    ///
    /// # Errors
    ///
    /// Those of the two.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the server.
    pub async fn serve_with_shutdown(self, shutdown: impl Future<Output = ()>) -> Result<DrainReport, Error> {
        self.bind().await?.serve_with_shutdown(shutdown).await
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field(
                "services",
                &self
                    .services
                    .iter()
                    .map(|service| service.name())
                    .collect::<Vec<_>>(),
            )
            .field("layers", &self.layers.len())
            .field("policy", &self.policy)
            .field("terminate_policy", &self.terminate_policy)
            .field("endpoints", &self.endpoints)
            .field("registrars", &self.registrars.len())
            .field("drain_timeout", &self.drain_timeout.unwrap_or(DRAIN_TIMEOUT))
            .field("options", &self.options)
            .field("signals", &self.signals)
            .field("max_connections", &self.max_connections)
            .field("max_buffered_bytes", &self.max_buffered_bytes)
            .field("max_handshakes", &self.max_handshakes)
            .field("workers", &self.workers)
            .finish()
    }
}

/// Wraps each service in its middleware.
///
/// # Errors
///
/// NOT_FOUND if a middleware is for a service or procedure that is not among them.
fn layered(
    services: Vec<Arc<dyn Service>>,
    layers: Vec<ServiceLayer>,
) -> Result<Vec<Arc<dyn Service>>, Error> {
    let wraps = |layer: &ServiceLayer, service: &dyn Service| {
        let mut procedures = service.procedures().iter();
        procedures.any(|procedure| layer.wraps(service.name(), procedure))
    };
    for path in layers.iter().filter_map(ServiceLayer::path) {
        check_path("layer_for", path, &services)?;
    }
    let wrapped = services.into_iter().map(|service| {
        let own = layers.iter().filter(|layer| wraps(layer, &*service));
        match own.cloned().collect::<Vec<_>>() {
            own if own.is_empty() => service,
            own => Arc::new(Layered::with_layers(service, own)),
        }
    });
    Ok(wrapped.collect())
}

/// Checks that `path`, given by `setter`, is that of a service or a procedure.
fn check_path(setter: &str, path: &str, services: &[Arc<dyn Service>]) -> Result<(), Error> {
    let is_there = services.iter().any(|service| {
        let mut procedures = service.procedures().iter();
        service.name() == path || procedures.any(|procedure| procedure.is_at(path))
    });
    if is_there {
        return Ok(());
    }
    let paths: Vec<_> = services
        .iter()
        .flat_map(|service| service.procedures())
        .map(Procedure::path)
        .collect();
    let text = format!(
        "{setter} names {path}, which this server does not have: {}",
        near_paths::suggest(path, &paths)
    );
    Err(Error::local(Code::NotFound, text))
}

/// The rules that the program sets, by the path of each procedure. That of a procedure itself counts before that of its service, and that of
/// an older service, which some of its procedures belong to, in between. A service for operators has that of terminate if it has none.
///
/// # Errors
///
/// NOT_FOUND for a path that the server does not have; INVALID_ARGUMENT for a role that no caller can have.
fn checked_rules(
    rules: Vec<(String, Vec<Arc<str>>)>,
    services: &[Arc<dyn Service>],
) -> Result<HashMap<String, Rule>, Error> {
    let (mut of_services, mut of_older_services, mut of_procedures) =
        (HashMap::new(), HashMap::new(), HashMap::new());
    for (path, roles) in rules {
        if path != TERMINATE {
            check_path("allow", &path, services)?;
        }
        if let Some(wrong) = roles.iter().find(|role| role.is_empty() || &***role == "*") {
            let text = format!(
                "allow of {path} names the role {wrong:?}, which no caller has: write \"anyone\" for every caller, \
                 \"authenticated\" for every caller that is known"
            );
            return Err(Error::local(Code::InvalidArgument, text));
        }
        let rule = Rule::set(roles);
        let with_rule = |procedure: &Procedure| (procedure.path().to_owned(), rule.clone());
        // The paths of a service need not begin with its name.
        if let Some(service) = services.iter().find(|service| service.name() == path) {
            of_services.extend(service.procedures().iter().map(with_rule));
            continue;
        }
        let procedures = services.iter().flat_map(|service| service.procedures());
        of_older_services.extend(
            procedures
                .filter(|procedure| procedure.service() == path)
                .map(with_rule),
        );
        of_procedures.insert(path, rule);
    }
    of_services.extend(of_older_services);
    of_services.extend(of_procedures);
    if let Some(rule) = of_services.get(TERMINATE).cloned() {
        let for_operators = services.iter().filter(|service| service.is_for_operators());
        for procedure in for_operators.flat_map(|service| service.procedures()) {
            of_services
                .entry(procedure.path().to_owned())
                .or_insert_with(|| rule.clone());
        }
    }
    Ok(of_services)
}

/// `runtimes`, or the only `one` in their place.
fn or_one<'a>(runtimes: &'a [Handle], one: &'a Handle) -> &'a [Handle] {
    match runtimes.is_empty() {
        true => std::slice::from_ref(one),
        false => runtimes,
    }
}

/// Makes second handles of the sockets of `listeners`, for a process that takes them over. Without one, that is not possible.
fn copies_of(listeners: &[(Handle, Listener)], written: &str) -> Vec<ListeningSocket> {
    let copies = listeners
        .iter()
        .filter_map(|(_, listener)| listener.copy(written).transpose());
    copies.collect::<io::Result<_>>().unwrap_or_else(|error| {
        tracing::warn!(address = written, %error, "this socket cannot be copied: no process can take it over");
        Vec::new()
    })
}

/// The time that open calls have: `set` by the program, or what leaves the whole stop just below [`GRACE_PERIOD`] with a lame duck.
fn drain_timeout(set: Option<Duration>, lame_duck: Duration) -> Duration {
    if lame_duck.is_zero() {
        return set.unwrap_or(DRAIN_TIMEOUT);
    }
    let rest = (GRACE_PERIOD - RESERVE - END).saturating_sub(lame_duck);
    let drain = set.unwrap_or(rest);
    let sum = lame_duck.saturating_add(drain).saturating_add(END);
    if sum >= GRACE_PERIOD || (set.is_none() && rest < RESERVE) {
        tracing::warn!(
            ?lame_duck,
            drain_timeout = ?drain,
            end = ?END,
            ?sum,
            grace_period = ?GRACE_PERIOD,
            "a stop by SIGTERM may take longer than Kubernetes waits unless told otherwise: shorten ServerBuilder::lame_duck or \
             ServerBuilder::drain_timeout, or raise terminationGracePeriodSeconds"
        );
    }
    drain
}

/// The time between SIGTERM and SIGKILL in Kubernetes, unless a pod says otherwise.
const GRACE_PERIOD: Duration = Duration::from_secs(30);
/// What a stop leaves of that time.
const RESERVE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_with_a_lame_duck_ends_before_kubernetes_kills() {
        let seconds = Duration::from_secs;
        for (set, lame_duck, drain) in [
            (None, 0, 30),
            (Some(40), 0, 40),
            (None, 5, 21),
            (None, 20, 6),
            (None, 40, 0),
            (Some(10), 5, 10),
            (Some(60), 5, 60),
        ] {
            let timeout = drain_timeout(set.map(seconds), seconds(lame_duck));
            assert_eq!(timeout, seconds(drain), "{set:?} and {lame_duck}");
        }
    }
}
