//! Waiter: a task that waits for a barrier or for a flush.

use super::{
    part::{Part, Polled},
    *,
};
use crate::{
    conn::{Barrier, Flush},
    wire::frame::control::Progress,
};

/// A task that waits for a barrier or for a flush.
pub(super) struct Waiter {
    pub(super) client: bool,
    wait: Wait,
    /// The number of one-way requests that the connection had taken before.
    pub(super) sends_before: u64,
    pub(super) part: Part,
}

enum Wait {
    Barrier(Barrier),
    Flush(Flush),
}

impl Waiter {
    pub(super) fn barrier(client: bool, conn: &mut Connection, sends_before: u64, now: Time) -> Self {
        Self {
            client,
            wait: Wait::Barrier(conn.start_barrier(now)),
            sends_before,
            part: Part::new(),
        }
    }

    pub(super) fn flush(client: bool, conn: &mut Connection, sends_before: u64) -> Self {
        Self {
            client,
            wait: Wait::Flush(conn.start_flush()),
            sends_before,
            part: Part::new(),
        }
    }

    /// Polls the barrier or the flush; returns the account if a barrier has ended well.
    pub(super) fn poll(&mut self, conn: &mut Connection) -> Option<Progress> {
        let waker = self.part.waker();
        let cx = &mut Context::from_waker(&waker);
        let polled = match &self.wait {
            Wait::Barrier(barrier) => conn.poll_barrier(barrier, cx).map(Result::ok),
            Wait::Flush(flush) => conn.poll_flush(flush, cx).map(|_| None),
        };
        match polled {
            Poll::Pending => {
                self.part.note(&Polled::Waits);
                None
            }
            Poll::Ready(account) => {
                self.part.note(&Polled::Done);
                account
            }
        }
    }

    /// Drops the task.
    pub(super) fn abandon(&mut self, conn: &mut Connection) {
        if !self.part.is_done() {
            if let Wait::Barrier(barrier) = &self.wait {
                conn.drop_barrier(barrier);
            }
            self.part.end();
        }
    }
}
