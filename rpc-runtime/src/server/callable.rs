//! Callable: the services of a client, which its server may call.

use std::{fmt, sync::Arc};

use tokio::runtime::Handle;

use super::{
    dispatch::Dispatched,
    listen::connection_end::{EndNotice, outlive},
    router::{Router, TerminateProcedure},
    state::{ServerOptions, ServerState},
};
use crate::{
    Compression, Error, Limits, Peer, Service,
    driver::{Baton, Link},
    net::Stream,
    session::Threads,
};

/// The services of a client, which its server may call on the connections that the client makes.
///
/// Each connection has a server of its own, without listeners and without `terminate`: a client may outlive the runtime of
/// one connection, and make the next in another.
pub(crate) struct Callable {
    services: Vec<Arc<dyn Service>>,
    options: ServerOptions,
}

impl Callable {
    pub(crate) fn new(
        services: Vec<Arc<dyn Service>>,
        limits: Limits,
        compression: Option<Compression>,
    ) -> Self {
        let options = ServerOptions {
            limits,
            compression,
            ..ServerOptions::default()
        };
        Self { services, options }
    }

    /// Returns the error of services that cannot be served.
    pub(crate) fn wrong(&self) -> Option<Error> {
        self.router().err()
    }

    /// Drives the connection of `link`, and serves the calls that arrive on it. It needs a current runtime.
    pub(crate) fn serve(&self, link: Arc<Link>, peer: Peer, baton: &Arc<Baton<Stream>>) -> Option<Callee> {
        // A client whose services cannot be served is refused before.
        let router = self.router().ok()?;
        let runtime = Handle::current();
        let server = ServerState::new(
            runtime.clone(),
            router,
            self.options.clone(),
            Vec::new(),
            Threads::here(),
        );
        let session = Dispatched::register(&server, link, peer, runtime)?;
        session.spawn_dispatcher(Arc::clone(baton));
        Some(Callee(EndNotice::new(session)))
    }

    fn router(&self) -> Result<Router, Error> {
        Router::new(self.services.clone(), TerminateProcedure::Unknown)
    }
}

/// A connection of a client that serves.
pub(crate) struct Callee(EndNotice);

impl Callee {
    /// Cares for the one-way calls that the connection leaves behind.
    pub(crate) async fn outlive(self) {
        let session = self.0.give();
        outlive(&session).await;
    }
}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.services.iter().map(|service| service.name());
        f.debug_list().entries(names).finish()
    }
}
