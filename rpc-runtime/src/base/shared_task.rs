//! SharedTask: two futures in one task, each polled only when it was woken.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use crate::base::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering::SeqCst},
};

/// Two futures in one task, each polled only when it was woken. It is ready when both are.
///
/// What one of them wakes while the task runs has its turn in the same poll, so the two pass work on without a task switch.
pub(crate) struct SharedTask<A, B> {
    first: Half<A>,
    second: Half<B>,
    state: Arc<TaskState>,
}

/// One of the futures.
struct Half<F> {
    /// None once it has ended.
    future: Option<F>,
    waker: Waker,
    bit: u8,
}

impl<A: Future<Output = ()> + Unpin, B: Future<Output = ()> + Unpin> SharedTask<A, B> {
    pub(crate) fn new(first: A, second: B) -> Self {
        let state = Arc::new(TaskState {
            bits: AtomicU8::new(FIRST | SECOND),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            first: Half::new(first, FIRST, &state),
            second: Half::new(second, SECOND, &state),
            state,
        }
    }
}

impl<F: Future<Output = ()> + Unpin> Half<F> {
    fn new(future: F, bit: u8, state: &Arc<TaskState>) -> Self {
        let waker = HalfWaker {
            state: Arc::clone(state),
            bit,
        };
        Self {
            future: Some(future),
            waker: Waker::from(Arc::new(waker)),
            bit,
        }
    }

    /// Polls the future if it is among the `woken` ones, and takes it from them.
    fn poll(&mut self, woken: &mut u8) {
        if *woken & self.bit == 0 {
            return;
        }
        *woken &= !self.bit;
        if let Some(future) = &mut self.future {
            let mut cx = Context::from_waker(&self.waker);
            if Pin::new(future).poll(&mut cx).is_ready() {
                self.future = None;
            }
        }
    }
}

impl<A: Future<Output = ()> + Unpin, B: Future<Output = ()> + Unpin> Future for SharedTask<A, B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.state.runs(cx.waker());
        let mut woken = 0;
        this.state.take(&mut woken);
        this.first.poll(&mut woken);
        this.state.take(&mut woken);
        this.second.poll(&mut woken);
        this.state.take(&mut woken);
        // The second one may have had an answer for it.
        this.first.poll(&mut woken);
        if this.first.future.is_none() && this.second.future.is_none() {
            return Poll::Ready(());
        }
        if !this.state.sleeps(woken) {
            // Other tasks have their turn, too.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// What the wakers of both futures share.
struct TaskState {
    /// Which futures were woken, and whether the task sleeps.
    bits: AtomicU8,
    task: Mutex<Waker>,
}

impl TaskState {
    /// Notes the waker of the task.
    fn runs(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.clone_from(waker);
    }

    /// Adds the futures that were woken to `woken`, and notes that the task runs.
    fn take(&self, woken: &mut u8) {
        *woken |= self.bits.swap(0, SeqCst) & (FIRST | SECOND);
    }

    /// Returns true if no future is woken: then the next one that is wakes the task. `woken` are those that were taken and not polled.
    fn sleeps(&self, woken: u8) -> bool {
        if woken != 0 {
            self.bits.fetch_or(woken, SeqCst);
            return false;
        }
        self.bits.compare_exchange(0, ASLEEP, SeqCst, SeqCst).is_ok()
    }
}

/// Wakes one of the futures.
struct HalfWaker {
    state: Arc<TaskState>,
    bit: u8,
}

impl Wake for HalfWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.bits.fetch_or(self.bit, SeqCst) == ASLEEP {
            let task = self
                .state
                .task
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            task.wake();
        }
    }
}

const FIRST: u8 = 1;
const SECOND: u8 = 2;
const ASLEEP: u8 = 4;

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(SeqCst)
        }
    }

    /// Counts its polls, and keeps its waker. It wakes `other` in its polls, and ends with the poll `last`.
    fn half(
        polls: &Arc<Count>,
        waker: &Arc<Mutex<Option<Waker>>>,
        other: Option<Arc<Mutex<Option<Waker>>>>,
        last: usize,
    ) -> impl Future<Output = ()> + Unpin {
        let (polls, waker) = (Arc::clone(polls), Arc::clone(waker));
        poll_fn(move |cx| {
            *waker.lock().unwrap() = Some(cx.waker().clone());
            if let Some(other) = other.as_ref().and_then(|other| other.lock().unwrap().clone()) {
                other.wake();
            }
            match polls.0.fetch_add(1, SeqCst) + 1 == last {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
    }

    fn wake(waker: &Mutex<Option<Waker>>) {
        waker.lock().unwrap().clone().unwrap().wake();
    }

    #[test]
    fn each_is_polled_when_it_was_woken_and_the_task_is_woken_once() {
        let (task, first, second) = (
            Arc::<Count>::default(),
            Arc::<Count>::default(),
            Arc::<Count>::default(),
        );
        let (first_waker, second_waker) = (Arc::default(), Arc::default());
        // The second one wakes the first one in each poll.
        let mut both = SharedTask::new(
            half(&first, &first_waker, None, 5),
            half(&second, &second_waker, Some(Arc::clone(&first_waker)), 3),
        );
        let waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&waker);
        let mut poll = || Pin::new(&mut both).poll(&mut cx);
        let polls = || (first.get(), second.get(), task.get());
        assert!(poll().is_pending());
        assert_eq!(
            polls(),
            (2, 1, 0),
            "the first one has a turn behind the second one"
        );
        assert!(poll().is_pending());
        assert_eq!(polls(), (2, 1, 0), "nothing was woken");
        wake(&first_waker);
        wake(&first_waker);
        assert_eq!(task.get(), 1);
        assert!(poll().is_pending());
        assert_eq!(polls(), (3, 1, 1));
        wake(&second_waker);
        assert!(poll().is_pending());
        assert_eq!(polls(), (4, 2, 2));
        wake(&second_waker);
        assert!(poll().is_ready(), "both have ended");
        assert_eq!(polls(), (5, 3, 3));
    }

    #[test]
    fn one_that_wakes_itself_lets_other_tasks_have_their_turn() {
        let (task, polls) = (Arc::<Count>::default(), Arc::<Count>::default());
        let own = Arc::default();
        let mut both = SharedTask::new(
            poll_fn(|_| Poll::Ready(())),
            half(&polls, &own, Some(Arc::clone(&own)), usize::MAX),
        );
        let waker = Waker::from(Arc::clone(&task));
        for round in 1..4 {
            assert!(
                Pin::new(&mut both)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            assert_eq!((polls.get(), task.get()), (round, round));
        }
    }
}
