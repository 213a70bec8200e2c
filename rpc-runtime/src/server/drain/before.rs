//! Before: what services and registrars do before a drain.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use crate::{Service, base::panic::Panic};

/// What services and registrars do before a drain. One that panics does nothing more.
pub(super) struct Before(Vec<Preparing>);

/// What one service does.
struct Preparing(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Drop for Preparing {
    /// Its drop may panic, too.
    fn drop(&mut self) {
        if let Some(future) = self.0.take() {
            if Panic::catch(|| drop(future)).is_err() {
                note_panic();
            }
        }
    }
}

impl Before {
    /// Lets each service begin.
    pub(super) fn begin(services: &[Arc<dyn Service>]) -> Self {
        let begun = services.iter().filter_map(|service| {
            Panic::catch(|| service.before_drain()).unwrap_or_else(|_| {
                note_panic();
                None
            })
        });
        Self(begun.map(|future| Preparing(Some(future))).collect())
    }

    /// Adds something else that comes before the drain.
    pub(super) fn add(&mut self, other: Option<impl Future<Output = ()> + Send + 'static>) {
        self.0
            .extend(other.map(|future| Preparing(Some(Box::pin(future)))));
    }

    /// Returns whether nothing is to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until all have ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: those that have not ended go on when it is called again.
    pub(super) async fn ended(&mut self) {
        poll_fn(|cx| {
            self.0.retain_mut(|one| {
                let poll = Panic::catch(|| match &mut one.0 {
                    Some(future) => future.as_mut().poll(cx),
                    None => Poll::Ready(()),
                });
                poll.map_or_else(
                    |_| {
                        note_panic();
                        false
                    },
                    |poll| poll.is_pending(),
                )
            });
            match self.0.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

fn note_panic() {
    tracing::error!("a service panicked before a drain");
}
