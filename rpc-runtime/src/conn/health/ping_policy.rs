//! Ping policy: when this side sends a PING.

use super::Health;
use crate::conn::{
    Settings, Side, Time, end::EndState, ours::Ours, outbox::Outbox, peer::PeerState, theirs::Theirs,
    types::earliest,
};

/// What decides when this side sends a PING.
///
/// It sends one to hear whether a silent peer lives, one for barriers, and a last one behind its one-way requests.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct PingPolicy<'a> {
    pub(in crate::conn) side: Side,
    pub(in crate::conn) settings: &'a Settings,
    pub(in crate::conn) peer: &'a PeerState,
    pub(in crate::conn) end: &'a EndState,
    pub(in crate::conn) outbox: &'a Outbox,
    pub(in crate::conn) ours: &'a Ours,
    pub(in crate::conn) theirs: &'a Theirs,
    pub(in crate::conn) health: &'a Health,
}

impl PingPolicy<'_> {
    /// True if a PING is to go out now.
    pub(in crate::conn) fn is_due(self, now: Time) -> bool {
        if !self.end.is_open() || self.allowed_at() > now {
            return false;
        }
        self.keep_alive_due().is_some_and(|due| due <= now) || self.is_wanted()
    }

    /// When the next PING is to go out. One that waits for fragments has no time: it follows them.
    pub(in crate::conn) fn due(self) -> Option<Time> {
        let wanted = self.is_wanted().then(|| self.allowed_at());
        earliest([self.keep_alive_due(), wanted])
    }

    /// From when on a PING may go out: the peer accepts one only every so often, unless a request went since the last one.
    pub(in crate::conn) fn allowed_at(self) -> Time {
        self.health.ping_allowed_at(self.peer.ping_floor())
    }

    /// True if nothing is open or unfinished, one-way requests left out that were sent whole.
    pub(in crate::conn) fn is_quiet(self) -> bool {
        self.theirs.is_idle() && self.outbox.remainders().is_empty() && self.ours.is_done_calling()
    }

    /// When a PING should go out because nothing was heard: the side that connected asks only while it waits for something,
    /// or may be called; the other always.
    fn keep_alive_due(self) -> Option<Time> {
        let silence = self.settings.keep_alive?;
        let is_passive = self.side == Side::Connector && !self.settings.serves;
        if is_passive && !self.outbox.is_unwritten() && !self.ours.is_anything_outstanding() {
            return None;
        }
        self.health.ping_due_at(silence, self.peer.ping_floor())
    }

    /// True if a PING would tell this side what it waits for.
    fn is_wanted(self) -> bool {
        self.ours.barriers_want_ping(self.outbox) || self.is_last_wanted()
    }

    /// True if a PING is to go out behind our last one-way requests, because one of the sides goes.
    fn is_last_wanted(self) -> bool {
        let has_goaway = self.peer.goaway().is_some();
        if !self.end.is_draining() && !has_goaway {
            return false;
        }
        let is_last = has_goaway || self.end.is_closing_own() || self.is_quiet();
        is_last && self.ours.wants_last_ping(self.outbox)
    }
}
