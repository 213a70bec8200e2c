//! Changes: tells those who wait that something has changed, in the order in which they came.
//!
//! tokio's `watch` wakes them in an order that it draws, so no run of a simulation could be repeated.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use tokio::sync::Notify;

/// Tells those who wait that something has changed; what that is, they look at themselves.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    told: Notify,
}

impl Changes {
    /// Something has changed.
    pub(crate) fn tell(&self) {
        self.count.fetch_add(1, SeqCst);
        self.told.notify_waiters();
    }

    /// Somebody who has seen everything up to now.
    pub(crate) fn subscribe(self: &Arc<Self>) -> Subscriber {
        Subscriber {
            seen: self.count.load(SeqCst),
            changes: Arc::clone(self),
        }
    }

    /// Looks, now and after each change, until `look` finds something.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            // Before the look: it is told of every change from here on.
            let told = self.told.notified();
            if let Some(found) = look() {
                return found;
            }
            told.await;
        }
    }
}

/// Somebody who waits for changes.
#[derive(Debug)]
pub(crate) struct Subscriber {
    changes: Arc<Changes>,
    seen: u64,
}

impl Subscriber {
    /// Waits for a change that it has not seen.
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
    async fn those_who_wait_are_told_in_the_order_in_which_they_came() {
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
