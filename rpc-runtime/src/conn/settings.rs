//! Settings: the limits of a connection, and what it announces.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Time, memory::Memory};
use crate::{
    Limits, Metadata,
    api::{counters::Counts, priority::Priorities},
    message::control::CONTROL_IDS,
    metrics::ServedProcedures,
    wire::frame::row::MAX_ROW,
};

/// The limits of a connection, and what this side announces of them.
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
    /// How many bytes of replies and of streams may wait to be taken.
    pub(crate) inbox_bytes: u64,
    /// While more bytes than this wait to be written, no handler starts, and no request or reply is encoded. Priorities below
    /// control wait for less.
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
    /// How long the peer may bring too little of a frame that has begun, or of messages in fragments.
    pub(crate) slow_frame: Duration,
    /// How long the peer may take too little of what is written.
    pub(crate) write_stall: Duration,
    /// How long this side reads on after it has written its last byte.
    pub(crate) linger: Duration,
    /// How old the connection may become, within 10 %: then it is drained. Default: unlimited.
    pub(crate) max_age: Option<Duration>,
    /// How long its open calls may take then.
    pub(crate) max_age_grace: Duration,
    /// How long nothing may be open on it, within 10 %: then it is drained, too. Default: unlimited.
    pub(crate) max_idle: Option<Duration>,
    /// A random number, drawn for each connection, so that not all become old at once.
    pub(crate) random: u32,
    /// The compressions that the peer may use, by their numbers.
    pub(crate) encodings: Vec<u32>,
    /// Random bytes that tell one run of a process from another.
    pub(crate) instance_id: Bytes,
    /// Name and version of this software.
    pub(crate) software: String,
    /// The entries that the HELLO brings; few sides have any.
    pub(crate) metadata: Metadata,
    /// The procedures of the built-in control service: calls of them count against no limit.
    pub(crate) control: Vec<u64>,
    /// How much of a stream is taken before its reader has taken anything, and how far that may be widened.
    pub(crate) stream_window: u64,
    pub(crate) max_stream_window: u64,
    /// True if this side serves requests.
    pub(crate) serves: bool,
    /// The priorities of their replies.
    pub(crate) priorities: Priorities,
    /// The counters of the procedures that this side serves.
    pub(crate) served: ServedProcedures,
    /// False for connections within this process that carry the calls of other connections: those are counted.
    pub(crate) is_metered: bool,
    /// How much memory the metadata of the peer's open requests may take.
    pub(crate) metadata_bytes: u64,
    /// How many faults the peer may make that end no connection by themselves.
    pub(crate) max_faults: u32,
    /// How many calls of the peer a policy may deny within a minute before the connection is drained.
    pub(crate) max_denials: u32,
    /// How much memory a message may take beyond its own length once it is decoded.
    pub(crate) decode_bytes: u64,
    /// How long the task of a connection may look at its socket again before it sleeps; zero for never.
    pub(crate) busy_poll: Duration,
    /// What was refused, and which connections were ended, on all connections together.
    pub(crate) counts: Arc<Counts>,
    /// What all connections hold together.
    pub(crate) memory: Arc<Memory>,
}

impl Settings {
    /// The settings for these `limits`; `random` spreads the ages of connections.
    pub(crate) fn new(limits: &Limits, keep_alive: Duration, instance_id: Bytes, random: u32) -> Self {
        Self {
            max_frame: limits.max_frame,
            max_message: limits.max_message,
            max_calls: limits.max_calls,
            call_bytes: limits.call_bytes,
            send_bytes: limits.send_bytes,
            inbox_bytes: limits.inbox_bytes,
            high_water: limits.high_water,
            max_waiting: limits.max_waiting,
            one_way_timeout: limits.one_way_timeout,
            handshake_timeout: limits.handshake_timeout,
            keep_alive: Some(limits.keep_alive.unwrap_or(keep_alive)),
            dead_after: limits.dead_after,
            ping_floor: limits.ping_floor,
            slow_frame: limits.slow_frame,
            write_stall: limits.write_stall,
            linger: limits.linger,
            max_age: limits.max_age,
            max_age_grace: limits.max_age_grace,
            max_idle: limits.max_idle,
            random,
            encodings: Vec::new(),
            instance_id,
            software: concat!("rpc-runtime/", env!("CARGO_PKG_VERSION")).to_owned(),
            metadata: Metadata::new(),
            control: CONTROL_IDS.to_vec(),
            stream_window: limits.stream_window,
            max_stream_window: limits.max_stream_window,
            serves: true,
            priorities: Priorities::default(),
            served: ServedProcedures::default(),
            is_metered: true,
            metadata_bytes: limits.metadata_bytes,
            max_faults: limits.max_faults,
            max_denials: limits.max_denials,
            decode_bytes: limits.decode_bytes,
            busy_poll: BUSY_POLL,
            counts: Arc::default(),
            memory: Arc::default(),
        }
    }

    /// The limits that these settings were made of.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_message: self.max_message,
            max_frame: self.max_frame,
            max_calls: self.max_calls,
            call_bytes: self.call_bytes,
            send_bytes: self.send_bytes,
            inbox_bytes: self.inbox_bytes,
            high_water: self.high_water,
            max_waiting: self.max_waiting,
            one_way_timeout: self.one_way_timeout,
            handshake_timeout: self.handshake_timeout,
            keep_alive: self.keep_alive,
            dead_after: self.dead_after,
            ping_floor: self.ping_floor,
            slow_frame: self.slow_frame,
            write_stall: self.write_stall,
            linger: self.linger,
            max_age: self.max_age,
            max_age_grace: self.max_age_grace,
            max_idle: self.max_idle,
            stream_window: self.stream_window,
            max_stream_window: self.max_stream_window,
            metadata_bytes: self.metadata_bytes,
            max_faults: self.max_faults,
            max_denials: self.max_denials,
            decode_bytes: self.decode_bytes,
        }
    }

    /// The most bytes that one message, or one packed frame, may bring.
    pub(crate) fn longest_item(&self) -> u64 {
        self.max_message.max(MAX_ROW as u64)
    }

    /// When the peer has had time enough for the little that is left to do.
    pub(super) fn soon(&self, now: Time) -> Time {
        now.saturating_add(self.linger)
    }

    /// How long the OS may wait for the peer to acknowledge what was written.
    ///
    /// It is never less than the connection itself waits, because that knows better whether the peer is there.
    pub(crate) fn unacknowledged(&self) -> Duration {
        self.dead_after.max(self.write_stall)
    }
}

/// How long the task of a connection looks at its socket again before it sleeps, unless a builder says otherwise.
pub(crate) const BUSY_POLL: Duration = Duration::from_micros(50);
