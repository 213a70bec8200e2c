//! The audit line: one event for each terminate that is asked for, whatever becomes of it.

use std::fmt;

use super::TerminatePolicy;
use crate::{Peer, Transport, client::inherited::InstanceId};

/// Who asks a server to end.
#[derive(Debug)]
pub(crate) enum Asker<'a> {
    /// A caller of the terminate procedure; its user, as far as the policy found that out.
    Peer { peer: &'a Peer, uid: Option<u32> },
    /// A signal of the OS, by its name.
    Signal(&'static str),
    /// A handle, or code that dropped the server.
    Handle,
    /// The future that `serve_with_shutdown` was given.
    Shutdown,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TerminateKind {
    /// That open calls be given their time.
    Drain,
    /// That they be given none.
    Abort,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It began the drain.
    First,
    /// The drain had begun.
    Repeated,
    /// It was refused, for this reason.
    Denied(&'static str),
}

/// A terminate that was decided on, for the log. It knows nothing of the call's metadata, so no token can get out.
#[derive(Debug)]
pub(crate) struct Audit<'a> {
    pub(crate) asker: &'a Asker<'a>,
    pub(crate) kind: TerminateKind,
    pub(crate) policy: &'a TerminatePolicy,
    pub(crate) instance: InstanceId,
}

impl Audit<'_> {
    /// Writes the line, at the target `rpc_runtime::audit`.
    pub(crate) fn log(&self, decision: Decision) {
        let asker = self.asker;
        let peer = asker.peer();
        let address = peer.map(Peer::address);
        let transport = peer.map(|peer| name(peer.transport()));
        let (uid, pid) = (asker.uid(), peer.and_then(Peer::pid));
        let signal = asker.signal();
        let by = asker.name();
        let wish = self.kind.name();
        let policy = tracing::field::debug(self.policy);
        let instance = tracing::field::display(Hex(self.instance));
        match decision {
            Decision::First | Decision::Repeated => tracing::info!(
                target: TARGET,
                decision = "allowed",
                first = decision == Decision::First,
                wish,
                by,
                signal,
                peer = address,
                transport,
                uid,
                pid,
                policy,
                instance,
                "terminate"
            ),
            Decision::Denied(reason) => tracing::warn!(
                target: TARGET,
                decision = "denied",
                reason,
                wish,
                by,
                signal,
                peer = address,
                transport,
                uid,
                pid,
                policy,
                instance,
                "terminate"
            ),
        }
    }
}

impl Asker<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Peer { .. } => "peer",
            Self::Signal(_) => "signal",
            Self::Handle => "handle",
            Self::Shutdown => "shutdown",
        }
    }

    fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Peer { peer, .. } => Some(peer),
            Self::Signal(_) | Self::Handle | Self::Shutdown => None,
        }
    }

    fn uid(&self) -> Option<u32> {
        match self {
            Self::Peer { uid, .. } => *uid,
            Self::Signal(_) | Self::Handle | Self::Shutdown => None,
        }
    }

    fn signal(&self) -> Option<&'static str> {
        match self {
            Self::Signal(name) => Some(name),
            Self::Peer { .. } | Self::Handle | Self::Shutdown => None,
        }
    }
}

impl TerminateKind {
    fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Abort => "abort",
        }
    }
}

fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Unix => "unix",
        Transport::Memory => "mem",
        Transport::InProcess => "in-process",
        Transport::Custom => "custom",
    }
}

struct Hex(InstanceId);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const TARGET: &str = "rpc_runtime::audit";
