//! Registrations: the tasks of a server that keep it in registries.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::until::until;
use crate::{
    Error,
    discover::{DynRegistrar, Pauses, Serving, ServingEnd, poll_caught},
};

/// The tasks of a server that keep it in registries, and a way to end them.
pub(super) struct Registrations {
    end: Arc<ServingEnd>,
    /// None once a drain is asked for.
    tasks: Mutex<Option<Vec<JoinHandle<()>>>>,
}

/// The end of a server's registrations. Dropping it aborts those that are left.
pub(super) struct Leaving(Vec<JoinHandle<()>>);

impl Registrations {
    pub(super) fn new() -> Self {
        Self {
            end: Arc::default(),
            tasks: Mutex::new(Some(Vec::new())),
        }
    }

    /// Begins to register a server that accepts at `addresses`. It does nothing once a drain is asked for.
    pub(super) fn begin(
        &self,
        runtime: &Handle,
        registrars: Vec<Arc<dyn DynRegistrar>>,
        addresses: &[String],
    ) {
        if let Some(tasks) = &mut *self.tasks() {
            for registrar in registrars {
                let serving = Arc::new(Serving::new(addresses, &self.end));
                tasks.push(runtime.spawn(keep(registrar, serving)));
            }
        }
    }

    /// Tells the registrars to take the server out. Returns their end; none if there are none.
    pub(super) fn end(&self) -> Option<Leaving> {
        let tasks = self.tasks().take();
        self.end.come();
        tasks.filter(|tasks| !tasks.is_empty()).map(Leaving)
    }

    fn tasks(&self) -> MutexGuard<'_, Option<Vec<JoinHandle<()>>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leaving {
    /// Waits until the server is taken out, at most [`TAKE_OUT`].
    pub(super) async fn ended(mut self) {
        let all = async {
            for task in &mut self.0 {
                // It catches the panics of the registrar, and nobody else aborts it.
                let _ = task.await;
            }
        };
        if timeout(TAKE_OUT, all).await.is_err() {
            tracing::warn!(limit = ?TAKE_OUT, "drain: a registry still has this server, the registrar has not ended in time; draining now");
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Calls `registrar` until the server ends, again and again if it fails.
async fn keep(registrar: Arc<dyn DynRegistrar>, serving: Arc<Serving>) {
    let mut pauses = Pauses::new();
    loop {
        let begun = Instant::now();
        let ended = caught(Arc::clone(&registrar), Arc::clone(&serving)).await;
        if serving.is_ending() {
            if let Err(error) = ended {
                tracing::warn!(%error, "the server could not be taken out of a registry");
            }
            return;
        }
        if begun.elapsed() >= Pauses::LONGEST {
            pauses = Pauses::new();
        }
        let wait = pauses.next();
        match ended {
            Ok(()) => tracing::warn!(?wait, "a registrar has ended before its server; calling it again"),
            Err(error) => tracing::warn!(%error, ?wait, "the server is not registered; trying again"),
        }
        if until(serving.ending(), sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// Calls `registrar`, whose panic is an error.
async fn caught(registrar: Arc<dyn DynRegistrar>, serving: Arc<Serving>) -> Result<(), Error> {
    let mut work = registrar.register(serving);
    poll_fn(|cx| poll_caught(&mut work, "registrar", cx)).await
}

impl fmt::Debug for Registrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrations").finish_non_exhaustive()
    }
}

/// How long registrars may take to take a server out. The drain goes on then.
const TAKE_OUT: Duration = Duration::from_secs(2);
