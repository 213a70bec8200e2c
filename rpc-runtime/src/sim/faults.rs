//! Faults: what happens to nodes and links at random.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    link::Link,
    network::NodeId,
    world::{Order, SCENARIO, World},
};

/// Which faults happen at random, and how often; [`Sim::storm`](super::Sim::storm) lets them begin.
///
/// By default all of them but corruption: links that let nothing through, in one direction or in both, or become slow;
/// connections that are reset; nodes that are killed, lose their power, or stand still, and come back.
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
    every: RangeInclusive<Duration>,
    lasts: RangeInclusive<Duration>,
    links: bool,
    nodes: bool,
    corruption: bool,
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
    /// How long after a fault the next one begins. Default 100 ms to 3 s.
    #[must_use]
    pub fn every(mut self, pause: RangeInclusive<Duration>) -> Self {
        self.every = pause;
        self
    }

    /// How long a fault lasts. Default 10 ms to 5 s.
    #[must_use]
    pub fn lasting(mut self, time: RangeInclusive<Duration>) -> Self {
        self.lasts = time;
        self
    }

    /// Whether links fail. Default: yes.
    #[must_use]
    pub fn links(mut self, fail: bool) -> Self {
        self.links = fail;
        self
    }

    /// Whether nodes fail. Default: yes; never the scenario's.
    #[must_use]
    pub fn nodes(mut self, fail: bool) -> Self {
        self.nodes = fail;
        self
    }

    /// Whether links turn bits over. Default: no, for what a handler makes of a request that came through damaged is not
    /// what its caller wrote.
    #[must_use]
    pub fn corruption(mut self, happens: bool) -> Self {
        self.corruption = happens;
        self
    }
}

/// Faults that are happening.
pub(super) struct Storm {
    faults: Faults,
    random: fastrand::Rng,
    next: Duration,
}

impl Storm {
    pub(super) fn new(faults: Faults, random: fastrand::Rng, now: Duration) -> Self {
        let mut storm = Self {
            faults,
            random,
            next: now,
        };
        storm.next = now + storm.draw(&storm.faults.every.clone());
        storm
    }

    fn draw(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let spread = range.end().saturating_sub(*range.start());
        *range.start() + spread.mul_f64(self.random.f64())
    }

    /// Has the next fault happen, if it is time.
    pub(super) fn blow(&mut self, world: &World) {
        let now = world.now();
        if now < self.next {
            return;
        }
        self.next = now + self.draw(&self.faults.every.clone());
        let over = now + self.draw(&self.faults.lasts.clone());
        let others = world.others();
        if others.is_empty() {
            return;
        }
        let node = self.random.usize(others.clone());
        let other = self.pick_other(node, others.end);
        let mut kinds: Vec<Kind> = Vec::new();
        if self.faults.links {
            kinds.extend([Kind::Partition, Kind::OneWay, Kind::Reset, Kind::Slow]);
        }
        if self.faults.nodes {
            kinds.extend([Kind::Kill, Kind::CutPower, Kind::Freeze]);
        }
        if self.faults.corruption {
            kinds.push(Kind::Corrupt);
        }
        let Some(kind) = self.random.choice(kinds) else {
            return;
        };
        // Which of the two sends and which receives is drawn already.
        match kind {
            Kind::Partition => {
                for (from, to) in [(node, other), (other, node)] {
                    world.execute(Order::Block(from, to));
                    world.order_at(over, Order::Unblock(from, to));
                }
            }
            Kind::OneWay => {
                let (from, to) = if self.random.bool() {
                    (node, other)
                } else {
                    (other, node)
                };
                world.execute(Order::Block(from, to));
                world.order_at(over, Order::Unblock(from, to));
            }
            Kind::Reset => world.execute(Order::Reset(node, other)),
            Kind::Slow => {
                let most = Duration::from_millis(self.random.u64(20..2000));
                let mut link = Link::default().latency(Duration::from_millis(5)..=most);
                if self.random.bool() {
                    link = link.rate(1 << self.random.u32(10..20));
                }
                Self::disturb(world, (node, other), link, over);
            }
            Kind::Corrupt => {
                let link = Link::default().corruption(self.random.f64() / 4.0);
                Self::disturb(world, (node, other), link, over);
            }
            Kind::Kill if world.is_running(node) => {
                world.execute(Order::Kill(node));
                world.order_at(over, Order::Start(node));
            }
            Kind::CutPower if world.is_running(node) => {
                world.execute(Order::CutPower(node));
                world.order_at(over, Order::Start(node));
            }
            Kind::Freeze if world.is_running(node) => {
                world.execute(Order::Freeze(node));
                world.order_at(over, Order::Thaw(node));
            }
            Kind::Kill | Kind::CutPower | Kind::Freeze => {}
        }
    }

    fn disturb(world: &World, (one, other): (NodeId, NodeId), link: Link, over: Duration) {
        for (from, to) in [(one, other), (other, one)] {
            world.execute(Order::Disturb(from, to, link.clone()));
            world.order_at(over, Order::Undisturb(from, to));
        }
    }

    /// Another node, the scenario's perhaps.
    fn pick_other(&mut self, node: NodeId, end: NodeId) -> NodeId {
        let other = self.random.usize(SCENARIO..end - 1);
        if other >= node { other + 1 } else { other }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Partition,
    OneWay,
    Reset,
    Slow,
    Corrupt,
    Kill,
    CutPower,
    Freeze,
}
