//! Inherited: what calls inherit from the handler that makes them.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};
#[cfg(test)]
use std::{
    future::{Future, poll_fn},
    pin::pin,
};

use tokio::time::Instant;

/// The id of one server in one process, as it announces it to its peers.
pub(crate) type InstanceId = [u8; 16];

/// The handler whose own future makes a call; unique among the last four billion handlers of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HandlerId(u32);

impl HandlerId {
    /// For calls that inherit nothing, wherever they are polled.
    pub(crate) const DETACHED: Self = Self(1);

    /// The handler whose own future is being polled on this thread; the default outside of handlers.
    #[cfg(test)]
    pub(crate) fn here() -> Self {
        INHERITED.get().handler
    }

    /// Makes a new id. Each thread takes a block of ids at a time. The first two of the first block are
    /// [`HandlerId::DETACHED`] and the default.
    #[inline]
    pub(crate) fn next() -> Self {
        const BLOCK: u32 = 1 << 16;
        static BLOCKS: AtomicU32 = AtomicU32::new(0);
        thread_local! {
            static LAST: Cell<u32> = const { Cell::new(0) };
        }
        let mut last = LAST.get().wrapping_add(1);
        if last % BLOCK <= 1 {
            // The first of this thread, or behind the last of its block.
            last = BLOCKS.fetch_add(BLOCK, Relaxed) + 2;
        }
        LAST.set(last);
        Self(last)
    }
}

/// The deadline of the handler that is being polled here, if the handler also made the call.
///
/// A call that was made elsewhere may be shared, so it does not take the deadline of the handler that polls it first.
pub(crate) fn inherited_deadline(made_in: HandlerId) -> Option<Instant> {
    let inherited = INHERITED.get();
    inherited.deadline.filter(|_| inherited.handler == made_in)
}

/// The server of the handler that is being polled here, if the handler also made the call. A terminate that a handler
/// sends to its own server must not wait for the drain, because the drain waits for the handler.
pub(crate) fn inherited_instance(made_in: HandlerId) -> Option<InstanceId> {
    let inherited = INHERITED.get();
    inherited.instance.filter(|_| inherited.handler == made_in)
}

/// What code inside a handler's own future inherits from the call. A task that it spawns inherits nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inherited {
    pub(crate) handler: HandlerId,
    pub(crate) deadline: Option<Instant>,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) depth: u8,
    /// True if the call belongs to a trace, which [`trace::current`](crate::trace::current) has.
    pub(crate) is_traced: bool,
}

impl Inherited {
    /// Runs the future that `make` makes, so that its calls inherit this.
    #[cfg(test)]
    pub(crate) async fn scope<F: Future>(self, make: impl FnOnce() -> F) -> F::Output {
        let mut future = pin!({
            let _entered = self.enter();
            make()
        });
        poll_fn(|cx| {
            let _entered = self.enter();
            future.as_mut().poll(cx)
        })
        .await
    }

    #[inline]
    pub(crate) fn enter(self) -> InheritedScope {
        InheritedScope(INHERITED.replace(self))
    }
}

/// What code inherits that runs here now.
#[inline]
pub(crate) fn inherited() -> Inherited {
    INHERITED.get()
}

thread_local! {
    // Set around each poll. That costs a copy, and tokio's task-local costs 20 ns.
    static INHERITED: Cell<Inherited> =
        const { Cell::new(Inherited { handler: HandlerId(0), deadline: None, instance: None, depth: 0, is_traced: false }) };
}

/// Restores the outer value when it is dropped, also in a panic.
pub(crate) struct InheritedScope(Inherited);

impl InheritedScope {
    /// From now on it is another handler of the same kind that runs here, until the scope ends.
    #[inline]
    pub(crate) fn change_handler(&self, handler: HandlerId) {
        let inherited = INHERITED.get();
        INHERITED.set(Inherited { handler, ..inherited });
    }
}

impl Drop for InheritedScope {
    fn drop(&mut self) {
        INHERITED.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_future_inherits_and_a_spawned_task_does_not() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let inherited = Inherited {
            handler: HandlerId::next(),
            deadline: Some(deadline),
            instance: Some([7; 16]),
            depth: 1,
            is_traced: false,
        };
        let here = || inherited_deadline(HandlerId::here());
        assert_eq!(here(), None);
        let spawned = inherited
            .scope(|| async {
                assert_eq!(here(), Some(deadline));
                tokio::task::yield_now().await;
                assert_eq!(inherited_instance(HandlerId::here()), Some([7; 16]));
                tokio::spawn(async move { here() }).await.unwrap()
            })
            .await;
        assert_eq!(spawned, None);
        assert_eq!(here(), None);
    }

    #[tokio::test]
    async fn only_futures_made_by_the_polling_handler_inherit() {
        let inherited = |seconds| Inherited {
            handler: HandlerId::next(),
            deadline: Some(Instant::now() + Duration::from_secs(seconds)),
            instance: Some([7; 16]),
            depth: 1,
            is_traced: false,
        };
        let other = inherited(1).scope(|| async { HandlerId::here() }).await;
        let (outside, own) = (HandlerId::here(), inherited(2));
        own.scope(|| async {
            assert_eq!(inherited_deadline(own.handler), own.deadline);
            for elsewhere in [other, outside, HandlerId::DETACHED] {
                assert_eq!(inherited_deadline(elsewhere), None);
                assert_eq!(inherited_instance(elsewhere), None);
            }
        })
        .await;
    }

    #[test]
    fn no_two_handlers_have_one_id() {
        let ids = || (0..200_000).map(|_| HandlerId::next().0).collect::<Vec<_>>();
        let other = std::thread::spawn(ids);
        let mut all = ids();
        all.extend(other.join().unwrap());
        assert!(!all.contains(&HandlerId::default().0) && !all.contains(&HandlerId::DETACHED.0));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[tokio::test]
    async fn an_inner_scope_ends_with_its_poll() {
        let outer = Inherited {
            handler: HandlerId::next(),
            deadline: Some(Instant::now()),
            instance: None,
            depth: 1,
            is_traced: false,
        };
        outer
            .scope(|| async {
                Inherited::default()
                    .scope(|| async { assert_eq!(inherited_deadline(HandlerId::here()), None) })
                    .await;
                assert_eq!(inherited_deadline(outer.handler), outer.deadline);
            })
            .await;
    }
}
