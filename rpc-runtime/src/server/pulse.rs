//! Pulse: whether the runtimes in which a server accepts still run.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use crate::base::ordered_wakes::Changes;

/// Whether the runtimes in which a server accepts still run: each accept loop answers a beat when its runtime polls it.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// The number of beats so far.
    beats: AtomicU64,
    loops: Mutex<Vec<Arc<LoopPulse>>>,
    /// Wakes those that wait for answers.
    answered: Changes,
}

/// What one accept loop has answered.
#[derive(Debug, Default)]
struct LoopPulse {
    /// The last beat that it has seen.
    seen: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Pulse {
    /// Runs an accept loop, which answers each beat from now on until it ends. One that panics answers no more.
    pub(crate) fn watch<F: Future>(self: &Arc<Self>, accept_loop: F) -> Watched<F> {
        let own = Arc::<LoopPulse>::default();
        own.seen.store(self.beats.load(SeqCst), SeqCst);
        self.loops().push(Arc::clone(&own));
        Watched {
            accept_loop: Box::pin(accept_loop),
            own,
            pulse: Arc::clone(self),
        }
    }

    /// Wakes all accept loops, and waits until each has been polled since, or has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn beat(&self) {
        let beat = self.beats.fetch_add(1, SeqCst) + 1;
        for one in self.loops().iter() {
            let waker = one.waker().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        let all = || self.loops().iter().all(|one| one.seen.load(SeqCst) >= beat);
        self.answered.wait_for(|| all().then_some(())).await;
    }

    fn loops(&self) -> MutexGuard<'_, Vec<Arc<LoopPulse>>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoopPulse {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An accept loop that answers beats.
pub(crate) struct Watched<F> {
    accept_loop: Pin<Box<F>>,
    own: Arc<LoopPulse>,
    pulse: Arc<Pulse>,
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Before the look at the beats, so that each later beat wakes it.
        *self.own.waker() = Some(cx.waker().clone());
        let beats = self.pulse.beats.load(SeqCst);
        if self.own.seen.swap(beats, SeqCst) != beats {
            self.pulse.answered.tell();
        }
        let polled = self.accept_loop.as_mut().poll(cx);
        if polled.is_ready() {
            let own = Arc::clone(&self.own);
            self.pulse.loops().retain(|one| !Arc::ptr_eq(one, &own));
            self.pulse.answered.tell();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        pin::pin,
    };

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_beat_waits_for_each_loop_that_has_not_ended() {
        let pulse = Arc::<Pulse>::default();
        let mut one = pin!(pulse.watch(pending::<()>()));
        let mut other = pin!(pulse.watch(pending::<()>()));
        let mut ended = pin!(pulse.watch(ready(())));
        let mut beat = pin!(pulse.beat());
        assert!(poll(beat.as_mut()).is_pending());
        assert!(poll(one.as_mut()).is_pending());
        assert!(poll(ended.as_mut()).is_ready());
        assert!(poll(beat.as_mut()).is_pending(), "one loop is silent");
        assert!(poll(other.as_mut()).is_pending());
        assert!(poll(beat.as_mut()).is_ready());
        let mut next = pin!(pulse.beat());
        assert!(poll(next.as_mut()).is_pending(), "an old answer does not count");
    }

    #[tokio::test]
    async fn a_beat_wakes_the_loops_of_a_runtime_that_runs() {
        let pulse = Arc::<Pulse>::default();
        let running = tokio::spawn(pulse.watch(pending::<()>()));
        for _ in 0..3 {
            pulse.beat().await;
        }
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        // It did not end by itself, so nobody accepts at its address.
        assert!(poll(pin!(pulse.beat())).is_pending());
    }

    #[tokio::test]
    async fn a_server_without_loops_has_a_pulse() {
        Pulse::default().beat().await;
    }
}
