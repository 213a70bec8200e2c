//! OpenAnswers: the calls of a connection that are being answered.

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::task::JoinSet;

use crate::woken_slots::{SlotNumber, WokenSlots};

/// The calls of a connection that are being answered, each with a future that ends with an `E`.
///
/// Most are polled by the task of the connection. Those whose answer may take long to compute have tasks of their own. A call whose
/// future panics ends by that with the default of `E`, and no other does.
///
/// It is not `FuturesUnordered` of the crate futures-util, which wakes its own task after each look at all that are open: a connection with one
/// open request would be polled twice.
pub(crate) struct OpenAnswers<E> {
    slots: Vec<AnswerSlot<E>>,
    /// The slots without an answer.
    free: Vec<usize>,
    /// The slots whose turn it is.
    turns: VecDeque<usize>,
    woken: Arc<WokenSlots>,
    tasks: JoinSet<E>,
}

type AnswerFuture<E> = Pin<Box<dyn Future<Output = E> + Send>>;

/// A place for one answer after the other.
struct AnswerSlot<E> {
    answer: Option<AnswerFuture<E>>,
    number: Arc<SlotNumber>,
    waker: Waker,
}

impl<E: Default + Send + 'static> OpenAnswers<E> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            turns: VecDeque::new(),
            woken: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    /// Adds an answer that the task of the connection polls.
    pub(crate) fn add(&mut self, answer: impl Future<Output = E> + Send + 'static) {
        self.add_boxed(Box::pin(answer));
    }

    /// As [`OpenAnswers::add`].
    pub(crate) fn add_boxed(&mut self, answer: AnswerFuture<E>) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(AnswerSlot::new(self.slots.len(), &self.woken));
            self.slots.len() - 1
        });
        self.slots[index].answer = Some(answer);
        self.turns.push_back(index);
    }

    /// Adds an answer that may take long to compute: it gets a task.
    pub(crate) fn spawn(&mut self, answer: impl Future<Output = E> + Send + 'static) {
        // Boxed, because tokio moves the future of a task four times, and this one is long.
        self.tasks.spawn(Box::pin(answer));
    }

    /// Lets those go on that can, until one ends. Returns how it ended; none if no other has ended.
    pub(crate) fn next_ended(&mut self, cx: &mut Context<'_>) -> Option<E> {
        // What wakes itself meanwhile has its next turn at the next look.
        if self.turns.is_empty() {
            self.woken.take(&mut self.turns);
        }
        while let Some(index) = self.turns.pop_front() {
            if let Poll::Ready(end) = self.poll_slot(index) {
                return Some(end);
            }
        }
        if self.tasks.is_empty() {
            return None;
        }
        match self.tasks.poll_join_next(cx) {
            Poll::Ready(Some(ended)) => Some(ended.unwrap_or_default()),
            Poll::Ready(None) | Poll::Pending => None,
        }
    }

    /// Returns true if none can go on: when one can, the task of `cx` is woken.
    pub(crate) fn sleep(&mut self, cx: &Context<'_>) -> bool {
        if self.slots.len() > KEPT && self.free.len() == self.slots.len() {
            self.slots.truncate(KEPT);
            self.free = (0..KEPT).rev().collect();
        }
        self.turns.is_empty() && self.woken.sleep(cx.waker())
    }

    /// How many requests are open.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len() + self.tasks.len()
    }

    /// True if no request is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len() && self.tasks.is_empty()
    }

    fn poll_slot(&mut self, index: usize) -> Poll<E> {
        // A waker may be left of a slot that is gone, or of the answer before.
        let Some(slot) = self.slots.get_mut(index) else {
            return Poll::Pending;
        };
        slot.number.has_its_turn();
        let Some(answer) = &mut slot.answer else {
            return Poll::Pending;
        };
        let mut cx = Context::from_waker(&slot.waker);
        let end = match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(end)) => end,
            // It is no fault of the peer.
            Err(_) => E::default(),
        };
        let answer = slot.answer.take();
        self.free.push(index);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(answer)));
        Poll::Ready(end)
    }
}

