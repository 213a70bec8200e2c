//! Storm: draws random faults of nodes and links.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

use super::{
    faults::Faults,
    link::Link,
    network::NodeId,
    order::{Order, SCENARIO},
};

/// The source of random faults, from [`Sim::storm`](super::Sim::storm) until [`Sim::calm`](super::Sim::calm).
pub(super) struct Storm {
    faults: Faults,
    random: fastrand::Rng,
    next: Duration,
}

/// One random fault: how it begins, and how it ends later.
pub(super) struct Fault {
    pub(super) begin: Vec<Order>,
    pub(super) end: Vec<Order>,
    pub(super) end_at: Duration,
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

    /// Draws the next fault of one of `nodes` or its links, if it is due.
    ///
    /// Nodes that do not run do not fail.
    pub(super) fn draw_fault(
        &mut self,
        now: Duration,
        nodes: Range<NodeId>,
        is_running: impl Fn(NodeId) -> bool,
    ) -> Option<Fault> {
        if now < self.next {
            return None;
        }
        self.next = now + self.draw(&self.faults.every.clone());
        let end_at = now + self.draw(&self.faults.lasts.clone());
        if nodes.is_empty() {
            return None;
        }
        let node = self.random.usize(nodes.clone());
        let other = self.pick_other(node, nodes.end);
        let mut kinds: Vec<Disruption> = Vec::new();
        if self.faults.links {
            kinds.extend([
                Disruption::Partition,
                Disruption::OneWay,
                Disruption::Reset,
                Disruption::Slow,
            ]);
        }
        if self.faults.nodes {
            kinds.extend([Disruption::Kill, Disruption::CutPower, Disruption::Freeze]);
        }
        if self.faults.corruption {
            kinds.push(Disruption::Corrupt);
        }
        let kind = self.random.choice(kinds)?;
        let (begin, end) = match kind {
            Disruption::Partition => (
                vec![Order::Block(node, other), Order::Block(other, node)],
                vec![Order::Unblock(node, other), Order::Unblock(other, node)],
            ),
            Disruption::OneWay => {
                let (from, to) = if self.random.bool() {
                    (node, other)
                } else {
                    (other, node)
                };
                (vec![Order::Block(from, to)], vec![Order::Unblock(from, to)])
            }
            Disruption::Reset => (vec![Order::Reset(node, other)], Vec::new()),
            Disruption::Slow => {
                let most = Duration::from_millis(self.random.u64(20..2000));
                let mut link = Link::default().latency(Duration::from_millis(5)..=most);
                if self.random.bool() {
                    link = link.rate(1 << self.random.u32(10..20));
                }
                disturb(node, other, link)
            }
            Disruption::Corrupt => {
                let link = Link::default().corruption(self.random.f64() / 4.0);
                disturb(node, other, link)
            }
            Disruption::Kill | Disruption::CutPower | Disruption::Freeze if !is_running(node) => return None,
            Disruption::Kill => (vec![Order::Kill(node)], vec![Order::Start(node)]),
            Disruption::CutPower => (vec![Order::CutPower(node)], vec![Order::Start(node)]),
            Disruption::Freeze => (vec![Order::Freeze(node)], vec![Order::Thaw(node)]),
        };
        Some(Fault { begin, end, end_at })
    }

    /// Picks another node; it may be the scenario's.
    fn pick_other(&mut self, node: NodeId, end: NodeId) -> NodeId {
        let other = self.random.usize(SCENARIO..end - 1);
        if other >= node { other + 1 } else { other }
    }
}

/// Replaces the link between two nodes by `link`, in both directions.
fn disturb(one: NodeId, other: NodeId, link: Link) -> (Vec<Order>, Vec<Order>) {
    (
        vec![
            Order::Disturb(one, other, link.clone()),
            Order::Disturb(other, one, link),
        ],
        vec![Order::Undisturb(one, other), Order::Undisturb(other, one)],
    )
}

/// The kinds of random faults.
#[derive(Clone, Copy)]
enum Disruption {
    Partition,
    OneWay,
    Reset,
    Slow,
    Corrupt,
    Kill,
    CutPower,
    Freeze,
}
