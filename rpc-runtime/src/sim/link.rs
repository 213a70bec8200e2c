//! Link: the latency, rate and corruption of bytes between two nodes.

use std::{ops::RangeInclusive, time::Duration};

/// The latency, rate and corruption of bytes between two nodes.
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
    /// 1 to 5 ms of latency, unlimited rate, no corruption.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1)..=Duration::from_millis(5),
            rate: None,
            corruption: 0.0,
        }
    }
}

impl Link {
    /// Sets the latency of a segment.
    ///
    /// It is drawn for each segment, but no segment overtakes another one of its connection. Default: 1 to 5 ms.
    #[must_use]
    pub fn latency(mut self, latency: RangeInclusive<Duration>) -> Self {
        self.latency = latency;
        self
    }

    /// Sets how many bytes a second pass, for each connection. Default: unlimited.
    #[must_use]
    pub fn rate(mut self, bytes: u64) -> Self {
        self.rate = Some(bytes.max(1));
        self
    }

    /// Sets the probability that a bit of a segment is flipped, from 0 to 1. Default: 0.
    ///
    /// TCP's checksum detects most flipped bits, and TLS detects all of them. On a plain connection the only promise is
    /// that damaged bytes affect nothing beyond themselves.
    #[must_use]
    pub fn corruption(mut self, probability: f64) -> Self {
        self.corruption = probability;
        self
    }

    /// Draws the fate of a segment of `len` bytes.
    pub(super) fn draw(&self, len: usize, random: &mut fastrand::Rng) -> SegmentFate {
        let (least, most) = (self.latency.start(), self.latency.end());
        let spread = most.saturating_sub(*least).mul_f64(random.f64());
        let sending = self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(len as f64 / rate as f64)
        });
        let is_corrupt = self.corruption > 0.0 && random.f64() < self.corruption;
        SegmentFate {
            latency: *least + spread,
            sending,
            is_corrupt,
        }
    }
}

/// The fate of a segment on its way.
#[derive(Debug, Default)]
pub(super) struct SegmentFate {
    pub(super) latency: Duration,
    /// How long the segment occupies the link.
    pub(super) sending: Duration,
    pub(super) is_corrupt: bool,
}

/// One direction of a link between two nodes.
#[derive(Debug, Default)]
pub(super) struct LinkDirection {
    /// The link that the scenario set; `None` for the default link.
    pub(super) link: Option<Link>,
    /// The link that a fault has put in its place for now.
    pub(super) faulty: Option<Link>,
    /// True if nothing passes.
    pub(super) is_blocked: bool,
}
