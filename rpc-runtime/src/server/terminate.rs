//! TerminatePolicy and signals: who may stop a server. Only its folder knows the signals of the OS.

mod audit;
mod signals;

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

pub(crate) use self::{
    audit::{Asker, Audit, Decision, TerminateKind},
    signals::{Signals, ignore_signals},
};
use crate::{Context, Transport, net::own_uid};

/// Which peers may terminate a server.
///
/// By default those that are surely local and surely the server's own user:
///
/// - a client in the same process, by `in_process` or a `mem:` address;
/// - the peer of a Unix socket whose process runs as the server's user or as root;
/// - on Linux, a TCP peer from this machine, if the server listens on a loopback address (`tcp://127.0.0.1:..`, not
///   `0.0.0.0`) and the kernel says that the peer's socket belongs to the server's user. It is asked when the terminate
///   comes, so the peer has to stay connected until it is answered.
///
/// Everybody else gets PERMISSION_DENIED, which is not executed, and the server goes on. Where the kernel cannot be
/// asked, say [`TerminatePolicy::loopback`] to trust all users of the machine.
///
/// Each terminate that is asked for, allowed or not, is one event of `tracing` at the target `rpc_runtime::audit`.
///
/// A proxy that runs as the server's user passes, whoever talks to the proxy.
///
/// ```
/// use rpc_runtime::TerminatePolicy;
///
/// // Whoever knows the token, over a transport that keeps it secret.
/// let policy = TerminatePolicy::custom(|cx| {
///     cx.peer().uid().is_some() && cx.metadata().get_str("x-stop-token") == Some("a long one")
/// });
/// ```
#[derive(Clone, Default)]
pub struct TerminatePolicy(Rule);

#[derive(Clone, Default)]
enum Rule {
    #[default]
    Local,
    Loopback,
    Disabled,
    Custom(Arc<CustomRule>),
}

type CustomRule = dyn Fn(&Context) -> bool + Send + Sync;

impl TerminatePolicy {
    /// The default, and every TCP peer that connects from this machine, whoever its user is.
    pub fn loopback() -> Self {
        Self(Rule::Loopback)
    }

    /// Nobody: the procedure does not exist, as far as peers can tell.
    ///
    /// Signals and handles of the server still drain it.
    pub fn disabled() -> Self {
        Self(Rule::Disabled)
    }

    /// Those whom `allows` lets pass: it is given the call, with its peer and metadata. Nothing else is checked.
    ///
    /// If it panics, the peer is denied.
    pub fn custom(allows: impl Fn(&Context) -> bool + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(allows)))
    }

    /// Whether the caller of `cx` may terminate the server.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future decides nothing.
    pub(crate) async fn judge(&self, cx: &Context) -> Verdict {
        let peer = cx.peer();
        let (is_allowed, uid) = match &self.0 {
            Rule::Local if peer.is_same_user() => (true, peer.uid()),
            Rule::Local => match loopback_owner(cx).await {
                Some(owner) => (own_uid() == Some(owner), Some(owner)),
                None => (false, peer.uid()),
            },
            Rule::Loopback => {
                let is_loopback = peer.transport() == Transport::Tcp && peer.is_local();
                (peer.is_same_user() || is_loopback, peer.uid())
            }
            Rule::Disabled => (false, peer.uid()),
            Rule::Custom(allows) => {
                let is_allowed = panic::catch_unwind(AssertUnwindSafe(|| allows(cx)));
                (is_allowed.unwrap_or(false), peer.uid())
            }
        };
        Verdict { is_allowed, uid }
    }

    pub(crate) fn is_disabled(&self) -> bool {
        matches!(self.0, Rule::Disabled)
    }
}

/// What a policy says of a caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) is_allowed: bool,
    /// The caller's user, if that is known.
    pub(crate) uid: Option<u32>,
}

/// The user at the other end of a loopback connection, if it is one and is still there.
///
/// Between the request and this look its sender may have gone, but nobody can have taken their place in the kernel's
/// table: two ends have one established connection at a time, and while ours is open, the other end is that of whoever
/// opened it, or is being closed, which the search leaves out. Only a reset ends both at once. So the connection has
/// to be open after the look, too.
async fn loopback_owner(cx: &Context) -> Option<u32> {
    let owner = cx.peer().loopback_owner().await?;
    cx.session().is_open().then_some(owner)
}

impl fmt::Debug for TerminatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::Local => "TerminatePolicy::default",
            Rule::Loopback => "TerminatePolicy::loopback",
            Rule::Disabled => "TerminatePolicy::disabled",
            Rule::Custom(_) => "TerminatePolicy::custom",
        })
    }
}
