//! Callable: the services of a client, which its server may call.

use std::{any::Any, fmt, sync::Arc};

use tokio::runtime::Handle;

use super::{
    dispatch::Dispatched,
    inspected::list_callbacks,
    listen::connection_end::{EndNotice, outlive},
    router::{Router, TerminateProcedure},
    state::{ServerOptions, ServerState},
};
use crate::{
    ClientBuilder, Compression, Error, Limits, Peer, Service,
    api::priority::Priorities,
    client::acceptor::{AfterConnection, CallbackServer, CallbackServices},
    driver::{Baton, SharedConnection},
    metrics::ServedProcedures,
    net::Stream,
    session::{Threads, priorities, served},
};

/// Callbacks.
impl<C> ClientBuilder<C> {
    /// Adds a service that the server may call on the connections of this client: for callbacks, subscriptions, and agents
    /// that accept no connections. A client may have many services.
    ///
    /// A handler of the server gets a stub by [`Context::caller`](crate::Context::caller). The handlers of this client run in
    /// the runtime in which the connection was made. They, too, call back by [`Context::caller`](crate::Context::caller): a
    /// service that holds a clone of this client would keep it connected for ever. The server cannot terminate this client.
    ///
    /// A client connects, and connects again after a loss, only when it makes a call. A client that must stay reachable
    /// keeps a stream open, or subscribes again when [`Client::watch_state`](crate::Client::watch_state) tells of a change.
    ///
    /// When the client closes, [`Context::draining`](crate::Context::draining) tells its handlers. Handlers that still run
    /// when [`Client::close`](crate::Client::close) gives up are dropped.
    pub fn service(mut self, service: impl Service) -> Self {
        let collected = self
            .callbacks()
            .and_then(|callbacks| callbacks.as_any().downcast_ref());
        let mut services: Services = collected.cloned().unwrap_or_default();
        services.0.push(Arc::new(service));
        self.set_callbacks(Arc::new(services));
        self
    }
}

/// The services that a builder has collected.
#[derive(Clone, Default)]
struct Services(Vec<Arc<dyn Service>>);

impl CallbackServices for Services {
    fn priorities(&self) -> Priorities {
        priorities(&self.0)
    }

    fn served(&self) -> ServedProcedures {
        served(&self.0)
    }

    fn server(
        &self,
        limits: Limits,
        compression: Option<Compression>,
    ) -> Result<Arc<dyn CallbackServer>, Error> {
        let callable = Callable::new(self.0.clone(), limits, compression);
        callable.router()?;
        Ok(Arc::new(callable))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|service| service.name());
        f.debug_list().entries(names).finish()
    }
}

/// The services of a client, which its server may call on the connections that the client makes.
///
/// Each connection has a server of its own, without listeners and without `terminate`: a client may outlive the runtime of
/// one connection, and make the next in another.
struct Callable {
    services: Vec<Arc<dyn Service>>,
    options: ServerOptions,
}

impl Callable {
    fn new(services: Vec<Arc<dyn Service>>, limits: Limits, compression: Option<Compression>) -> Self {
        let options = ServerOptions {
            limits,
            compression,
            ..ServerOptions::default()
        };
        Self { services, options }
    }

    fn router(&self) -> Result<Router, Error> {
        Router::new(self.services.clone(), TerminateProcedure::Unknown)
    }
}

impl CallbackServer for Callable {
    fn serve(
        &self,
        shared: Arc<SharedConnection>,
        peer: Peer,
        baton: &Arc<Baton<Stream>>,
    ) -> Option<AfterConnection> {
        // A client whose services cannot be served makes no connection.
        let router = self.router().ok()?;
        let runtime = Handle::current();
        let server = ServerState::new(
            runtime.clone(),
            router,
            self.options.clone(),
            Vec::new(),
            Threads::here(),
        );
        list_callbacks(&server);
        let session = Dispatched::register(&server, shared, peer, runtime)?;
        session.spawn_dispatcher(Arc::clone(baton));
        let connection = EndNotice::new(session);
        Some(Box::pin(async move {
            let session = connection.give();
            outlive(&session).await;
        }))
    }
}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.services.iter().map(|service| service.name());
        f.debug_list().entries(names).finish()
    }
}
