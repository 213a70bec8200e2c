//! Listening: accept loops, handshakes, workers, and default limits from what the machine has.

pub(super) mod accept;
pub(super) mod cut_log;
pub(super) mod defaults;
pub(super) mod workers;
