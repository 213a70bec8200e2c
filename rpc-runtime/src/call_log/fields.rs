//! Fields: how log lines show ids and times.

use std::{fmt, time::Duration};

use crate::trace::TraceContext;

/// The id of a trace in hex, as tools search for it.
pub(super) struct TraceId(u128);

impl TraceId {
    /// The id of the trace that a call belongs to, if it belongs to one.
    pub(super) fn of(trace: Option<&TraceContext>) -> Option<Self> {
        trace?.trace_id().map(Self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// In whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}
