//! Order: the changes that a scenario, or a storm of faults, makes to a simulation.

use std::{future::Future, pin::Pin};

use super::{faults::Faults, link::Link, network::NodeId};

/// The id of the node on which the scenario runs.
pub(super) const SCENARIO: NodeId = 0;

/// A future that a node runs.
pub(super) type NodeFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One change to a simulation.
pub(super) enum Order {
    Start(NodeId),
    /// Like SIGKILL: the OS closes the node's sockets.
    Kill(NodeId),
    /// No peer is told.
    CutPower(NodeId),
    /// Like SIGSTOP.
    Freeze(NodeId),
    /// Like SIGCONT.
    Thaw(NodeId),
    Block(NodeId, NodeId),
    Unblock(NodeId, NodeId),
    Reset(NodeId, NodeId),
    /// Replaces the link of one direction until [`Order::Undisturb`].
    Disturb(NodeId, NodeId, Link),
    Undisturb(NodeId, NodeId),
    SetLink(NodeId, NodeId, Link),
    SetDefaultLink(Link),
    Run(NodeId, NodeFuture),
    Storm(Faults),
    Calm,
}
