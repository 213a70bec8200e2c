//! Listening: accept loops, admission, workers, and default limits from what the machine has.

pub(super) mod accept;
pub(super) mod admission;
pub(super) mod connection_end;
pub(super) mod defaults;
mod opening;
pub(super) mod serve;
pub(super) mod workers;
