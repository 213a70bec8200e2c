//! TryWatch: whether a call with middleware waits for a try, so that no timer of its own has to end it.

use std::{
    cell::Cell,
    sync::Arc,
    task::{Context, Waker},
};

use crate::layer::Tries;

/// Watches a poll of a call with middleware: whether a try of the call was left pending, to wake the call's task.
///
/// A connection ends a try at the call's deadline, and wakes the task that has polled the try. Then the call needs no timer. It needs one
/// if its middleware waits for something else, or if it polled the try by another waker or in another task: so the watch sees only tries
/// that this thread polls meanwhile, with the same waker.
pub(super) struct TryWatch {
    /// The watch around this one: of a call that is polled within another one's middleware.
    outer: Watched,
}

/// What a thread watches.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Watched {
    /// The address of the call's tries; zero for none.
    tries: usize,
    waker: WakerId,
    is_pending: bool,
}

/// Which task a waker wakes, as [`Waker::will_wake`] compares it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct WakerId {
    data: usize,
    vtable: usize,
}

impl WakerId {
    #[inline]
    fn of(waker: &Waker) -> Self {
        Self {
            data: waker.data().addr(),
            vtable: std::ptr::from_ref(waker.vtable()).addr(),
        }
    }
}

thread_local! {
    static WATCHED: Cell<Watched> = const {
        Cell::new(Watched {
            tries: 0,
            waker: WakerId { data: 0, vtable: 0 },
            is_pending: false,
        })
    };
}

impl TryWatch {
    /// Watches the tries of a call until it is dropped.
    #[inline]
    pub(super) fn begin(tries: &Arc<Tries>, cx: &Context<'_>) -> Self {
        Self {
            outer: WATCHED.replace(Watched {
                tries: address(tries),
                waker: WakerId::of(cx.waker()),
                is_pending: false,
            }),
        }
    }

    /// Ends the watch. Returns whether a try is pending, and wakes the call.
    #[inline]
    pub(super) fn end(self) -> bool {
        WATCHED.get().is_pending
    }
}

impl Drop for TryWatch {
    #[inline]
    fn drop(&mut self) {
        WATCHED.set(self.outer);
    }
}

/// Notes that a try with these tries is pending.
#[inline]
pub(super) fn note_pending(tries: &Arc<Tries>, cx: &Context<'_>) {
    let watched = WATCHED.get();
    if watched.tries == address(tries) && watched.waker == WakerId::of(cx.waker()) {
        WATCHED.set(Watched {
            is_pending: true,
            ..watched
        });
    }
}

#[inline]
fn address(tries: &Arc<Tries>) -> usize {
    Arc::as_ptr(tries).addr()
}
