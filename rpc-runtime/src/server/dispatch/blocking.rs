//! Handlers that block: they run on tokio's blocking pool, and are dropped if their reply is no longer wanted before.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use tokio::{runtime::Handle, sync::oneshot};

use super::handler_task::HandlerTask;
use crate::session::Threads;

/// Runs a handler on the blocking pool, as soon as that has a free thread.
///
/// Until then the handler lies in a slot of its own and not in the pool's queue, which drops nothing before a thread gets to
/// it. So a call behind handlers that never end still ends at its deadline, when it is cancelled, and with a drain; it was not
/// executed.
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
/// `Handle::block_on` does the same, but marks the thread as one that drives tasks. There tokio forbids to block:
/// `Runtime::block_on`, `blocking_recv`, `blocking_lock` and the drop of a runtime panic. Here everything works that works in
/// `spawn_blocking`. For the same reason polls have no coop budget of tokio's: a library that polls by an executor of its own,
/// such as `futures::executor::block_on`, would spin for ever once the budget is used up.
fn park_on(future: impl Future<Output = ()>) {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    while future.as_mut().poll(&mut cx).is_pending() {
        parker.park();
    }
}

/// Lets a thread sleep until it is woken. It is not `thread::park`, since the handler's own code may use that.
#[derive(Default)]
struct Parker {
    is_woken: Mutex<bool>,
    wake: Condvar,
}

impl Parker {
    /// Sleeps until woken; returns at once if it was woken since the last time.
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

/// Drops a handler whose reply is no longer wanted, unless it begins before.
async fn watch(slot: HandlerSlot, begun: oneshot::Receiver<()>) {
    let mut begun = pin!(begun);
    poll_fn(|cx| {
        if begun.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        slot.poll_unwanted(cx)
    })
    .await;
    // It is still in the slot, or it has begun and the slot is empty.
    drop(slot.take());
}

/// Holds a handler until it begins.
#[derive(Clone)]
struct HandlerSlot(Arc<Mutex<Option<HandlerTask>>>);

impl HandlerSlot {
    fn take(&self) -> Option<HandlerTask> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ready when the reply is no longer wanted, or the handler has left the slot.
    fn poll_unwanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(task) => task.poll_unwanted(cx),
            None => Poll::Ready(()),
        }
    }
}
