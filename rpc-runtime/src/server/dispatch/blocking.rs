//! Handlers that block: they run on the pool of threads that is there for that, and go if nobody waits for them before.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use tokio::{runtime::Handle, sync::oneshot};

use super::handler_task::HandlerTask;
use crate::session::Threads;

/// Runs a handler on the blocking pool, as soon as that has a thread to spare.
///
/// Until then the handler lies in a slot of its own, for what is in the pool's queue goes only when a thread gets to
/// it: behind handlers that never end, a call still ends at its deadline, when it is cancelled, and with a drain, and
/// was not executed.
pub(super) fn spawn(runtime: &Handle, task: HandlerTask, threads: Threads) {
    if threads == Threads::One {
        runtime.spawn(task);
        return;
    }
    let slot = HandlerSlot(Arc::new(Mutex::new(Some(task))));
    let (begins, begun) = oneshot::channel::<()>();
    runtime.spawn(watch(slot.clone(), begun));
    runtime.spawn_blocking(move || {
        let task = slot.take();
        drop(begins);
        if let Some(task) = task {
            park_on(task);
        }
    });
}

/// Runs a future on this thread to its end.
///
/// `Handle::block_on` does the same and marks the thread as one that drives tasks: there tokio lets nobody block, and
/// `Runtime::block_on`, `blocking_recv`, `blocking_lock` and the drop of a runtime panic. Here all that works which works
/// in `spawn_blocking`. For the same reason polls have no budget of tokio's: a library that polls by an executor of its
/// own, such as `futures::executor::block_on`, would spin for ever once the budget is used up.
fn park_on(future: impl Future<Output = ()>) {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    while future.as_mut().poll(&mut cx).is_pending() {
        parker.park();
    }
}

/// Lets a thread sleep until it is woken. Not `thread::park`, of which the handler's own code may make use.
#[derive(Default)]
struct Parker {
    is_woken: Mutex<bool>,
    wake: Condvar,
}

impl Parker {
    /// Returns at once if it was woken since it was here last.
    fn park(&self) {
        let is_woken = self.is_woken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_woken = self.wake.wait_while(is_woken, |is_woken| !*is_woken);
        *is_woken.unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }
}

/// Drops a handler that nobody wants any more, unless it begins before.
async fn watch(slot: HandlerSlot, begun: oneshot::Receiver<()>) {
    let mut begun = pin!(begun);
    poll_fn(|cx| {
        if begun.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        slot.poll_unwanted(cx)
    })
    .await;
    // Nobody else has it now, or it has begun and is not here.
    drop(slot.take());
}

/// Where a handler lies until it begins.
#[derive(Clone)]
struct HandlerSlot(Arc<Mutex<Option<HandlerTask>>>);

impl HandlerSlot {
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
