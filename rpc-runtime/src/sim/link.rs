//! Link: how long bytes take from one node to another, and what may become of them.

use std::{ops::RangeInclusive, time::Duration};

/// How long bytes take from one node to another, and what may become of them.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_runtime::sim::Link;
///
/// let slow = Link::default()
///     .latency(Duration::from_millis(80)..=Duration::from_millis(120))
///     .rate(1 << 20);
/// ```
#[derive(Clone, Debug)]
pub struct Link {
    latency: RangeInclusive<Duration>,
    rate: Option<u64>,
    corruption: f64,
}

impl Default for Link {
    /// 1 to 5 ms, of any rate, and nothing is corrupted.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1)..=Duration::from_millis(5),
            rate: None,
            corruption: 0.0,
        }
    }
}

impl Link {
    /// How long a segment takes: drawn for each, but none overtakes another of its connection.
    #[must_use]
    pub fn latency(mut self, latency: RangeInclusive<Duration>) -> Self {
        self.latency = latency;
        self
    }

    /// How many bytes a second go through, of each connection.
    #[must_use]
    pub fn rate(mut self, bytes: u64) -> Self {
        self.rate = Some(bytes.max(1));
        self
    }

    /// How probable it is that a bit of a segment is turned over, between 0 and 1.
    ///
    /// TCP's checksum finds most of that, and TLS all of it: a plain connection promises no more than that such bytes break
    /// nothing but themselves.
    #[must_use]
    pub fn corruption(mut self, probability: f64) -> Self {
        self.corruption = probability;
        self
    }

    /// What becomes of a segment of `len` bytes.
    pub(super) fn draw(&self, len: usize, random: &mut fastrand::Rng) -> Passage {
        let (least, most) = (self.latency.start(), self.latency.end());
        let spread = most.saturating_sub(*least).mul_f64(random.f64());
        let sending = self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(len as f64 / rate as f64)
        });
        let is_corrupt = self.corruption > 0.0 && random.f64() < self.corruption;
        Passage {
            latency: *least + spread,
            sending,
            is_corrupt,
        }
    }
}

/// What becomes of a segment on its way.
#[derive(Debug, Default)]
pub(super) struct Passage {
    pub(super) latency: Duration,
    /// How long nothing else passes.
    pub(super) sending: Duration,
    pub(super) is_corrupt: bool,
}

/// The way from one node to another.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// What the user said it is.
    pub(super) link: Option<Link>,
    /// What it is at the moment, by a fault.
    pub(super) faulty: Option<Link>,
    /// Whether nothing comes through.
    pub(super) is_blocked: bool,
}
