//! InProcess: a service that clients of this process call without a socket.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use super::{Shared, accept::serve_stream, router::Router, shared::Options};
use crate::{Code, Error, Peer, Service, transport::Stream};

/// A service that clients of this process call without a socket: a server without listeners.
#[derive(Debug)]
pub(crate) struct InProcess(Mutex<State>);

#[derive(Debug)]
enum State {
    /// Not called yet; the first call decides the runtime.
    New(Result<Router, Error>),
    Serving(Arc<Shared>),
    /// Only while the state changes.
    Changing,
}

impl InProcess {
    /// Takes `service`; what is wrong with it shows at the first [`InProcess::accept`].
    pub(crate) fn new(service: impl Service) -> Self {
        let router = Router::new(vec![Arc::new(service)], true);
        Self(Mutex::new(State::New(router)))
    }

    /// Serves `stream`, in the runtime of the first call.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION outside of a runtime, or if the service cannot be served; UNAVAILABLE after a terminate.
    pub(crate) fn accept(&self, stream: Stream) -> Result<(), Error> {
        let server = self.server()?;
        if serve_stream(&server, stream, Peer::in_process(), None, server.runtime()) {
            return Ok(());
        }
        Err(Error::local(
            Code::Unavailable,
            "the in-process server was terminated",
        ))
    }

    fn server(&self) -> Result<Arc<Shared>, Error> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Serving(server) = &*state {
            return Ok(Arc::clone(server));
        }
        let runtime = Handle::try_current().map_err(|error| {
            Error::local(
                Code::FailedPrecondition,
                "an in-process call needs a tokio runtime",
            )
            .with_source(error)
        })?;
        let router = match std::mem::replace(&mut *state, State::Changing) {
            State::New(Ok(router)) => router,
            State::New(Err(error)) => {
                *state = State::New(Err(error.clone()));
                return Err(error);
            }
            State::Serving(_) | State::Changing => unreachable!("looked at above, under the same lock"),
        };
        let server = Shared::new(runtime, router, Options::default(), Vec::new());
        *state = State::Serving(Arc::clone(&server));
        Ok(server)
    }
}
