//! The settings of a connection, made from a user's limits.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::Settings;
use crate::{Limits, Metadata, api::priority::Priorities, message::control::CONTROL_IDS};

impl Settings {
    /// What a connection with these `limits` announces and keeps; `random` spreads ages.
    pub(crate) fn new(limits: &Limits, keep_alive: Duration, instance_id: Bytes, random: u32) -> Self {
        Self {
            max_frame: limits.max_frame,
            max_message: limits.max_message.min(MOST_BYTES),
            max_calls: limits.max_calls,
            call_bytes: limits.call_bytes.min(MOST_BYTES),
            send_bytes: limits.send_bytes.min(MOST_BYTES),
            inbox_bytes: limits.inbox_bytes.min(MOST_BYTES),
            high_water: limits.high_water.min(MOST),
            max_waiting: limits.max_waiting.min(MOST),
            one_way_timeout: limits.one_way_timeout.min(LONGEST),
            handshake_timeout: limits.handshake_timeout.min(LONGEST),
            keep_alive: Some(limits.keep_alive.unwrap_or(keep_alive).min(LONGEST)),
            dead_after: limits.dead_after.min(LONGEST),
            ping_floor: limits.ping_floor.min(LONGEST),
            slow_frame: limits.slow_frame.min(LONGEST),
            write_stall: limits.write_stall.min(LONGEST),
            linger: limits.linger.min(LONGEST),
            max_age: limits.max_age.map(|time| time.min(LONGEST)),
            max_age_grace: limits.max_age_grace.min(LONGEST),
            max_idle: limits.max_idle.map(|time| time.min(LONGEST)),
            random,
            encodings: Vec::new(),
            instance_id,
            software: concat!("rpc-runtime/", env!("CARGO_PKG_VERSION")).to_owned(),
            metadata: Metadata::new(),
            control: CONTROL_IDS.to_vec(),
            stream_window: limits.stream_window.min(MOST_BYTES),
            max_stream_window: limits.max_stream_window.min(MOST_BYTES),
            serves: true,
            priorities: Priorities::default(),
            metadata_bytes: limits.metadata_bytes.min(MOST_BYTES),
            max_faults: limits.max_faults,
            decode_bytes: limits.decode_bytes.min(MOST_BYTES),
            counts: Arc::default(),
            memory: Arc::default(),
        }
    }
}

/// As good as no limit, and sums of several are numbers still.
const MOST_BYTES: u64 = 1 << 48;
/// The same for what is counted in memory.
const MOST: usize = usize::MAX / 16;
/// As good as for ever: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
