//! Holdings: memory that a connection holds, and may hold.

use std::sync::Arc;

use super::{
    Settings,
    assembly::BufferBudget,
    memory::{Memory, Share},
    tuning::REPORT_STEP,
};

/// Memory that a connection holds, and may hold.
#[derive(Debug)]
pub(super) struct Holdings {
    /// What it has reported of what all connections hold.
    share: Share,
    /// What it may hold for messages that are announced and not here.
    buffers: BufferBudget,
}

impl Holdings {
    /// Nothing is held.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            share: Share::new(Arc::clone(&settings.memory)),
            buffers: BufferBudget::new(),
        }
    }

    /// What may be held for messages that are announced and not here.
    pub(super) fn buffers(&self) -> &BufferBudget {
        &self.buffers
    }

    /// Reports that `held` bytes are held, if that has changed much.
    #[inline]
    pub(super) fn hold(&mut self, held: u64) {
        self.share.hold(held);
    }

    /// True if the connection has reported that it holds memory.
    #[inline]
    pub(super) fn is_reported(&self) -> bool {
        self.share.is_reported()
    }

    /// True if `held` bytes may have to be reported.
    #[inline]
    pub(super) fn is_worth_reporting(&self, held: u64) -> bool {
        self.share.is_reported() || held >= REPORT_STEP
    }

    /// True if the connection holds more than its part of the memory, so that it takes no further calls.
    #[inline]
    pub(super) fn lacks_memory(&self) -> bool {
        self.share.is_large()
    }

    /// True if `replies` bytes alone are more than its part of the memory.
    #[cold]
    pub(super) fn replies_hold_much(memory: &Memory, replies: u64) -> bool {
        replies > 0 && memory.is_large(replies)
    }
}
