//! Peer: what the other side has announced, and what it got wrong.

use std::mem;

use super::{Cause, PeerGoaway, PeerHello, Time, faults::FaultBudget};
use crate::Metadata;

/// What the other side has announced, and what it got wrong.
#[derive(Debug)]
pub(super) struct PeerState {
    hello: Option<PeerHello>,
    /// Boxed, because few connections are at their end.
    goaway: Option<Box<PeerGoaway>>,
    /// What it may still get wrong.
    pub(super) faults: FaultBudget,
}

impl PeerState {
    /// A peer that has said nothing yet, and may get `max_faults` things wrong.
    pub(super) fn new(max_faults: u32) -> Self {
        Self {
            hello: None,
            goaway: None,
            faults: FaultBudget::new(max_faults),
        }
    }

    /// Its HELLO, once that is here.
    #[inline]
    pub(super) fn hello(&self) -> Option<&PeerHello> {
        self.hello.as_ref()
    }

    /// Keeps its HELLO.
    pub(super) fn set_hello(&mut self, hello: PeerHello) {
        self.hello = Some(hello);
    }

    /// Takes the entries of its HELLO: they are kept once.
    pub(super) fn take_metadata(&mut self) -> Metadata {
        let hello = self.hello.as_mut();
        hello
            .map(|hello| mem::take(&mut hello.metadata))
            .unwrap_or_default()
    }

    /// Its GOAWAY, once it goes.
    #[inline]
    pub(super) fn goaway(&self) -> Option<&PeerGoaway> {
        self.goaway.as_deref()
    }

    /// Keeps its GOAWAY.
    pub(super) fn set_goaway(&mut self, goaway: PeerGoaway) {
        self.goaway = Some(Box::new(goaway));
    }

    /// Why a call fails that it does not take, once it goes.
    pub(super) fn goaway_cause(&self) -> Option<Cause> {
        self.goaway().map(PeerGoaway::cause)
    }

    /// The shortest time between PINGs that it accepts.
    pub(super) fn ping_floor(&self) -> Time {
        let millis = self.hello().map_or(0, |hello| hello.ping_floor_ms);
        Time::from_millis(millis.into())
    }

    /// How many bytes of a stream may go before it grants more.
    #[inline]
    pub(super) fn stream_window(&self) -> u64 {
        self.hello().map_or(0, |hello| hello.stream_window)
    }
}
