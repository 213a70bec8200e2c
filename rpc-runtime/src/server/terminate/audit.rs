//! Audit: one log event for each terminate, allowed or not.

use std::fmt;

use super::TerminatePolicy;
use crate::{Peer, auth::AUDIT, client::inherited::InstanceId};

/// The origin of a terminate.
#[derive(Debug)]
pub(crate) enum Asker<'a> {
    /// A caller of the terminate procedure, with its user if the policy knows it, and its name if middleware does.
    Peer {
        peer: &'a Peer,
        uid: Option<u32>,
        caller: Option<&'a str>,
    },
    /// A signal of the OS, by its name.
    Signal(&'static str),
    /// A handle, or code that dropped the server.
    Handle,
    /// The future that `serve_with_shutdown` was given.
    Shutdown,
}

/// What a terminate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TerminateKind {
    /// Open calls get the drain timeout to end.
    Drain,
    /// Open calls get no more time.
    Abort,
}

/// What a server did about a terminate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The terminate began the drain.
    First,
    /// The drain had begun before.
    Repeated,
    /// The terminate was refused, for this reason.
    Denied(&'static str),
}

/// A terminate for the log. It does not have the call's metadata, so it cannot leak a token.
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
        let transport = peer.map(|peer| peer.transport().name());
        let caller = asker.caller();
        let (uid, pid) = (asker.uid(), peer.and_then(Peer::pid));
        let signal = asker.signal();
        let by = asker.name();
        let wish = self.kind.name();
        let policy = tracing::field::debug(self.policy);
        let instance = tracing::field::display(Hex(self.instance));
        match decision {
            Decision::First | Decision::Repeated => tracing::info!(
                target: AUDIT,
                decision = "allowed",
                first = decision == Decision::First,
                wish,
                by,
                signal,
                caller,
                peer = address,
                transport,
                uid,
                pid,
                policy,
                instance,
                "terminate"
            ),
            Decision::Denied(reason) => tracing::warn!(
                target: AUDIT,
                decision = "denied",
                reason,
                wish,
                by,
                signal,
                caller,
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

    fn caller(&self) -> Option<&str> {
        match self {
            Self::Peer { caller, .. } => *caller,
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

struct Hex(InstanceId);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
