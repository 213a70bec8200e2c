//! Streams: the messages of calls that have streams, both ways.

pub(super) mod flow;
pub(super) mod inflow;
pub(super) mod outflow;

/// What concerns the streams of all calls together.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Streams of which half a window or more was taken, so that the peer gets credit.
    pub(super) owing: Vec<u64>,
    /// How many messages of streams waited when bytes were read last.
    pub(super) waiting_at_read: usize,
}
