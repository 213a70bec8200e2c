//! Test views: what a connection still holds.

use super::Connection;

/// How many bytes a connection holds, or lets its peer send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldBytes {
    /// Of replies and streams that were not taken.
    pub(crate) replies: u64,
    /// What the requests of open calls are charged.
    pub(crate) calls: u64,
    /// What is to be written.
    pub(crate) output: u64,
}

/// Views for tests; what callers, handlers and the driver do is elsewhere.
impl Connection {
    /// How many bytes are held.
    pub(crate) fn held_bytes(&self) -> HeldBytes {
        let (_, calls, _) = self.theirs.requests().held(&self.settings);
        HeldBytes {
            replies: self.held().bytes,
            calls,
            output: self.outbox.len() as u64,
        }
    }

    /// What a connection that is over still holds after its callers and handlers are gone; it should be nothing.
    pub(crate) fn leftovers(&self) -> Vec<&'static str> {
        let own = [
            ("memory of the server", self.holdings.is_reported()),
            ("not closed", !self.is_closed()),
            ("requests", !self.theirs.is_empty() || self.open_requests() > 0),
            ("running handlers", self.running_handlers() > 0),
            ("places of requests", self.theirs.requests().kept() > 0),
            (
                "output",
                !self.outbox.is_empty() || !self.outbox.remainders().is_empty(),
            ),
            ("waiters for room", !self.outbox.waiters().is_empty()),
            ("takers of requests", !self.theirs.requests().takers.is_empty()),
            ("a timer", self.poll_timeout().is_some()),
        ];
        let all = own.into_iter().chain(self.ours.left()).chain(self.wakes.left());
        let left = all.filter(|(_, is_left)| *is_left);
        left.map(|(what, _)| what).collect()
    }
}
