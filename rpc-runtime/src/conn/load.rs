//! What a connection has in hand.

use super::{
    Connection, Life,
    requests::{Request, Stage},
};
use crate::Load;

impl Connection {
    /// What is open, waits, and is kept right now.
    pub(crate) fn load(&self) -> Load {
        let one_ways = self.requests.count(|request| request.one_way);
        let calls = self.requests.count(|request| !request.one_way);
        let is_closed = self.is_closed();
        // What is not with the OS when the connection ends is gone.
        let unwritten = if is_closed {
            0
        } else {
            self.out.end() - self.taken + self.bulk.len() as u64
        };
        Load {
            connections: usize::from(!is_closed),
            handshakes: usize::from(matches!(self.life, Life::Handshaking)),
            calls: calls + self.calls.len(),
            one_ways: one_ways + self.sends.unwritten(),
            handler_tasks: 0,
            waiting: self.lines.len() + self.room.len(),
            buffered_bytes: unwritten + self.held().bytes + self.requests.sum(Request::buffered),
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
