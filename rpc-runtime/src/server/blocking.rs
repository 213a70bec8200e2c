//! Handlers that block: they run on the pool of threads that is there for that, and go if nobody waits for them before.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::{runtime::Handle, sync::oneshot};

use super::task::HandlerTask;
use crate::is_simulated;

/// Runs a handler on the blocking pool, as soon as that has a thread to spare.
///
/// Until then the handler lies in a place of its own, for what is in the pool's queue goes only when a thread gets to
/// it: behind handlers that never end, a call still ends at its deadline, when it is cancelled, and with a drain, and
/// was not executed.
pub(super) fn spawn(runtime: &Handle, task: HandlerTask) {
    if is_simulated() {
        // A simulation has one thread, or it could not be repeated.
        runtime.spawn(task);
        return;
    }
    let place = Place(Arc::new(Mutex::new(Some(task))));
    let (begins, begun) = oneshot::channel::<()>();
    runtime.spawn(watch(place.clone(), begun));
    let handle = runtime.clone();
    runtime.spawn_blocking(move || {
        let task = place.take();
        drop(begins);
        if let Some(task) = task {
            handle.block_on(task);
        }
    });
}

/// Drops a handler that nobody wants any more, unless it begins before.
async fn watch(place: Place, begun: oneshot::Receiver<()>) {
    let mut begun = pin!(begun);
    poll_fn(|cx| {
        if begun.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        place.poll_unwanted(cx)
    })
    .await;
    // Nobody else has it now, or it has begun and is not here.
    drop(place.take());
}

/// Where a handler lies until it begins.
#[derive(Clone)]
struct Place(Arc<Mutex<Option<HandlerTask>>>);

impl Place {
    fn take(&self) -> Option<HandlerTask> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ready when nobody wants the handler, or it is not here any more.
    fn poll_unwanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(task) => task.poll_unwanted(cx),
            None => Poll::Ready(()),
        }
    }
}
