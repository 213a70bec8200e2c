//! InProcess: a service that clients of this process call without a socket.

use std::{
    fmt,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, task::JoinHandle};

use super::{
    listen::accept::serve_stream,
    router::{Router, TerminateProcedure},
    state::{ServerOptions, ServerState},
};
use crate::{Code, Error, Peer, Service, net::Stream, session::Threads};

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

impl InProcess {
    /// Makes a server of `service`. Each [`InProcess::accept`] returns the error if the service is wrong.
    pub(crate) fn new(service: impl Service) -> Self {
        Self {
            service: Arc::new(service),
            serving: Mutex::default(),
        }
    }

    /// Serves `stream`: in the runtime of the first call, or in the current one if that has shut down.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION outside of a runtime, or if the service cannot be served; UNAVAILABLE after a terminate.
    pub(crate) fn accept(&self, stream: Stream) -> Result<(), Error> {
        let server = self.server()?;
        if serve_stream(&server, stream, Peer::in_process(), None, server.runtime()) {
            Ok(())
        } else {
            Err(terminated())
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
        *serving = Some(RunningServer {
            server: Arc::clone(&server),
            lives,
        });
        Ok(server)
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
