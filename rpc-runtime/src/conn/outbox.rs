//! Outbox: what goes out, and in which order.

pub(super) mod backlog;
pub(super) mod frames;
pub(super) mod pacing;
pub(super) mod refusal;
pub(super) mod remainders;
pub(super) mod room;
pub(super) mod rotation;
pub(super) mod write_stall;

use self::{backlog::Batch, pacing::Pace, remainders::Bulk, room::Room, write_stall::Stall};
use super::Time;
use crate::wire::frame::Output;

/// What waits to be written, and who waits until there is less of it.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Encoded, and not yet moved to the driver. All bytes of the stream pass through it, so its end is the end of
    /// the stream.
    pub(super) out: Output,
    /// How much of the stream is with the OS.
    pub(super) taken: u64,
    /// How much of the stream may be with the OS, if that is more: a write of it has failed, or a stream that buffers has it.
    pub(super) reached: u64,
    /// Whether the OS did not take all that it was offered, so that it says something of the peer when it takes more.
    pub(super) blocked: bool,
    pub(super) bulk: Bulk,
    pub(super) batch: Batch,
    pub(super) pace: Pace,
    /// Where the last fragment ends that is in the output.
    pub(super) fragment_end: u64,
    pub(super) stall: Option<Stall>,
    /// Who waits for less output, and has its turn already.
    pub(super) room: Room,
    /// When others are woken than those who did not come.
    pub(super) call_again_at: Option<Time>,
}

impl Outbox {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self {
            out: Output::new(),
            taken: 0,
            reached: 0,
            blocked: false,
            bulk: Bulk::default(),
            batch: Batch::new(),
            pace: Pace::new(),
            fragment_end: 0,
            stall: None,
            room: Room::default(),
            call_again_at: None,
        }
    }
}
