//! TerminatePolicy: which peers may stop a server. Its folder has the key by which a loopback peer proves its user, the audit log
//! and the signals of the OS.

mod audit;
mod key;
mod signals;

use std::{borrow::Cow, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

pub(crate) use self::{
    audit::{Asker, Audit, Decision, TerminateKind},
    key::ServerKey,
    signals::{Signals, ignore_signals},
};
use crate::{
    Context,
    base::{bounded::bounded, panic::Panic},
    client::inherited::InstanceId,
    net::{Challenge, own_user},
};

/// Which peers may terminate a server.
///
/// By default peers that are on this machine and run as the server's own user, for sure:
///
/// - a client in the same process, by `in_process` or a `mem:` address;
/// - the peer of a Unix socket whose process runs as the server's user or as root; on Windows the peer of a named pipe, likewise;
/// - a TCP peer, if the server listens on a loopback address (`tcp://127.0.0.1:..`, not `0.0.0.0`) and the peer proves that it
///   can read the server's key. Clients of this library do so by themselves.
///
/// Other peers get PERMISSION_DENIED, not executed, and the server goes on. Use [`TerminatePolicy::loopback`] to trust all users
/// of the machine.
///
/// The key is a file that only the server's user can read: in `$XDG_RUNTIME_DIR/rpc-runtime`, or else in `rpc-runtime-<uid>`
/// below the temporary folder; on Windows in `AppData\Local\rpc-runtime` of the user's profile. It is removed when the server ends. If it
/// cannot be written, the server starts all the same, logs why, and refuses each terminate over TCP. A tunnel or a proxy between the two proves nothing, whatever its user: a client
/// behind it has to read the file itself. The key is never sent.
///
/// Callers over gRPC find the procedure, `/rpc.control.v1.Control/rpc_terminate`, only if the program decides about each of them: by
/// [`TerminatePolicy::custom`], [`TerminatePolicy::custom_async`] or the server's own policy.
///
/// Each terminate, allowed or not, is one event of `tracing` at the target `rpc_runtime::audit`.
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
    CustomAsync(Arc<AsyncRule>),
    /// The server's own policy decides.
    ServerPolicy,
}

type CustomRule = dyn Fn(&Context) -> bool + Send + Sync;
type AsyncRule = dyn Fn(Context) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync;

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

    /// Allows the peers for whose call the future of `allows` returns true, as [`TerminatePolicy::custom`] does.
    ///
    /// If it panics, or takes longer than 5 s, the peer is denied.
    ///
    /// ```
    /// # async fn is_on_call(user: Option<u32>) -> bool { user.is_some() }
    /// use rpc_runtime::{Context, server::TerminatePolicy};
    ///
    /// let policy = TerminatePolicy::custom_async(async |cx: Context| is_on_call(cx.peer().uid()).await);
    /// ```
    pub fn custom_async<F, Fut>(allows: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self(Rule::CustomAsync(Arc::new(move |cx| Box::pin(allows(cx)))))
    }

    /// Returns whether callers of a guest's protocol, such as gRPC, find the procedure: only if code of the program decides about each.
    ///
    /// The place of a peer is not enough: a proxy of HTTP on this machine may pass on what comes from elsewhere.
    pub(crate) fn is_for_guests(&self) -> bool {
        match &self.0 {
            Rule::Local | Rule::Loopback | Rule::Disabled => false,
            Rule::Custom(_) | Rule::CustomAsync(_) | Rule::ServerPolicy => true,
        }
    }

    /// Leaves the decision to the server's own policy.
    pub(crate) fn server_policy() -> Self {
        Self(Rule::ServerPolicy)
    }

    /// Decides whether the caller of `cx` may terminate the server, which has `key`. `proof` is that of the request.
    pub(crate) async fn judge(&self, cx: &Context, proof: &[u8], key: &ServerKey) -> Verdict {
        let peer = cx.peer();
        let is_allowed = match &self.0 {
            Rule::Local if peer.is_same_user() => true,
            Rule::Local => match peer.challenge() {
                Some(challenge) => return Self::judge_proof(key, proof, cx.instance(), challenge),
                None => false,
            },
            Rule::Loopback => peer.is_same_user() || peer.is_loopback(),
            // A server with a policy of its own asks that one before it comes here.
            Rule::Disabled | Rule::ServerPolicy => false,
            Rule::CustomAsync(allows) => {
                let is_allowed = bounded(TIME, async { allows(cx.clone()).await });
                is_allowed.await.unwrap_or(false)
            }
            Rule::Custom(allows) => Panic::catch(|| allows(cx)).unwrap_or(false),
        };
        match is_allowed {
            true => Verdict::allowed(peer.uid()),
            false => Verdict::denied(peer.uid(), ""),
        }
    }

    /// Decides about a peer over loopback TCP, whose user the OS does not tell.
    fn judge_proof(key: &ServerKey, proof: &[u8], instance: InstanceId, challenge: Challenge) -> Verdict {
        match key.check(proof, instance, challenge) {
            Ok(()) => Verdict::allowed(own_user().and_then(|user| user.uid())),
            Err(why) => Verdict::denied(None, why),
        }
    }

    /// True if the server's own policy decides.
    pub(crate) fn is_server_policy(&self) -> bool {
        matches!(self.0, Rule::ServerPolicy)
    }

    /// True if loopback peers have to prove their user.
    pub(crate) fn needs_key(&self) -> bool {
        matches!(self.0, Rule::Local)
    }

    pub(crate) fn is_disabled(&self) -> bool {
        matches!(self.0, Rule::Disabled)
    }
}

/// A policy's decision about a caller.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// The caller's user, if it is known.
    pub(crate) uid: Option<u32>,
    /// Why the caller may not; none if it may.
    pub(crate) refusal: Option<Cow<'static, str>>,
}

impl Verdict {
    fn allowed(uid: Option<u32>) -> Self {
        Self { uid, refusal: None }
    }

    /// `why` is more than that it may not.
    fn denied(uid: Option<u32>, why: &str) -> Self {
        let refusal = match why {
            "" => Cow::Borrowed(DENIED),
            why => Cow::Owned(format!("{DENIED}: {why}")),
        };
        Self {
            uid,
            refusal: Some(refusal),
        }
    }
}

impl fmt::Debug for TerminatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::Local => "TerminatePolicy::default",
            Rule::Loopback => "TerminatePolicy::loopback",
            Rule::Disabled => "TerminatePolicy::disabled",
            Rule::Custom(_) => "TerminatePolicy::custom",
            Rule::CustomAsync(_) => "TerminatePolicy::custom_async",
            Rule::ServerPolicy => "ServerBuilder::policy",
        })
    }
}

const DENIED: &str = "this peer may not terminate the server";
/// How long a policy may take.
const TIME: Duration = Duration::from_secs(5);
