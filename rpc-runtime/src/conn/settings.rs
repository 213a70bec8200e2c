//! Settings: the limits of a connection, and what it announces.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::api::{counters::Counts, priority::Priorities};
use crate::conn::memory::Memory;

/// What this end announces, and what it holds itself to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The longest frame that is read.
    pub(crate) max_frame: u32,
    /// The longest message that is taken.
    pub(crate) max_message: u64,
    /// How many calls of the peer may be open.
    pub(crate) max_calls: u32,
    /// How much the requests of the peer's open calls may be charged together.
    pub(crate) call_bytes: u64,
    /// How much the peer's one-way requests that are not yet done may be charged together.
    pub(crate) send_bytes: u64,
    /// Undelivered replies, in bytes.
    pub(crate) inbox_bytes: u64,
    /// No handler starts, and no request or reply is encoded, while more than this waits to be written; unless its
    /// priority is control, it waits for less.
    pub(crate) high_water: usize,
    /// How many callers may wait for credit, a slot or room.
    pub(crate) max_waiting: usize,
    /// The deadline of a one-way handler whose request has none.
    pub(crate) one_way_timeout: Duration,
    /// How long the peer's HELLO may take.
    pub(crate) handshake_timeout: Duration,
    /// How long nothing may be read before a PING goes out: a connector asks only while anything is outstanding.
    pub(crate) keep_alive: Option<Duration>,
    /// How long after a PING with no byte read and no write progress the peer is dead.
    pub(crate) dead_after: Duration,
    /// How often the peer may send a PING at most.
    pub(crate) ping_floor: Duration,
    /// How long too little may come of a frame that has begun, or of messages in fragments.
    pub(crate) slow_frame: Duration,
    /// How long the peer may take too little of what is written.
    pub(crate) write_stall: Duration,
    /// How long the connection is read on after its last byte was written.
    pub(crate) linger: Duration,
    /// How old the connection may become, more or less: then it is drained.
    pub(crate) max_age: Option<Duration>,
    /// How long its open calls may take then.
    pub(crate) max_age_grace: Duration,
    /// How long nothing may be open on it, more or less: then it is drained, too.
    pub(crate) max_idle: Option<Duration>,
    /// A random number, drawn for each connection: not all are to become old at once.
    pub(crate) random: u32,
    /// The compressions that the peer may use, by their numbers.
    pub(crate) encodings: Vec<u32>,
    /// Random bytes that tell one run of a process from another.
    pub(crate) instance_id: Bytes,
    /// Name and version of this software.
    pub(crate) software: String,
    /// The procedures of the built-in control service: calls of them count against no limit.
    pub(crate) control: Vec<u64>,
    /// How much of a stream is taken before its reader has taken anything, and how far that may be widened.
    pub(crate) stream_window: u64,
    pub(crate) max_stream_window: u64,
    /// Whether anybody here takes requests.
    pub(crate) serves: bool,
    /// What goes first of the replies of those who do.
    pub(crate) priorities: Priorities,
    /// How much memory the metadata of the peer's open requests may take.
    pub(crate) metadata_bytes: u64,
    /// How many things the peer may get wrong that end no connection by themselves.
    pub(crate) max_faults: u32,
    /// How much memory a message may take beyond its own length once it is decoded.
    pub(crate) decode_bytes: u64,
    /// What was refused, and who was cut off, on all connections together.
    pub(crate) counts: Arc<Counts>,
    /// What all connections hold together.
    pub(crate) memory: Arc<Memory>,
}

impl Settings {
    /// How long the OS may wait for the peer to take what was written: as long as the connection itself does, which knows
    /// better whether the peer is there, and never less.
    pub(crate) fn unacknowledged(&self) -> Duration {
        self.dead_after.max(self.write_stall)
    }
}
