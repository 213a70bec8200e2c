//! Step: what one step of the protocol may touch beside its own part, and how it reports what the peer did wrong.

use super::{
    Settings, Time, assembly::FragmentWatch, faults::FaultBudget, outbox::Outbox, types::FaultKind,
    wakers::WakeList,
};

/// What a step may touch beside its own part.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) outbox: &'a mut Outbox,
    pub(super) wakes: &'a mut WakeList,
    pub(super) faults: &'a mut FaultBudget,
    pub(super) fragments: &'a mut FragmentWatch,
    pub(super) settings: &'a Settings,
    pub(super) now: Time,
}

/// The [`Step`] of a connection: what `ours` and `theirs` may touch beside themselves.
macro_rules! step_of {
    ($conn:ident, $now:expr) => {
        $crate::conn::step::Step {
            outbox: &mut $conn.outbox,
            wakes: &mut $conn.wakes,
            faults: &mut $conn.peer.faults,
            fragments: $conn.health.fragments(),
            settings: &$conn.settings,
            now: $now,
        }
    };
}
pub(super) use step_of;

/// What the peer did that ends the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// It broke the protocol.
    Protocol(String),
    /// It made us refuse too much.
    Excess(String),
}

impl Step<'_> {
    /// Counts a fault of the peer that the connection survives, unless it is one too many.
    pub(super) fn fault(&mut self, kind: FaultKind, what: &str) -> Result<(), Violation> {
        kind(&self.settings.counts).add();
        self.blame(what)
    }

    /// As [`Step::fault`], for a fault that is counted already.
    pub(super) fn blame(&mut self, what: &str) -> Result<(), Violation> {
        match self.faults.count() {
            true => Ok(()),
            false => Err(Violation::Excess(format!(
                "too many faults (Limits::max_faults), the last: {what}"
            ))),
        }
    }

    /// Counts an empty frame: it is a fault, and some in a row are too many.
    #[cold]
    pub(super) fn empty_frame(&mut self, what: &str) -> Result<(), Violation> {
        self.fault(|counts| &counts.empty_frames, what)?;
        match self.faults.count_empty() {
            true => Ok(()),
            false => {
                let text = format!("too many empty frames in a row, the last: {what}");
                Err(Violation::Excess(text))
            }
        }
    }

    /// Counts a fragment of `len` bytes: an empty one is a fault.
    pub(super) fn count_fragment(&mut self, len: usize) -> Result<(), Violation> {
        if len == 0 {
            return self.empty_frame("empty fragment");
        }
        self.faults.not_empty();
        Ok(())
    }

    /// True if the peer may use the compression with this number; 0 is none.
    #[inline]
    pub(super) fn is_announced(&self, encoding: u32) -> bool {
        encoding == 0 || self.settings.encodings.contains(&encoding)
    }
}

/// A violation that breaks the protocol.
pub(super) fn protocol<T>(text: impl Into<String>) -> Result<T, Violation> {
    Err(Violation::Protocol(text.into()))
}
