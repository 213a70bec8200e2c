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
            metadata_bytes: limits.metadata_bytes,
            max_faults: limits.max_faults,
            decode_bytes: limits.decode_bytes,
            counts: Arc::default(),
            memory: Arc::default(),
        }
    }
}
