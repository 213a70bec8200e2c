//! ServerBuilder: what a server is made of, and its limits.

use std::{fmt, io, sync::Arc, time::Duration};

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Alive, Server, Shared, accept::Gates, machine, router::Router, shared::Options, workers::Workers,
};
use crate::net::is_simulated;
use crate::{
    Code, DrainReport, Error, Limits, Service, TerminatePolicy,
    api::limits::DRAIN_TIMEOUT,
    driver::runtime,
    net::{Address, Incoming, Listener},
};

/// A server to be configured: at least one service and one address.
#[must_use]
pub struct ServerBuilder {
    services: Vec<Arc<dyn Service>>,
    addresses: Vec<String>,
    incoming: Vec<(String, Incoming)>,
    options: Options,
    signals: bool,
    max_connections: Option<usize>,
    max_buffered_bytes: Option<u64>,
    max_handshakes: usize,
    workers: usize,
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            services: Vec::new(),
            addresses: Vec::new(),
            incoming: Vec::new(),
            options: Options::default(),
            signals: true,
            max_connections: None,
            max_buffered_bytes: None,
            max_handshakes: MAX_HANDSHAKES,
            workers: 0,
        }
    }

    /// Adds a service: a generated `XServer` around your type. A server may have many.
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Arc::new(service));
        self
    }

    /// Adds an address to listen on: `tcp://host:port`, `unix:/path` or `mem:name`. A server may have many.
    ///
    /// Port 0 takes a free port, which [`Server::addresses`] tells. `tcp://[::]:port` stands for IPv4, too, as far as the OS lets
    /// it; beside an IPv4 address of the same port it is for IPv6 alone.
    ///
    /// The file of a Unix socket has mode 0600, and is removed at the end. One that a killed server left behind is replaced, one
    /// that anybody may listen on never is: of several servers that start at once, one gets the path.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Serves streams that something else accepts, for transports that are not built in: vsock, a tunnel, a simulated
    /// network. `address` is how [`Server::addresses`], logs and [`Peer::address`](crate::Peer::address) name it.
    ///
    /// Nothing is known of such peers: who of them may terminate the server, a [`TerminatePolicy`] says. An error of
    /// `streams`, a failed TLS handshake, say, delays nobody; only behind one of files or memory that the OS lacks (EMFILE, ENFILE,
    /// ENOMEM, ENOBUFS, also within another `io::Error`) there is a pause before the next stream is asked for. When `streams`
    /// ends, the server says so in its log and goes on without it. A drain drops it.
    ///
    /// A stream may buffer what is written, as [`BufStream`](tokio::io::BufStream) does: it is flushed when all is written that
    /// there is, and after 32 KiB at the latest.
    ///
    /// [`Server::addresses`]: crate::Server::addresses
    pub fn incoming<I, S>(mut self, address: impl Into<String>, streams: I) -> Self
    where
        I: Stream<Item = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = address.into();
        let incoming = Incoming::new(&address, streams);
        self.incoming.push((address, incoming));
        self
    }

    /// What one connection may hold, and how long it may take.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// Takes compressed requests, and compresses replies for clients that take them; see [`Compression`](crate::Compression). Default: none.
    #[cfg(any(feature = "zstd", feature = "lz4"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "zstd", feature = "lz4"))))]
    pub fn compression(mut self, compression: crate::Compression) -> Self {
        self.options.compression = Some(compression);
        self
    }

    /// How long calls that are open may take to end after a terminate. Default 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain_timeout = timeout;
        self
    }

    /// Which peers may terminate the server. Default: those that are surely local, see [`TerminatePolicy`].
    pub fn terminate(mut self, policy: TerminatePolicy) -> Self {
        self.options.policy = policy;
        self
    }

    /// Whether SIGTERM and Ctrl-C drain the server, and a second one gives open calls no more time. Default: yes.
    ///
    /// Both belong to the process: they go to all of its servers that obey them. When the last one has ended, a signal ends the
    /// process at once, with exit code 143 or 130; for a second, one is taken as a repetition and ignored. Say no if the
    /// program handles signals itself, and call [`ServerHandle::drain`](crate::ServerHandle::drain).
    pub fn signals(mut self, obey: bool) -> Self {
        self.signals = obey;
        self
    }

    /// How many connections may be open at once, on all listeners together, at least 1. Default 10,000, or half of the files
    /// that the process may open (the soft limit, on Linux) if that is less.
    ///
    /// Protects files and memory: further peers wait to be accepted.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// How many bytes all connections together may hold: requests until their handlers are gone, unfinished messages, messages
    /// of streams that nobody has taken, replies that wait for room or are not written. Default 1 GiB, or (on Linux) a quarter
    /// of the memory of the machine, of the control group, or of the address space that the process may have, if that is less.
    ///
    /// Protects memory. A connection that holds more than half of what is left is refused further calls with
    /// RESOURCE_EXHAUSTED, and they were not executed: so one alone may hold a third of all, two a quarter each, and there is
    /// something left for those that hold little. Calls of the control service are not refused. When nine tenths are held, a
    /// peer that holds too much and reads nothing for a second is given up; at nineteen twentieths no connections are accepted
    /// until it is less; and at all of it calls are refused on every connection, what comes of unfinished calls fails them, and
    /// one-way calls are dropped as overload, which their senders find in the account; until then their credit alone bounds
    /// them, for it comes back only as they leave.
    pub fn max_buffered_bytes(mut self, bytes: u64) -> Self {
        self.max_buffered_bytes = Some(bytes.max(1));
        self
    }

    /// How many handlers may wait at once, on all connections together. Default 10,000.
    ///
    /// Protects memory: a further call fails with RESOURCE_EXHAUSTED, and was not executed. One-ways leave a quarter of them to
    /// calls, and are dropped as overload beyond that, which the account tells. Calls that end without waiting for anything are
    /// not counted.
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.options.max_calls = calls;
        self
    }

    /// How many peers may be in their handshake at once, at least 1. Default 256.
    ///
    /// Protects against peers that connect and stay mute: when all places are taken for long, they lose theirs.
    pub fn max_handshakes(mut self, handshakes: usize) -> Self {
        self.max_handshakes = handshakes;
        self
    }

    /// Drives connections by so many threads of the server's own, each with a runtime of one thread and, for TCP on Linux, a
    /// listener of its own (SO_REUSEPORT). Default 0: by the runtime that [`ServerBuilder::bind`] is called in.
    ///
    /// Nothing then crosses between threads, which pays with many connections that are busy with small calls: see
    /// docs/workers.md for when, and for figures. A connection stays with the worker that accepted it, so few connections
    /// may share one worker while others idle; a handler that computes or blocks holds up all connections of its worker,
    /// unless its procedure is declared `blocking`. What handlers spawn runs on their worker, and ends with the server.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Listens on all addresses.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION without a service or an address, in a runtime without timers or, for sockets, without IO (build it
    /// with `enable_all()`), or if two services or procedures cannot be told apart;
    /// INVALID_ARGUMENT for what is no address; UNAVAILABLE for one that is taken, with what to do, or if a worker
    /// cannot be started.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn bind(self) -> Result<Server, Error> {
        let runtime = runtime::with_timers("a server needs a tokio runtime")?;
        let router = Router::new(self.services, !self.options.policy.is_disabled())?;
        if self.addresses.is_empty() && self.incoming.is_empty() {
            return Err(Error::local(
                Code::FailedPrecondition,
                "a server needs an address: add one by .listen(\"tcp://127.0.0.1:0\")",
            ));
        }
        let addresses = self
            .addresses
            .iter()
            .map(|text| Address::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        // A simulation has one thread.
        let workers = Workers::start(if is_simulated() { 0 } else { self.workers })?;
        let runtimes = workers.runtimes();
        let mut listeners = Vec::new();
        let mut bound = Vec::with_capacity(addresses.len());
        for index in 0..addresses.len() {
            let of_address = if runtimes.is_empty() {
                vec![(runtime.clone(), Listener::bind_one(&addresses, index).await?)]
            } else {
                let each = Listener::bind_each(&addresses, index, &runtimes).await?;
                runtimes.iter().cloned().zip(each).collect()
            };
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
        let options = Options {
            max_buffered_bytes: self
                .max_buffered_bytes
                .unwrap_or_else(machine::max_buffered_bytes),
            ..self.options
        };
        let max_connections = self.max_connections.unwrap_or_else(machine::max_connections);
        let server = Shared::new(runtime, router, options, bound);
        workers.belong_to(&server);
        Ok(Server {
            alive: Alive(server),
            listeners,
            gates: Arc::new(Gates::new(max_connections, self.max_handshakes)),
            signals: self.signals,
        })
    }

    /// Listens on all addresses, and serves until somebody terminates the server: [`ServerBuilder::bind`] and
    /// [`Server::serve`] in one.
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compression: None,
            limits: Limits::default(),
            policy: TerminatePolicy::default(),
            drain_timeout: DRAIN_TIMEOUT,
            max_calls: MAX_CALLS,
            max_buffered_bytes: u64::MAX,
        }
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
            .field("addresses", &self.addresses)
            .field("options", &self.options)
            .field("signals", &self.signals)
            .field("max_connections", &self.max_connections)
            .field("max_buffered_bytes", &self.max_buffered_bytes)
            .field("max_handshakes", &self.max_handshakes)
            .field("workers", &self.workers)
            .finish()
    }
}

const MAX_CALLS: usize = 10_000;
const MAX_HANDSHAKES: usize = 256;
