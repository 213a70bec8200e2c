//! What a connection holds: for tests.

use crate::conn::Connection;

/// How many bytes a connection holds, or lets its peer send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldBytes {
    /// Of replies and streams that nobody has taken.
    pub(crate) replies: u64,
    /// What the requests of open calls are charged.
    pub(crate) calls: u64,
    /// What is to be written.
    pub(crate) output: u64,
}

impl Connection {
    /// How many bytes are held.
    pub(crate) fn held_bytes(&self) -> HeldBytes {
        let (_, calls, _) = self.theirs.requests.held(&self.settings);
        HeldBytes {
            replies: self.held().bytes,
            calls,
            output: self.outbox.out.len() as u64,
        }
    }

    /// What a connection still holds that is over, and whose callers and handlers are gone: nothing, it is hoped.
    pub(crate) fn leftovers(&self) -> Vec<&'static str> {
        let nobody = crate::conn::wakers::RareWaiters::default();
        let others = self.wakes.waiters.others.as_deref().unwrap_or(&nobody);
        let all = [
            ("memory of the server", self.holdings.share.is_told()),
            ("not closed", !self.is_closed()),
            ("calls or tombstones", !self.ours.calls.is_empty()),
            ("bytes of replies", self.ours.calls.held().1 > 0),
            (
                "requests",
                !self.theirs.requests.is_empty() || self.open_requests() > 0,
            ),
            ("running handlers", self.running_handlers() > 0),
            ("places of requests", self.theirs.requests.kept() > 0),
            (
                "output",
                !self.outbox.out.is_empty() || !self.outbox.bulk.is_empty(),
            ),
            ("cancels", !self.ours.cancels.is_empty()),
            ("flushes", !self.ours.flushing.is_empty()),
            ("places of sends", self.ours.sends.kept() > 0),
            ("barriers", !self.ours.barriers.is_empty()),
            (
                "callers",
                !self.ours.lines.is_empty() || !self.ours.lines.is_service_empty(),
            ),
            ("wakers to wake", !self.wakes.woken.is_empty()),
            ("waiters for the handshake", !others.ready.is_empty()),
            ("waiters for the end", !self.wakes.waiters.closed.is_empty()),
            ("waiters for room", !self.outbox.room.is_empty()),
            ("waiters for a flush", !others.flush.is_empty()),
            ("waiters for a drain", !others.drained.is_empty()),
            ("takers of requests", !self.theirs.requests.takers.is_empty()),
            ("a timer", self.poll_timeout().is_some()),
        ];
        let left = all.into_iter().filter(|(_, is_left)| *is_left);
        left.map(|(what, _)| what).collect()
    }
}
