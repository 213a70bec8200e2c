//! Look-ups: blocking questions, answered on threads of our own.
//!
//! `blocking` handlers may hold every thread of the runtime's pool, and a question would wait behind them.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    io, panic,
    panic::RefUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::watch;

/// Answers questions on its own threads: looks up names, or reads files.
///
/// A question cannot be stopped, so a thread may hang for as long as the OS lets it. There are at most [`THREADS`]
/// threads, and never two for one question. Callers that ask what is being asked share the answer.
pub(crate) struct LookUps<Q, A> {
    work: Mutex<Work<Q, A>>,
    look_up: fn(&Q) -> io::Result<A>,
    /// The name of its threads.
    name: &'static str,
}

/// The answer to a question; `None` until there is one.
type Answer<A> = Option<Result<A, Arc<io::Error>>>;

struct Work<Q, A> {
    /// What callers ask, including what waits for a thread.
    asked: HashMap<Q, watch::Sender<Answer<A>>>,
    /// What waits for a thread.
    waiting: VecDeque<Q>,
    threads: usize,
}

impl<Q, A> LookUps<Q, A>
where
    Q: Clone + Eq + Hash + RefUnwindSafe + Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    /// Answers questions by `look_up`, on threads of this `name`.
    pub(crate) fn new(name: &'static str, look_up: fn(&Q) -> io::Result<A>) -> Self {
        let work = Work {
            asked: HashMap::new(),
            waiting: VecDeque::new(),
            threads: 0,
        };
        Self {
            work: Mutex::new(work),
            look_up,
            name,
        }
    }

    /// Returns the answer to a question.
    ///
    /// # Errors
    ///
    /// That of the look-up; also if there is no thread for it, or if it panics.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves a running look-up to its thread; the next caller who asks the same gets its answer.
    pub(crate) async fn find(&'static self, question: &Q) -> io::Result<A> {
        let mut answer = self.ask(question)?;
        let answer = answer.wait_for(Option::is_some).await;
        let answer = answer.ok().and_then(|answer| Answer::clone(&answer));
        match answer {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error)),
            None => Err(io::Error::other("the look-up ended without an answer")),
        }
    }

    /// Asks a question, and starts a thread for it if there may be one more.
    fn ask(&'static self, question: &Q) -> io::Result<watch::Receiver<Answer<A>>> {
        let mut work = self.lock();
        if let Some(asked) = work.asked.get(question) {
            return Ok(asked.subscribe());
        }
        work.forget_unwanted();
        if work.waiting.len() >= WAITING_MAX {
            let text = format!("too many look-ups: {WAITING_MAX} already wait for a thread");
            return Err(io::Error::other(text));
        }
        let (sender, receiver) = watch::channel(None);
        work.asked.insert(question.clone(), sender);
        if work.threads >= THREADS {
            work.waiting.push_back(question.clone());
            return Ok(receiver);
        }
        let first = question.clone();
        let thread = thread::Builder::new().name(self.name.to_owned());
        // The thread cannot end before this function unlocks.
        if let Err(error) = thread.spawn(move || self.work(first)) {
            work.asked.remove(question);
            return Err(error);
        }
        work.threads += 1;
        Ok(receiver)
    }

    /// Answers questions until no more wait.
    fn work(&self, first: Q) {
        let mut next = Some(first);
        while let Some(question) = next {
            let look_up = self.look_up;
            let looked_up = panic::catch_unwind(|| look_up(&question));
            let answer = looked_up.unwrap_or_else(|_| Err(io::Error::other("the look-up panicked")));
            let mut work = self.lock();
            let asked = work.asked.remove(&question);
            work.forget_unwanted();
            next = work.waiting.pop_front();
            if next.is_none() {
                work.threads -= 1;
            }
            drop(work);
            if let Some(sender) = asked {
                sender.send_replace(Some(answer.map_err(Arc::new)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Work<Q, A>> {
        // Nothing panics while it holds the lock, and the work is complete at every step.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Eq + Hash, A> Work<Q, A> {
    /// Drops what waits and what no caller asks any more.
    fn forget_unwanted(&mut self) {
        let Self { asked, waiting, .. } = self;
        waiting.retain(|question| {
            let is_wanted = asked
                .get(question)
                .is_some_and(|sender| sender.receiver_count() > 0);
            if !is_wanted {
                asked.remove(question);
            }
            is_wanted
        });
    }
}

/// Maximum number of look-ups of one kind that run at once in a process; further ones wait.
const THREADS: usize = 8;
/// Maximum number of questions that wait for a thread.
const WAITING_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        sync::{
            Condvar,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Waker},
    };

    use super::*;

    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    static OPEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    /// Hangs until `OPEN` is true.
    fn hangs(question: &usize) -> io::Result<usize> {
        BEGUN.fetch_add(1, Ordering::SeqCst);
        let mut open = OPEN.0.lock().unwrap();
        while !*open {
            open = OPEN.1.wait(open).unwrap();
        }
        Ok(question + 100)
    }

    #[tokio::test]
    async fn look_ups_that_hang_are_bounded_and_one_for_each_question() {
        const QUESTIONS: usize = THREADS + 5;
        let look_ups: &'static LookUps<usize, usize> = Box::leak(Box::new(LookUps::new("test", hangs)));
        let ask = |question: usize| async move { (question, look_ups.find(&question).await) };
        let mut cx = Context::from_waker(Waker::noop());
        // Each question three times. All who ask the last one give up; of the others only the first one does.
        let mut asked = Vec::new();
        for i in 0..3 * QUESTIONS {
            let mut asking = Box::pin(ask(i % QUESTIONS));
            assert!(asking.as_mut().poll(&mut cx).is_pending());
            if i >= QUESTIONS && i % QUESTIONS != QUESTIONS - 1 {
                asked.push(asking);
            }
        }
        while BEGUN.load(Ordering::SeqCst) < THREADS {
            tokio::task::yield_now().await;
        }
        let counts = |work: &Work<usize, usize>| (work.threads, work.asked.len());
        assert_eq!(counts(&look_ups.lock()), (THREADS, QUESTIONS));
        *OPEN.0.lock().unwrap() = true;
        OPEN.1.notify_all();
        for asking in asked {
            let (question, answer) = asking.await;
            assert_eq!(answer.unwrap(), question + 100);
        }
        while look_ups.lock().threads > 0 {
            tokio::task::yield_now().await;
        }
        // A question that was asked three times was looked up once.
        assert_eq!(BEGUN.load(Ordering::SeqCst), QUESTIONS - 1);
        assert!(look_ups.lock().asked.is_empty());
    }
}
