//! Changes: wakes waiters after a change, in the order in which they came.
//!
//! tokio's `watch` wakes its receivers in a random order, so no run of a simulation could be repeated.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use tokio::sync::Notify;

/// Wakes waiters after a change; each waiter looks for itself what has changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    woken: Notify,
}

impl Changes {
    /// Wakes all waiters: something has changed.
    pub(crate) fn tell(&self) {
        self.count.fetch_add(1, SeqCst);
        self.woken.notify_waiters();
    }

    /// Returns a subscriber that has seen all changes up to now.
    pub(crate) fn subscribe(self: &Arc<Self>) -> Subscriber {
        Subscriber {
            seen: self.count.load(SeqCst),
            changes: Arc::clone(self),
        }
    }

    /// Calls `look` now and after each change, until it returns a value.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            // Before the look, so that it notices every change from here on.
            let woken = self.woken.notified();
            if let Some(found) = look() {
                return found;
            }
            woken.await;
        }
    }
}

/// A waiter for changes.
#[derive(Debug)]
pub(crate) struct Subscriber {
    changes: Arc<Changes>,
    seen: u64,
}

impl Subscriber {
    /// Waits for a change that this subscriber has not seen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) {
        let (changes, seen) = (&self.changes, self.seen);
        let news = || Some(changes.count.load(SeqCst)).filter(|count| *count != seen);
        self.seen = changes.wait_for(news).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn waiters_are_woken_in_the_order_of_arrival() {
        let changes = Arc::new(Changes::default());
        let told = Arc::new(Mutex::new(Vec::new()));
        let tasks = (0..50).map(|number| {
            let (mut subscriber, told) = (changes.subscribe(), Arc::clone(&told));
            tokio::spawn(async move {
                subscriber.changed().await;
                told.lock().unwrap().push(number);
            })
        });
        let tasks: Vec<_> = tasks.collect();
        tokio::task::yield_now().await;
        changes.tell();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*told.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_between_two_looks_is_not_missed() {
        let changes = Arc::new(Changes::default());
        let mut subscriber = changes.subscribe();
        changes.tell();
        changes.tell();
        subscriber.changed().await;
        let again = tokio::time::timeout(std::time::Duration::ZERO, subscriber.changed());
        assert!(again.await.is_err(), "two changes are seen in one look");
    }
}
