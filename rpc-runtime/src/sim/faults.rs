//! Faults: the kinds of random faults of nodes and links, and how often they occur.

use std::{ops::RangeInclusive, time::Duration};

/// The kinds of random faults, and how often they occur; [`Sim::storm`](super::Sim::storm) starts them.
///
/// The default includes all kinds but corruption. Links block one direction or both, or become slow. Connections are
/// reset. Nodes are killed, lose their power or freeze, and come back.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_runtime::sim::Faults;
///
/// let faults = Faults::default().every(Duration::from_secs(1)..=Duration::from_secs(5)).nodes(false);
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    pub(super) every: RangeInclusive<Duration>,
    pub(super) lasts: RangeInclusive<Duration>,
    pub(super) links: bool,
    pub(super) nodes: bool,
    pub(super) corruption: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            every: Duration::from_millis(100)..=Duration::from_secs(3),
            lasts: Duration::from_millis(10)..=Duration::from_secs(5),
            links: true,
            nodes: true,
            corruption: false,
        }
    }
}

impl Faults {
    /// Sets the pause between the beginnings of two faults. Default: 100 ms to 3 s.
    #[must_use]
    pub fn every(mut self, pause: RangeInclusive<Duration>) -> Self {
        self.every = pause;
        self
    }

    /// Sets the duration of each fault. Default: 10 ms to 5 s.
    #[must_use]
    pub fn lasting(mut self, time: RangeInclusive<Duration>) -> Self {
        self.lasts = time;
        self
    }

    /// Sets whether links fail. Default: true.
    #[must_use]
    pub fn links(mut self, fail: bool) -> Self {
        self.links = fail;
        self
    }

    /// Sets whether nodes fail; the scenario's node never does. Default: true.
    #[must_use]
    pub fn nodes(mut self, fail: bool) -> Self {
        self.nodes = fail;
        self
    }

    /// Sets whether links flip bits. Default: false.
    ///
    /// A handler may accept a request that was damaged on the way, and then it does something that its caller did not
    /// ask for.
    #[must_use]
    pub fn corruption(mut self, happens: bool) -> Self {
        self.corruption = happens;
        self
    }
}
