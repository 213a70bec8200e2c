//! Serving: the server, its options, and the context of a handler.
//!
//! [`Server::builder`] configures a server; its handlers are methods of a trait that you implement, with a [`Context`] each.
//! [`ServerHandle`] and [`TerminatePolicy`] say how a server is stopped. [`Service`], [`Incoming`], [`Handler`] and
//! [`Procedure`] are what generated code is made of; a service may also be written by hand with them.

pub(crate) mod bridge;
mod builder;
pub(crate) mod builtin;
mod callable;
mod connections;
mod cut_log;
mod dispatch;
mod drain;
mod endpoint;
mod guest;
mod handle;
mod in_process;
mod inspected;
mod listen;
mod near_paths;
mod operators;
mod own_sockets;
mod pulse;
mod registrations;
mod router;
mod run;
mod state;
mod terminate;
mod until;

use std::{
    fmt,
    future::{Future, pending},
    sync::Arc,
};

use tokio::runtime::Handle;

pub use crate::{
    api::{counters::Counters, load::Load, report::DrainReport},
    message::procedure::Procedure,
    net::{ListeningSocket, Peer, Transport},
    session::{CallValue, Context, Handler, Incoming, Service},
};

pub use self::{
    builder::ServerBuilder,
    endpoint::Endpoint,
    guest::{
        Guest, GuestConnection, GuestHandshake, GuestServer, GuestStream, HeldMemory, PeerCut, PeerFault,
    },
    handle::ServerHandle,
    run::run,
    terminate::TerminatePolicy,
};
use self::{
    listen::{accept::accept, admission::AdmissionLimits},
    state::ServerState,
    terminate::{Asker, Signals},
    until::until,
};
use crate::{Error, discover::DynRegistrar, net::Listener};

/// A server that listens: clients that connect wait until it serves.
///
/// [`ServerBuilder`] configures it, [`Server::serve`] runs it, and [`ServerHandle`] drains it from elsewhere.
///
/// ```no_run
/// # async fn serve(service: impl rpc_runtime::server::Service) -> Result<(), rpc_runtime::Error> {
/// use rpc_runtime::Server;
///
/// let server = Server::builder().service(service).listener("tcp://127.0.0.1:0").bind().await?;
/// println!("listening on {}", server.addresses().join(", "));
/// let report = server.serve().await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
///
/// # What belongs to the process
///
/// A server runs as tasks of the tokio runtime that [`ServerBuilder::bind`] is called in, or of its own
/// [workers](ServerBuilder::workers). Two threads belong to the process instead. Each starts once, serves all servers of the
/// process, and lives until the process ends:
///
/// - `rpc-signals` starts with the first [`Server::serve`] of a server that obeys signals, and takes SIGTERM and SIGINT from
///   the OS. The first signal drains those servers, the second gives open calls no more time. When no such server is left, a
///   signal ends the process. A process whose servers all have
///   [`signals(false)`](ServerBuilder::signals) has no such thread and no signal handlers.
/// - `rpc-monitor` starts with the first call that a server of the process, or a client that serves, receives. It wakes once a
///   millisecond while handlers run, and sleeps 20 ms after the last. When a handler blocks its thread, it lets the other
///   calls of the connection go on. It cannot be switched off, except by a simulation, which has no such thread.
#[must_use = "a server accepts nothing until it serves"]
pub struct Server {
    owned: AbortOnDrop,
    /// Each with the runtime that accepts by it, and drives its connections.
    listeners: Vec<(Handle, Listener)>,
    admission: Arc<AdmissionLimits>,
    /// What tells registries of it.
    registrars: Vec<Arc<dyn DynRegistrar>>,
    /// Whether it obeys signals.
    signals: bool,
}

impl Server {
    /// Makes a builder, to configure a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Returns the addresses that the server listens on, with the real ports.
    pub fn addresses(&self) -> &[String] {
        self.owned.0.addresses()
    }

