//! Callable: the services of a client, which its server may call.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    Shared,
    accept::{Told, outlive},
    dispatch::Dispatcher,
    router::Router,
    shared::Options,
};
use crate::{Compression, Error, Limits, Peer, Service, driver::Link};

/// The services of a client, which its server may call on the connections that the client makes: a server without
/// listeners, and without `terminate`.
pub(crate) struct Callable {
    services: Vec<Arc<dyn Service>>,
    options: Options,
    /// None until the first connection, which decides the runtime.
    server: Mutex<Option<Arc<Shared>>>,
}

impl Callable {
    pub(crate) fn new(
        services: Vec<Arc<dyn Service>>,
        limits: Limits,
        compression: Option<Compression>,
    ) -> Self {
        let options = Options {
            limits,
            compression,
            ..Options::default()
        };
        Self {
            services,
            options,
            server: Mutex::new(None),
        }
    }

    /// What is wrong with the services, if anything is.
    pub(crate) fn wrong(&self) -> Option<Error> {
        Router::new(self.services.clone(), false).err()
    }

    /// Serves the calls that come by `link`, whose driver is `driver`; to be called inside of a runtime.
    pub(crate) fn serve(&self, link: Arc<Link>, peer: Peer, driver: AbortHandle) -> Option<Callee> {
        let served = self.server()?.register(link, peer)?;
        served.set_driver(driver);
        served
            .server()
            .runtime()
            .spawn(Dispatcher::new(Arc::clone(&served)));
        Some(Callee(Told::new(served)))
    }

    fn server(&self) -> Option<Arc<Shared>> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            // A client with wrong services does not come so far.
            let router = Router::new(self.services.clone(), false).ok()?;
            *server = Some(Shared::new(
                Handle::current(),
                router,
                self.options.clone(),
                Vec::new(),
            ));
        }
        server.clone()
    }
}

/// A connection of a client that serves.
pub(crate) struct Callee(Told);

impl Callee {
    /// Looks after what the connection leaves behind.
    pub(crate) async fn outlive(self) {
        let served = self.0.tell();
        outlive(&served).await;
    }
}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.services.iter().map(|service| service.name());
        f.debug_list().entries(names).finish()
    }
}
