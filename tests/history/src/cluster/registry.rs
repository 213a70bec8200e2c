//! Registry: the resolver of a client, whose answers the scenario changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rpc_runtime::{
    Code, Error, Status,
    discover::{Endpoint, Found, Resolver},
};
use tokio::{select, sync::Notify};

/// The resolver of one client. Clones share their answer.
#[derive(Clone, Debug)]
pub(super) struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    answer: Mutex<Answer>,
    changed: Notify,
}

/// What a registry answers, until it changes.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// These endpoints.
    Set(Vec<Endpoint>),
    /// These endpoints, and then it returns, until a client asks for a refresh.
    SetOnce(Vec<Endpoint>),
    /// Nothing at all.
    Silence,
    /// An error.
    Failure,
    /// A panic.
    Panic,
}

impl Registry {
    /// Makes a registry without an answer yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            answer: Mutex::new(Answer::Silence),
            changed: Notify::new(),
        }))
    }

    /// Answers this from now on.
    pub(super) fn answer(&self, answer: Answer) {
        *self.lock() = answer;
        self.0.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Answer> {
        self.0.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver for Registry {
    async fn follow(&self, found: &Found) -> Result<(), Error> {
        loop {
            let answer = self.lock().clone();
            match answer {
                Answer::Set(endpoints) => found.set(endpoints),
                Answer::SetOnce(endpoints) => {
                    found.set(endpoints);
                    return Ok(());
                }
                Answer::Silence => {}
                Answer::Failure => return Err(Status::new(Code::Unavailable, "the registry is down").into()),
                // This skips the panic hook, which would print the panic.
                Answer::Panic => std::panic::resume_unwind(Box::new("on purpose")),
            }
            select! {
                biased;
                () = self.0.changed.notified() => {}
                () = found.refresh_asked() => {}
            }
        }
    }
}
