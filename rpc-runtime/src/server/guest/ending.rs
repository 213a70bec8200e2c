//! Ending: tells a guest that the server ends the connection of its client, so that the guest ends that of its peer.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
};

use crate::{base::ordered_wakes::Changes, driver::SharedConnection};

/// Whether a guest's connection is to end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    has_begun: AtomicBool,
    changes: Changes,
}

impl Ending {
    /// Begins the end when the server begins to end `connection`, or when that is lost.
    pub(super) fn follow(self: &Arc<Self>, connection: &Arc<SharedConnection>) {
        let watch = Watch {
            connection: Arc::downgrade(connection),
            ending: Arc::clone(self),
        };
        Arc::new(watch).wake();
    }

    /// Begins the end. Returns false if it has begun before.
    pub(super) fn begin(&self) -> bool {
        let is_first = !self.has_begun.swap(true, SeqCst);
        if is_first {
            self.changes.tell();
        }
        is_first
    }

    /// Waits until the end has begun.
    pub(super) async fn begun(&self) {
        self.changes
            .wait_for(|| self.has_begun.load(SeqCst).then_some(()))
            .await;
    }
}

/// Waits for the end of a connection. It is a waker and not a task, because an idle connection should cost little.
struct Watch {
    /// Weak, because the connection keeps this waker until it drains.
    connection: Weak<SharedConnection>,
    ending: Arc<Ending>,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut cx = Context::from_waker(&waker);
        let is_over = self.connection.upgrade().is_none_or(|connection| {
            connection.with(|conn, _| {
                conn.poll_draining(&mut cx).is_ready() || conn.poll_closed(&mut cx).is_ready()
            })
        });
        if is_over {
            self.ending.begin();
        }
    }
}
