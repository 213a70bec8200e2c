//! CallState: what a call does, or waits for, and who has ended it.

use std::fmt;

/// What a call does, or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallState {
    /// Served here: more of the request is to come.
    Receiving,
    /// Served here: the request is complete, and its handler waits for its turn.
    Queued,
    /// Served here: the handler runs.
    Running,
    /// Served here: the handler blocks its thread. It should be declared `blocking`, or should not block.
    Blocking,
    /// Served here: the reply, or a message of the stream, waits for room in the output. The peer reads too slowly.
    WaitsForRoom,
    /// A message of the stream waits until the peer grants credit. The peer's reader is slower than the sender.
    WaitsForCredit,
    /// Served here: the call ended before its handler started, and its refusal waits for room.
    Refused,
    /// Made here: a part of the request is not with the operating system.
    Sending,
    /// Made here: the peer has the request, and has not answered.
    WaitsForReply,
    /// Made here: the outcome is there, and the caller has not taken it.
    Answered,
    /// Made here: the caller has gone or its deadline has passed, and the peer has not answered.
    GivenUp,
}

impl CallState {
    /// Returns the words for it, such as `waits for room`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Blocking => "blocks its thread",
            Self::WaitsForRoom => "waits for room",
            Self::WaitsForCredit => "waits for credit",
            Self::Refused => "refused",
            Self::Sending => "sending",
            Self::WaitsForReply => "waits for reply",
            Self::Answered => "answered",
            Self::GivenUp => "given up",
        }
    }
}

impl fmt::Display for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who ended a call that a handler of this process still serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelledBy {
    /// The caller has cancelled it.
    Caller,
    /// Its deadline has passed.
    Deadline,
    /// Its connection was lost.
    Disconnect,
    /// The time of the drain is over.
    Drain,
}

impl CancelledBy {
    /// Returns the word for it, such as `caller`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Deadline => "deadline",
            Self::Disconnect => "disconnect",
            Self::Drain => "drain",
        }
    }
}

impl fmt::Display for CancelledBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
