//! Serving: the server, its options, and the context of a handler.
//!
//! [`Server::builder`] configures a server; its handlers are methods of a trait that you implement, with a [`Context`] each.
//! [`ServerHandle`] and [`TerminatePolicy`] say how a server is stopped. [`Service`], [`Incoming`], [`Handler`] and
//! [`Procedure`] are what generated code is made of; a service may also be written by hand with them.

pub(crate) mod accept;
mod blocking;
mod builder;
pub(crate) mod builtin;
mod callable;
mod cuts;
pub(crate) mod dispatch;
mod drain;
mod handle;
mod in_process;
mod machine;
mod race;
mod router;
mod run;
pub(crate) mod shared;
pub(crate) mod task;
mod terminate;
pub(crate) mod watch;
mod workers;

use std::{fmt, sync::Arc};

use tokio::runtime::Handle;

use self::{accept::Gates, race::until};
pub use crate::{
    api::{counters::Counters, load::Load, report::DrainReport},
    message::procedure::Procedure,
    net::{Peer, Transport},
    session::{Context, Handler, Incoming, Service},
};

pub use self::{builder::ServerBuilder, handle::ServerHandle, run::run, terminate::TerminatePolicy};
pub(crate) use self::{
    callable::{Callable, Callee},
    in_process::InProcess,
    shared::Shared,
};
use crate::{
    Error,
    net::{Listener, is_simulated},
    server::terminate::{Asker, Signals},
};

/// A server that listens already: clients that connect wait until it serves.
///
/// ```no_run
/// # async fn serve(service: impl rpc_runtime::Service) -> Result<(), rpc_runtime::Error> {
/// use rpc_runtime::Server;
///
/// let server = Server::builder().service(service).listen("tcp://127.0.0.1:0").bind().await?;
/// println!("listening on {}", server.addresses().join(", "));
/// let report = server.serve().await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
pub struct Server {
    alive: Alive,
    /// Each with the runtime that accepts by it, and drives its connections.
    listeners: Vec<(Handle, Listener)>,
    gates: Arc<Gates>,
    signals: bool,
}

impl Server {
    /// A server to be configured.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Where the server listens, with the real ports.
    pub fn addresses(&self) -> &[String] {
        self.alive.0.addresses()
    }

    /// A handle that drains the server from elsewhere.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(&self.alive.0))
    }

    /// Serves until somebody terminates the server: a peer that may, a signal, or a handle.
    ///
    /// From then on it takes no more calls, and gives those that are open the drain timeout to end. It returns no
    /// later than 3 s after that, even with stuck peers and handlers, while a worker of the runtime is free.
    ///
    /// A `blocking` handler that never returns keeps a runtime from being dropped, and so a `#[tokio::main]` from returning:
    /// see [`run`](crate::server::run()).
    ///
    /// # Errors
    ///
    /// INTERNAL if the OS refuses to tell of signals.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the server: listeners close, open calls are dropped, in the background.
    pub async fn serve(self) -> Result<DrainReport, Error> {
        let Self {
            alive,
            listeners,
            gates,
            signals,
        } = self;
        let server = &alive.0;
        // Before the first connection, so that no signal falls between.
        let obeys = signals && !is_simulated();
        let signals = obeys.then(Signals::listen).transpose()?;
        for (runtime, listener) in listeners {
            let accept = accept::accept(Arc::clone(server), listener, Arc::clone(&gates));
            let accepting = runtime.spawn(accept);
            if let Err(accepting) = server.add_accepting(accepting) {
                // The drain did not wait for this one, so it is ours to see the listener closed.
                let _ = accepting.await;
            }
        }
        tracing::info!(addresses = ?server.addresses(), services = ?server.router(), "serving");
        if let Some(signals) = signals {
            until(server.closed(), obey(signals, server)).await;
        }
        Ok(server.closed().await)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses())
            .finish_non_exhaustive()
    }
}

/// The first signal drains, the second gives the open calls no more time.
async fn obey(mut signals: Signals, server: &Arc<Shared>) {
    let name = signals.next().await;
    server.begin_drain(&Asker::Signal(name));
    let name = signals.next().await;
    server.abort(&Asker::Signal(name));
    std::future::pending().await
}

/// A server that has an owner; without one it is aborted.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        if !self.0.is_closed() {
            self.0.abort(&Asker::Handle);
        }
    }
}
