//! How long one-way messages took from the sender to the handler, as the server sees it.

use crate::load::histogram;
use crate::proc::monotonic_ns;
use hdrhistogram::Histogram;
use std::sync::Mutex;

/// The rates at which delays are measured: the name in the report, and the rate as a function of the top rate. A message
/// carries the place in this list, counted from 1. The first phase finds the top rate.
pub const PHASES: [(&str, Rate); 5] = [
    ("top", |_| None),
    ("at_10k", |_| Some(10_000.0)),
    ("at_10", |top| Some(0.1 * top)),
    ("at_50", |top| Some(0.5 * top)),
    ("at_90", |top| Some(0.9 * top)),
];

/// Messages per second, of the top rate. None: as many as the peer takes.
type Rate = fn(f64) -> Option<f64>;

/// The delays of each phase.
pub struct Delays(Mutex<[Histogram<u64>; PHASES.len()]>);

impl Delays {
    pub fn new() -> Self {
        Self(Mutex::new(std::array::from_fn(|_| histogram())))
    }

    /// Records the delay of a message that is handled now.
    #[inline]
    pub fn record(&self, value: &[u8]) {
        // Sender and handler are processes of one machine, so their clock is the same.
        let sent = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
        let delay = monotonic_ns().saturating_sub(sent);
        if let Some(phase) = usize::from(value[8]).checked_sub(1) {
            self.0.lock().unwrap()[phase].saturating_record(delay);
        }
    }

    /// Fields of JSON: the percentiles of each phase.
    pub fn report(&self) -> String {
        let all = self.0.lock().unwrap();
        let timed = PHASES.iter().zip(&*all).filter(|(_, delays)| !delays.is_empty());
        let percentiles = timed.flat_map(|((name, _), delays)| {
            [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)].map(|(percentile, share)| {
                let us = delays.value_at_quantile(share) as f64 / 1e3;
                format!(",\"{name}_{percentile}_us\":{us:.2}")
            })
        });
        percentiles.collect()
    }
}

impl Default for Delays {
    fn default() -> Self {
        Self::new()
    }
}
