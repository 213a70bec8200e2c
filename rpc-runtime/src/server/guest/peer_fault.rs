//! PeerFault and PeerCut: what a guest's peer got wrong, and why its connection ends.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::{
    api::counters::{Count, Counts},
    conn::{Cut, faults::FaultBudget},
};

/// What a guest's peer got wrong. One alone does not end its connection; too many do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerFault {
    /// A call of a procedure that the server does not have. It counts as
    /// [`Counters::unknown_procedures`](crate::server::Counters::unknown_procedures).
    UnknownProcedure,
    /// A message that cannot be read or decompressed. It counts as
    /// [`Counters::malformed_messages`](crate::server::Counters::malformed_messages).
    MalformedMessage,
    /// Anything else, such as a request that is no call, a message that is too long, or a call whose peer is too slow. It counts as
    /// [`Counters::other_faults`](crate::server::Counters::other_faults).
    Other,
}

impl PeerFault {
    pub(super) fn count(self, counts: &Counts) -> &Count {
        match self {
            Self::UnknownProcedure => &counts.unknown_procedures,
            Self::MalformedMessage => &counts.malformed_messages,
            Self::Other => &counts.other_faults,
        }
    }
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownProcedure => "unknown procedure",
            Self::MalformedMessage => "malformed message",
            Self::Other => "a call that is refused, or too slow",
        })
    }
}

/// Why a guest ends a connection because of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerCut {
    /// The peer broke the protocol. It counts as [`Counters::ended_by_protocol`](crate::server::Counters::ended_by_protocol).
    Protocol,
    /// It sent too much that makes work and asks for nothing. It counts as
    /// [`Counters::ended_by_excess`](crate::server::Counters::ended_by_excess).
    Excess,
    /// It did not go on with what it had begun. It counts as
    /// [`Counters::ended_by_slow_frame`](crate::server::Counters::ended_by_slow_frame).
    SlowFrame,
    /// It took too little of what was written. It counts as
    /// [`Counters::ended_by_write_stall`](crate::server::Counters::ended_by_write_stall).
    WriteStall,
    /// It gave no sign of life. It counts as [`Counters::ended_by_silence`](crate::server::Counters::ended_by_silence).
    Silence,
    /// It speaks something else. It counts as [`Counters::handshakes_rejected`](crate::server::Counters::handshakes_rejected).
    HandshakeRejected,
}

impl PeerCut {
    pub(super) fn cut(self) -> Cut {
        match self {
            Self::Protocol => Cut::Protocol,
            Self::Excess => Cut::Excess,
            Self::SlowFrame => Cut::SlowFrame,
            Self::WriteStall => Cut::WriteStall,
            Self::Silence => Cut::Silence,
            Self::HandshakeRejected => Cut::HandshakeRejected,
        }
    }
}

/// How many faults a peer may still make: the rule of native connections.
#[derive(Debug)]
pub(super) struct PeerFaults(Mutex<FaultBudget>);

impl PeerFaults {
    /// A peer that may make `most` faults.
    pub(super) fn new(most: u32) -> Self {
        Self(Mutex::new(FaultBudget::new(most)))
    }

    /// Counts a fault; false if it was one too many.
    #[must_use]
    pub(super) fn count(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count()
    }

    /// Counts a good request.
    pub(super) fn note_good(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).good(1);
    }
}
