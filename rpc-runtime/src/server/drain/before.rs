//! Before: what services do before a drain.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use crate::{Service, base::panic::Panic};

/// What services do before a drain. One that panics does nothing more.
pub(super) struct Before(Vec<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Before {
    /// Lets each service begin.
    pub(super) fn begin(services: &[Arc<dyn Service>]) -> Self {
        let begun = services.iter().filter_map(|service| {
            Panic::catch(|| service.before_drain()).unwrap_or_else(|_| {
                note_panic();
                None
            })
        });
        Self(begun.collect())
    }

    /// Returns whether no service does anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until all have ended.
    pub(super) async fn ended(mut self) {
        poll_fn(|cx| {
            self.0.retain_mut(|one| {
                let poll = Panic::catch(|| one.as_mut().poll(cx));
                poll.map_or_else(|_| note_panic(), |poll| poll.is_pending())
            });
            match self.0.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// Logs a panic. Returns that nothing more is to be done.
fn note_panic() -> bool {
    tracing::error!("a service panicked before a drain");
    false
}
