//! InProcess: a service that clients of this process call without a socket.

use std::{
    fmt,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, task::JoinHandle};

use super::{
    inspected::{UnsetLimits, list_server},
    listen::serve::serve_stream,
    router::{Router, TerminateProcedure},
    state::{ServerOptions, ServerState},
};
use crate::{
    Client, ClientBuilder, Code, Error, Peer, Service, client::acceptor::StreamAcceptor, net::Stream,
    session::Threads,
};

/// A service that clients of this process call without a socket: a server without listeners.
pub(crate) struct InProcess {
    service: Arc<dyn Service>,
    /// None until the first call, which chooses the runtime.
    serving: Mutex<Option<RunningServer>>,
}

/// A server, and the runtime that it lives in.
struct RunningServer {
    server: Arc<ServerState>,
    /// Ends when that runtime does, and never before.
    lives: JoinHandle<()>,
}

impl Client {
    /// Makes a client of `service` in this process, without a socket: everything else works as over one.
    ///
    /// The server half lives in the runtime of the first call, which must be made inside of one. When that runtime has shut
    /// down, the next call starts the server half again in its own runtime, with the same `service`: a `static` client
    /// serves many tests. After a terminate it stays terminated.
    ///
    /// ```
    /// # use rpc_runtime::{Client, Error, server::Service};
    /// async fn test(service: impl Service) -> Result<(), Error> {
    ///     let client = Client::in_process(service);
    ///     client.ping().await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn in_process(service: impl Service) -> Self {
        ClientBuilder::to_acceptor(Arc::new(InProcess::new(service))).connect_lazy()
    }
}

impl InProcess {
    /// Makes a server of `service`. Each [`StreamAcceptor::accept`] returns the error if the service is wrong.
    fn new(service: impl Service) -> Self {
        Self {
            service: Arc::new(service),
            serving: Mutex::default(),
        }
    }

    fn server(&self) -> Result<Arc<ServerState>, Error> {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(RunningServer { server, lives }) = &*serving {
            match (lives.is_finished(), server.lifecycle().is_draining()) {
                (false, _) => return Ok(Arc::clone(server)),
                // A terminate means the service, whichever runtime comes next.
                (true, true) => return Err(terminated()),
                (true, false) => {}
            }
        }
        let runtime = Handle::try_current().map_err(|error| {
            Error::local(
                Code::FailedPrecondition,
                "an in-process call needs a tokio runtime",
            )
            .with_source(error)
        })?;
        let router = Router::new(vec![Arc::clone(&self.service)], TerminateProcedure::Served)?;
        let lives = runtime.spawn(pending());
        let server = ServerState::new(
            runtime,
            router,
            ServerOptions::default(),
            Vec::new(),
            Threads::here(),
        );
        server.show_in_metrics();
        let unset = UnsetLimits {
            drain_timeout: true,
            ..UnsetLimits::default()
        };
        list_server(&server, None, unset);
        *serving = Some(RunningServer {
            server: Arc::clone(&server),
            lives,
        });
        Ok(server)
    }
}

impl StreamAcceptor for InProcess {
    /// Serves `stream`: in the runtime of the first call, or, when that has shut down, in the one that is here.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION outside of a runtime, or if the service cannot be served; UNAVAILABLE after a terminate.
    fn accept(&self, stream: Stream) -> Result<(), Error> {
        let server = self.server()?;
        if serve_stream(&server, stream, Peer::in_process(), None, server.runtime()) {
            Ok(())
        } else {
            Err(terminated())
        }
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InProcess").field(&self.service.name()).finish()
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.lives.abort();
    }
}

fn terminated() -> Error {
    Error::local(Code::Unavailable, "the in-process server was terminated")
}
