//! Settling: calls that wait for the end of the one-way requests before them.

use std::task::{Context, Poll, Waker};

use crate::conn::wakers::{Woken, set_waker};

/// The calls that wait for the end of the one-way requests before them. There are few: a peer may have four open.
#[derive(Debug, Default)]
pub(in crate::conn) struct SettleWaiters {
    waiting: Vec<SettleWaiter>,
}

#[derive(Debug)]
struct SettleWaiter {
    id: u64,
    /// How many it still waits for.
    left: usize,
    waker: Option<Waker>,
}

impl SettleWaiters {
    /// Ready when as many one-way requests with a lower id than call `id` have left as there were when it asked first, which
    /// `count` tells then.
    pub(in crate::conn) fn poll(
        &mut self,
        id: u64,
        count: impl FnOnce() -> usize,
        cx: &Context<'_>,
    ) -> Poll<()> {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) {
            let waiting = &mut self.waiting[at];
            if waiting.left > 0 {
                set_waker(&mut waiting.waker, cx);
                return Poll::Pending;
            }
            self.waiting.swap_remove(at);
            return Poll::Ready(());
        }
        let left = count();
        if left == 0 {
            return Poll::Ready(());
        }
        let waker = Some(cx.waker().clone());
        self.waiting.push(SettleWaiter { id, left, waker });
        Poll::Pending
    }

    /// Notes that a request has left, or `one_ways` one-way requests up to `id`: calls that wait for them have so many less to
    /// wait for, and a call that has left waits no more. True if a call is ready now, and is to be woken.
    #[cold]
    pub(in crate::conn) fn left(&mut self, id: u64, one_ways: usize) -> bool {
        self.waiting.retain(|waiting| waiting.id != id);
        if one_ways == 0 {
            return false;
        }
        let mut is_any_ready = false;
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.id > id) {
            waiting.left = waiting.left.saturating_sub(one_ways);
            is_any_ready |= waiting.left == 0;
        }
        is_any_ready
    }

    /// Wakes the calls that are ready.
    pub(in crate::conn) fn wake(&mut self, woken: &mut Woken) {
        let ready = self.waiting.iter_mut().filter(|waiting| waiting.left == 0);
        ready.for_each(|waiting| woken.push(waiting.waker.take()));
    }

    /// True if no call waits.
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    #[cfg(any(test, fuzzing))]
    pub(in crate::conn) fn len(&self) -> usize {
        self.waiting.len()
    }
}
