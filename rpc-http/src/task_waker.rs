//! TaskWaker: wakes a task, but not while it runs.

use std::{
    sync::{Arc, PoisonError},
    task::{Context, Wake, Waker},
};

use crate::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering::SeqCst},
};

/// Wakes a task, but not while it runs: then the task looks again before it sleeps.
///
/// h2 wakes the task of a connection with each frame that it is given, and that task gives most of them itself. Each such wake would
/// cost one more poll of all that the task does.
pub(crate) struct TaskWaker {
    sleeper: Arc<Sleeper>,
    waker: Waker,
}

impl TaskWaker {
    pub(crate) fn new() -> Self {
        let sleeper = Arc::new(Sleeper {
            state: AtomicU8::new(WOKEN),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            waker: Waker::from(Arc::clone(&sleeper)),
            sleeper,
        }
    }

    /// Notes that the task of `cx` runs, until [`TaskWaker::sleeps`].
    pub(crate) fn runs(&self, cx: &Context<'_>) {
        let state = &self.sleeper.state;
        let _ = state.compare_exchange(ASLEEP, RUNNING, SeqCst, SeqCst);
        let mut task = self.sleeper.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.clone_from(cx.waker());
    }

    /// Returns the waker for what is to be looked at, and forgets that it has woken.
    pub(crate) fn looks(&self) -> &Waker {
        // What was told before a wake has to be seen by this look, so a store is not enough.
        self.sleeper.state.swap(RUNNING, SeqCst);
        &self.waker
    }

    /// Returns true if something has woken since [`TaskWaker::looks`], or if there was no look yet.
    pub(crate) fn is_woken(&self) -> bool {
        self.sleeper.state.load(SeqCst) == WOKEN
    }

    /// Returns true if nothing has woken since [`TaskWaker::looks`]: what wakes from now on wakes the task. Otherwise it has to look again.
    pub(crate) fn sleeps(&self) -> bool {
        let was = self
            .sleeper
            .state
            .compare_exchange(RUNNING, ASLEEP, SeqCst, SeqCst);
        was.is_ok()
    }
}

struct Sleeper {
    state: AtomicU8,
    task: Mutex<Waker>,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, SeqCst) == ASLEEP {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
            task.wake();
        }
    }
}

const RUNNING: u8 = 0;
/// It has woken since the task looked.
const WOKEN: u8 = 1;
const ASLEEP: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wake_count::WakeCount;

    #[test]
    fn only_a_task_that_sleeps_is_woken() {
        let count = Arc::<WakeCount>::default();
        let task = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&task);
        let waker = TaskWaker::new();
        waker.runs(&cx);
        assert!(waker.is_woken(), "there was no look yet");
        let wakes = waker.looks().clone();
        wakes.wake_by_ref();
        assert!(waker.is_woken());
        assert!(!waker.sleeps(), "it has to look again");
        assert!(!waker.sleeps(), "until it has looked");
        let _ = waker.looks();
        assert!(!waker.is_woken());
        assert!(waker.sleeps());
        assert_eq!(count.get(), 0);
        wakes.wake_by_ref();
        wakes.wake();
        assert_eq!(count.get(), 1, "once");
        waker.runs(&cx);
        assert!(waker.is_woken());
        let _ = waker.looks();
        assert!(waker.sleeps());
    }
}
