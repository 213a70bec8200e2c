//! Flush: waiting until the OS has all that was sent before.

use super::Ours;
use crate::conn::{Flush, outbox::Outbox};

impl Ours {
    /// Marks all that was started so far.
    pub(in crate::conn) fn start_flush(&self, outbox: &Outbox) -> Flush {
        Flush {
            offset: outbox.end(),
            last_id: self.calls.last_id(),
        }
    }

    /// True if the OS has all that a flush waits for.
    pub(in crate::conn) fn is_flushed(&self, flush: &Flush, outbox: &Outbox) -> bool {
        let mut flushing = self.flushing.iter();
        outbox.taken() >= flush.offset
            && !flushing.any(|&(id, _)| id <= flush.last_id)
            && !outbox.remainders().has_request(flush.last_id)
    }

    /// True if something that a flush waits for was lost with the connection.
    pub(in crate::conn) fn is_flush_lost(&self, flush: &Flush) -> bool {
        self.unflushed.is_some_and(|id| id <= flush.last_id)
    }

    /// Notes that the OS has everything up to `taken`.
    #[inline]
    pub(in crate::conn) fn taken(&mut self, taken: u64) {
        self.sends.taken(taken);
        while self.flushing.front().is_some_and(|&(_, end)| end <= taken) {
            self.flushing.pop_front();
        }
    }

    /// Notes, when the connection ends, that the OS may have everything up to `reached`. It changes `executed`, but completes
    /// no flush.
    pub(in crate::conn) fn reached(&mut self, reached: u64) {
        self.sends.taken(reached);
    }
}
