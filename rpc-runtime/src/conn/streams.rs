//! Streams: the messages of calls that have streams, both ways.
//!
//! It is the same for both ends: what one sends from an [`outflow::Outflow`] the other reads into an [`inflow::Inflow`];
//! a [`flow::Flow`] holds both of one call. Short messages are put into one frame by `outbox/open_frame`, and taken apart by
//! `message/unread_rows`.

pub(super) mod flow;
pub(super) mod inbox;
pub(super) mod inflow;
pub(super) mod outflow;

use self::{inbox::InboxUse, inflow::InflowLimits};
use super::Settings;

/// What concerns the streams of all calls together.
#[derive(Debug, Default)]
pub(super) struct StreamTotals {
    /// Streams of which half a window or more was taken, so that the peer gets credit.
    owing: Vec<u64>,
    /// How many messages of streams waited when bytes were read last.
    waiting_at_read: usize,
}

impl StreamTotals {
    /// Notes that the peer is owed credit for the stream of call `id`.
    pub(super) fn owe(&mut self, id: u64) {
        self.owing.push(id);
    }

    /// True if the peer is owed credit for a stream.
    pub(super) fn is_owing(&self) -> bool {
        !self.owing.is_empty()
    }

    /// The streams for which the peer is owed credit; it gets it now.
    pub(super) fn take_owing(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.owing)
    }

    /// Notes that bytes were read while this many messages waited.
    #[inline]
    pub(super) fn note_read(&mut self, messages: usize) {
        self.waiting_at_read = messages;
    }

    /// How much of a stream this side takes now, of a frame with this compression; `held` is what is held of all.
    pub(super) fn limits(&self, held: InboxUse, encoding: u32, settings: &Settings) -> InflowLimits {
        let (mut max, mut room) = (settings.inbox_bytes, settings.inbox_bytes);
        room = room.saturating_sub(held.bytes);
        let of_server = settings.memory.room();
        if of_server < room {
            (max, room) = (settings.memory.max(), of_server);
        }
        InflowLimits {
            max_message: settings.max_message,
            longest_item: settings.longest_item(),
            max_inbox: max,
            room,
            waiting: self.waiting_at_read,
            announced: encoding == 0 || settings.encodings.contains(&encoding),
        }
    }
}
