//! HandedCalls: calls on their way to the task that drives their connection.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use rpc_runtime::protocol::ProtocolTask;

/// Calls on their way to the task that drives their connection. The client's limits bound them, since each has begun there.
#[derive(Default)]
pub(super) struct HandedCalls(Mutex<Handed>);

#[derive(Default)]
struct Handed {
    calls: Vec<ProtocolTask>,
    /// Wakes the task that takes them.
    taker: Option<Waker>,
    /// True if nothing takes calls any more.
    is_over: bool,
}

impl HandedCalls {
    /// Hands a call over. Returns it if nothing takes it any more.
    pub(super) fn push(&self, call: ProtocolTask) -> Option<ProtocolTask> {
        let taker = {
            let mut handed = self.lock();
            if handed.is_over {
                return Some(call);
            }
            handed.calls.push(call);
            handed.taker.take()
        };
        if let Some(taker) = taker {
            taker.wake();
        }
        None
    }

    /// Moves the calls to `calls`, which is empty. The task of `cx` is woken when there are more.
    pub(super) fn take(&self, calls: &mut Vec<ProtocolTask>, cx: &Context<'_>) {
        let mut handed = self.lock();
        mem::swap(&mut handed.calls, calls);
        match &mut handed.taker {
            Some(taker) => taker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Takes no more calls. Returns those that nothing has taken.
    pub(super) fn end(&self) -> Vec<ProtocolTask> {
        let mut handed = self.lock();
        handed.is_over = true;
        mem::take(&mut handed.calls)
    }

    fn lock(&self) -> MutexGuard<'_, Handed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::wake_count::WakeCount;

    fn call() -> ProtocolTask {
        Box::pin(async {})
    }

    #[test]
    fn calls_wake_their_taker_once_and_come_back_when_it_is_gone() {
        let (handed, count) = (HandedCalls::default(), Arc::<WakeCount>::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let mut taken = Vec::new();
        handed.take(&mut taken, &cx);
        assert!(handed.push(call()).is_none() && handed.push(call()).is_none());
        assert_eq!(count.get(), 1);
        handed.take(&mut taken, &cx);
        assert_eq!(taken.len(), 2);
        assert!(handed.push(call()).is_none());
        assert_eq!(count.get(), 2);
        assert_eq!(handed.end().len(), 1, "it was not taken");
        assert!(handed.push(call()).is_some());
    }
}
