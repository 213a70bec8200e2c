//! Peer: what the other side has announced, and what it got wrong.

use super::{PeerGoaway, PeerHello, faults::Abuse};

/// What the other side has announced, and what it got wrong.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its HELLO, once that is here.
    pub(super) hello: Option<PeerHello>,
    /// Its GOAWAY, once it goes. Boxed, because few connections are at their end.
    pub(super) goaway: Option<Box<PeerGoaway>>,
    pub(super) abuse: Abuse,
}

impl Peer {
    /// A peer that has said nothing yet, and may get `max_faults` things wrong.
    pub(super) fn new(max_faults: u32) -> Self {
        Self {
            hello: None,
            goaway: None,
            abuse: Abuse::new(max_faults),
        }
    }
}
