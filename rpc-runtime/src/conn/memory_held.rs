//! Holdings: memory that a connection holds, and may hold.

use std::sync::Arc;

use super::{
    Settings,
    assembly::BufferBudget,
    memory::{Memory, Share},
    ours::Ours,
    outbox::Outbox,
    theirs::Theirs,
    tuning::REPORT_STEP,
    types::charge,
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

    /// How many bytes of the peer's are held, with what is charged for each message.
    #[inline]
    pub(super) fn unread(ours: &Ours, theirs: &Theirs) -> u64 {
        let streams = ours.held().and(theirs.held_in_streams());
        theirs.held_bytes() + streams.bytes + charge(0) * streams.messages as u64
    }

    /// Reports how much is held, if that has changed much: `undone`, which is unread or waits for its turn, and what is to be written.
    pub(super) fn report(&mut self, undone: u64, outbox: &Outbox, is_closed: bool) {
        let unwritten = match is_closed {
            true => 0,
            false => outbox.unwritten(),
        };
        let held = undone + unwritten;
        self.share.hold(held.saturating_add(outbox.waiters().bytes()));
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

    /// True if the connection has reported more than its part, so that a peer that takes nothing may have to go.
    #[inline]
    pub(super) fn are_large(&self) -> bool {
        self.is_reported() && self.lacks_memory()
    }

    /// True if `replies` bytes alone are more than its part of the memory.
    #[cold]
    pub(super) fn replies_hold_much(memory: &Memory, replies: u64) -> bool {
        replies > 0 && memory.is_large(replies)
    }
}