impl<E> AnswerSlot<E> {
    fn new(index: usize, woken: &Arc<WokenSlots>) -> Self {
        let number = Arc::new(SlotNumber::new(index, woken));
        Self {
            answer: None,
            waker: Waker::from(Arc::clone(&number)),
            number,
        }
    }
}

/// How many slots a connection without open requests keeps: 6 KiB.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn, ready},
        sync::Mutex,
    };

    use tokio::sync::oneshot;

    use super::*;
    use crate::{reset_budget::CallEnd, wake_count::WakeCount};

    fn sleeps(answers: &mut OpenAnswers<CallEnd>, count: &Arc<WakeCount>) -> bool {
        let waker = Waker::from(Arc::clone(count));
        answers.sleep(&Context::from_waker(&waker))
    }

    fn next(answers: &mut OpenAnswers<CallEnd>) -> Option<CallEnd> {
        answers.next_ended(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_that_goes_on_wakes_the_task_once_and_ends() {
        let (mut answers, count) = (OpenAnswers::new(), Arc::<WakeCount>::default());
        let (mut ends, mut senders) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (sender, end) = oneshot::channel();
            senders.push(sender);
            answers.add(async { end.await.unwrap() });
        }
        assert!(!sleeps(&mut answers, &count), "they were not polled");
        assert_eq!(next(&mut answers), None);
        assert!(sleeps(&mut answers, &count));
        for sender in senders {
            sender.send(CallEnd::Answered).unwrap();
        }
        assert_eq!(count.get(), 1);
        assert!(!sleeps(&mut answers, &count));
        while let Some(end) = next(&mut answers) {
            ends.push(end);
        }
        assert_eq!(ends, [CallEnd::Answered; 3]);
        assert!(answers.is_empty() && sleeps(&mut answers, &count));
    }

    #[test]
    fn answers_are_polled_in_the_order_in_which_they_came() {
        let mut answers = OpenAnswers::new();
        let polled = Arc::new(Mutex::new(Vec::new()));
        for number in 0..4 {
            let polled = Arc::clone(&polled);
            answers.add(async move {
                polled.lock().unwrap().push(number);
                pending().await
            });
        }
        assert_eq!(next(&mut answers), None);
        assert_eq!(*polled.lock().unwrap(), [0, 1, 2, 3]);
        assert!(!answers.is_empty());
    }

    #[test]
    fn an_answer_that_panics_ends_alone() {
        let mut answers = OpenAnswers::new();
        answers.add(async { panic!("on purpose") });
        answers.add(ready(CallEnd::Answered));
        assert_eq!(next(&mut answers), Some(CallEnd::Other));
        assert_eq!(next(&mut answers), Some(CallEnd::Answered));
        assert_eq!(next(&mut answers), None);
        assert!(answers.is_empty());
    }

    #[test]
    fn a_waker_that_is_left_does_no_harm() {
        let (mut answers, count) = (OpenAnswers::new(), Arc::<WakeCount>::default());
        let left = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..KEPT + 1 {
            let left = Arc::clone(&left);
            answers.add(poll_fn(move |cx| {
                left.lock().unwrap().push(cx.waker().clone());
                Poll::Ready(CallEnd::Answered)
            }));
        }
        while next(&mut answers).is_some() {}
        assert!(sleeps(&mut answers, &count));
        assert_eq!((answers.slots.len(), answers.free.len()), (KEPT, KEPT));
        for waker in left.lock().unwrap().drain(..) {
            waker.wake();
        }
        assert_eq!(next(&mut answers), None);
        answers.add(ready(CallEnd::Answered));
        assert_eq!(next(&mut answers), Some(CallEnd::Answered));
    }

    #[tokio::test]
    async fn an_answer_with_a_task_ends_as_the_others_do() {
        let mut answers = OpenAnswers::new();
        answers.spawn(ready(CallEnd::GivenUp));
        assert!(!answers.is_empty());
        let end = poll_fn(|cx| answers.next_ended(cx).map_or(Poll::Pending, Poll::Ready)).await;
        assert_eq!(end, CallEnd::GivenUp);
        assert!(answers.is_empty());
    }
}