    /// Makes a handle, which drains the server from elsewhere.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(&self.owned.0))
    }

    /// Serves until the server is told to terminate: by a peer that may, by a signal, or by a handle.
    ///
    /// From then on it accepts no further calls, and open calls have the drain timeout to end. It returns at most 3 s after
    /// that time, even with stuck peers and handlers, if a worker of the runtime is free.
    ///
    /// SIGTERM and Ctrl-C are signals of the process, which this takes from the OS, unless the server was built with
    /// [`signals(false)`](ServerBuilder::signals). See [`Server`] for the threads that belong to the process.
    ///
    /// A `blocking` handler that never returns keeps a runtime from being dropped, and so a `#[tokio::main]` from returning:
    /// see [`run`](crate::server::run()).
    ///
    /// # Errors
    ///
    /// INTERNAL if the OS refuses to deliver signals.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the server: listeners close, open calls are dropped, in the background.
    pub async fn serve(self) -> Result<DrainReport, Error> {
        self.serve_with_shutdown(pending()).await
    }

    /// Serves as [`Server::serve`] does, and also drains when `shutdown` resolves.
    ///
    /// For programs that decide by themselves when to end. Build the server with [`signals(false)`](ServerBuilder::signals) if
    /// `shutdown` waits for signals.
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
    /// use rpc_runtime::Server;
    /// use tokio::sync::oneshot;
    ///
    /// let (stop, stopped) = oneshot::channel::<()>();
    /// let server = Server::builder().service(Hello).listener("mem:shutdown").signals(false).bind().await?;
    /// let serving = tokio::spawn(server.serve_with_shutdown(async {
    ///     let _ = stopped.await;
    /// }));
    /// drop(stop);
    /// assert!(serving.await.unwrap()?.is_clean());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Server::serve`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the server, as with [`Server::serve`].
    pub async fn serve_with_shutdown(self, shutdown: impl Future<Output = ()>) -> Result<DrainReport, Error> {
        let Self {
            owned,
            listeners,
            admission,
            registrars,
            signals,
        } = self;
        let server = &owned.0;
        // Before the first connection, so that no signal falls between.
        let signals = signals.then(Signals::listen).transpose()?;
        for (runtime, listener) in listeners {
            let accept_loop = accept(Arc::clone(server), listener, Arc::clone(&admission));
            let accepting = runtime.spawn(server.pulse().watch(accept_loop));
            if let Err(accepting) = server.add_accepting(accepting) {
                // The drain did not wait for this loop, so it is waited for here until it has closed its listener.
                let _ = accepting.await;
            }
        }
        server.begin_registrations(registrars);
        tracing::info!(addresses = ?server.addresses(), services = ?server.router(), "serving");
        let closed = server.lifecycle().closed();
        let told = until(obey(signals, server), drain_after(shutdown, server));
        let told = until(told, server.key().keep_fresh());
        Ok(match until(told, closed).await {
            Some(report) => report,
            None => server.lifecycle().closed().await,
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses())
            .finish_non_exhaustive()
    }
}

/// Drains `server` at the first signal, and gives the open calls no more time at the second. It never ends.
async fn obey(signals: Option<Signals>, server: &Arc<ServerState>) {
    let Some(mut signals) = signals else {
        return pending().await;
    };
    drain::begin_by(server, signals.next().await);
    let again = signals.next().await;
    drain::abort(server, &Asker::Signal(again.name));
    // `signals` is kept until the server has ended: further ones are meant for it.
    pending().await
}

/// Drains `server` when `shutdown` resolves. It never ends.
async fn drain_after(shutdown: impl Future<Output = ()>, server: &Arc<ServerState>) {
    shutdown.await;
    drain::begin(server, &Asker::Shutdown);
    pending().await
}

/// A server that is aborted when its owner drops it.
struct AbortOnDrop(Arc<ServerState>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if !self.0.lifecycle().is_closed() {
            drain::abort(&self.0, &Asker::Handle);
        }
    }
}
