//! Labels: which side counts, by which protocol, how a one-way call or a connection ended.

use std::fmt;

/// The side of a call that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Side {
    /// The side that serves the call.
    Server,
    /// The side that makes the call.
    Client,
}

/// The protocol by which a call travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Protocol {
    /// The protocol of this library.
    Native,
    /// gRPC, or whatever a [guest](crate::server::Guest) or a [protocol](crate::protocol) speaks.
    Grpc,
}

impl Side {
    pub(super) const ALL: [Self; 2] = [Self::Server, Self::Client];

    /// Returns the word for it, as it is in the names of metrics: `server`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

impl Protocol {
    pub(super) const ALL: [Self; 2] = [Self::Native, Self::Grpc];

    /// Returns the value of the label `protocol`: `native`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Grpc => "grpc",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of one-way calls. What `conn` knows of a dropped one stands in the order of its numbers on the wire.
pub(super) const FATES: [&str; 9] = [
    "handled",
    "failed",
    "expired",
    "unknown_procedure",
    "bad_payload",
    "overload",
    "draining",
    "aborted",
    "refused",
];

/// What became of a one-way call: an index of [`FATES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FateLabel(usize);

impl FateLabel {
    pub(crate) const HANDLED: Self = Self(0);
    pub(crate) const FAILED: Self = Self(1);
    pub(crate) const EXPIRED: Self = Self(2);

    /// The label of a call that was dropped for the reason with this number on the wire; none if this version does not know it.
    pub(crate) const fn dropped(reason: u32) -> Option<Self> {
        match reason {
            1..=6 => Some(Self(2 + reason as usize)),
            _ => None,
        }
    }

    pub(super) const fn index(self) -> usize {
        self.0
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndLabel {
    /// Either side was done with it.
    Closed,
    /// A side drained it.
    Drained,
    /// It was lost.
    Lost,
    /// The peer broke the protocol, or says that this side did.
    Protocol,
    /// The peer made too many faults.
    Excess,
    /// The peer did not go on with what it had begun.
    SlowFrame,
    /// The peer took too little of what was written.
    WriteStall,
    /// The peer gave no sign of life.
    Silence,
    /// The peer speaks something else, or another version.
    HandshakeRejected,
    /// The peer's part of the handshake did not come in time.
    HandshakeTimeout,
    /// Other connections needed its place in the handshake.
    HandshakeEvicted,
}

/// The values of the label `end`, in the order of [`EndLabel`].
pub(super) const ENDS: [&str; 11] = [
    "closed",
    "drained",
    "lost",
    "protocol",
    "excess",
    "slow_frame",
    "write_stall",
    "silence",
    "handshake_rejected",
    "handshake_timeout",
    "handshake_evicted",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_at_their_indices() {
        assert_eq!(FATES[FateLabel::EXPIRED.index()], "expired");
        let dropped = |reason| FateLabel::dropped(reason).map(|fate| FATES[fate.index()]);
        assert_eq!(dropped(1), Some("unknown_procedure"));
        assert_eq!(dropped(6), Some("refused"));
        assert_eq!((dropped(0), dropped(7)), (None, None));
        assert_eq!(ENDS[EndLabel::HandshakeEvicted as usize], "handshake_evicted");
        assert_eq!(ENDS[EndLabel::Lost as usize], "lost");
        assert_eq!(ENDS.len(), EndLabel::HandshakeEvicted as usize + 1);
    }
}
