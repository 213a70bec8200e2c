//! Health: whether the peer lives and keeps up.

pub(super) mod pings;
pub(super) mod slow_peer;
pub(super) mod timers;

use self::{pings::KeepAlive, slow_peer::Slow};
use super::Time;

/// What shows whether the peer lives and keeps up.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) keep_alive: KeepAlive,
    /// What the peer has begun.
    pub(super) slow: Slow,
    /// When something of a user went one way or the other.
    pub(super) last_used: Time,
}
