//! TerminatePolicy: which peers may stop a server. Its folder has the audit log and the signals of the OS.

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
/// By default peers that are on this machine and run as the server's own user, for sure:
///
/// - a client in the same process, by `in_process` or a `mem:` address;
/// - the peer of a Unix socket whose process runs as the server's user or as root;
/// - on Linux, a TCP peer from this machine, if the server listens on a loopback address (`tcp://127.0.0.1:..`, not
///   `0.0.0.0`) and the kernel says that the peer's socket belongs to the server's user. It is asked when the terminate
///   comes, so the peer has to stay connected until it is answered.
///
/// Other peers get PERMISSION_DENIED, not executed, and the server goes on. Where the kernel cannot be asked, use
/// [`TerminatePolicy::loopback`] to trust all users of the machine.
///
/// Each terminate, allowed or not, is one event of `tracing` at the target `rpc_runtime::audit`.
///
/// A proxy that runs as the server's user may terminate the server, and so may every client of the proxy.
///
/// ```
/// use rpc_runtime::server::TerminatePolicy;
///
/// // Peers that know the token, over a transport that keeps it secret.
/// let policy = TerminatePolicy::custom(|cx| {
///     cx.peer().uid().is_some() && cx.metadata().get_str("x-stop-token") == Some("a long one")
/// });
/// ```
#[derive(Clone, Default)]
#[must_use = "a policy does nothing until a server is given it"]
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
    /// Allows what the default allows, and every TCP peer of this machine, whatever its user.
    pub fn loopback() -> Self {
        Self(Rule::Loopback)
    }

    /// Allows no peer: the procedure is unknown, as if it did not exist.
    ///
    /// Signals and handles of the server still drain it.
    pub fn disabled() -> Self {
        Self(Rule::Disabled)
    }

    /// Allows the peers for whose call `allows` returns true; it sees peer and metadata. Nothing else is checked.
    ///
    /// If it panics, the peer is denied.
    pub fn custom(allows: impl Fn(&Context) -> bool + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(allows)))
    }

    /// Decides whether the caller of `cx` may terminate the server.
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
                let is_loopback =
                    matches!(peer.transport(), Transport::Tcp | Transport::Tls) && peer.is_local();
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

/// A policy's decision about a caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) is_allowed: bool,
    /// The caller's user, if it is known.
    pub(crate) uid: Option<u32>,
}

/// Returns the user at the other end of a loopback connection, if it is one and the peer is still connected.
///
/// The sender may have gone between the request and this look-up, but no other process can have taken its place in the kernel's
/// table: two addresses have one established connection at a time. While our end is open, the other end belongs to the process
/// that opened it, or is being closed, and the search leaves those out. Only a reset ends both at once. So the connection has to
/// be open after the look-up, too.
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
