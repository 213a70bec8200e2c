//! What a connection has in hand.

use crate::Load;
use crate::conn::{
    Connection,
    end::Life,
    theirs::requests::{Request, Stage},
};

impl Connection {
    /// What is open, waits, and is kept right now.
    pub(crate) fn load(&self) -> Load {
        let one_ways = self.theirs.requests.count(|request| request.one_way);
        let calls = self.theirs.requests.count(|request| !request.one_way);
        let is_closed = self.is_closed();
        // What is not with the OS when the connection ends is gone.
        let unwritten = if is_closed {
            0
        } else {
            self.outbox.out.end() - self.outbox.taken + self.outbox.bulk.len() as u64
        };
        Load {
            connections: usize::from(!is_closed),
            handshakes: usize::from(matches!(self.end.life, Life::Handshaking)),
            calls: calls + self.ours.calls.len(),
            one_ways: one_ways + self.ours.sends.unwritten(),
            handler_tasks: 0,
            waiting: self.ours.lines.len() + self.outbox.room.len(),
            buffered_bytes: unwritten + self.held().bytes + self.theirs.requests.sum(Request::buffered),
        }
    }
}

impl Request {
    /// How many bytes of it are kept for its handler, those of its streams left out.
    fn buffered(&self) -> u64 {
        match &self.stage {
            Stage::Receiving(partial) => partial.assembly.kept() as u64,
            Stage::Queued(_) => self.len,
            Stage::Discarding(_) | Stage::Taken | Stage::Running(_) | Stage::Withdrawn(_) => 0,
        }
    }
}
