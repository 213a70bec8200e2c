//! Roles: the policy that compares a caller's roles with the rule of a procedure.

use std::{fmt, sync::Arc};

use super::{Asked, Caller, Decision, Policy};
use crate::Peer;

/// The policy of the rules: a caller needs one of the roles that the rule of the procedure names.
///
/// The rule is `allow` in the .proto, or what [`ServerBuilder::allow`](crate::server::ServerBuilder::allow) says in its place. A
/// procedure without a rule is denied to everyone, so that a forgotten rule opens nothing: write `allow: ["anyone"]` for one that
/// is open to all.
///
/// The caller is the [`Caller`] that middleware has put beside the call, or else that of [`Roles::callers`]:
///
/// ```
/// use rpc_runtime::{Server, auth::{Caller, Roles}};
///
/// // Over a Unix socket: the server's own user, and root, are admins.
/// let roles = Roles::new().callers(|peer| {
///     let uid = peer.uid()?;
///     let caller = Caller::new(format!("uid {uid}"));
///     Some(if peer.is_same_user() { caller.with_role("admin") } else { caller })
/// });
/// let server = Server::builder().policy(roles);
/// ```
#[derive(Clone, Default)]
#[must_use = "a policy does nothing until a server gets it by `.policy(..)`"]
pub struct Roles {
    callers: Option<Arc<CallerOfPeer>>,
}

type CallerOfPeer = dyn Fn(&Peer) -> Option<Caller> + Send + Sync;

impl Roles {
    /// Makes the policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how a peer becomes a caller: by the user of a Unix socket, or by the names of a TLS certificate. Default: not at all.
    ///
    /// It is asked only if no middleware has put a [`Caller`] beside the call.
    pub fn callers(mut self, callers: impl Fn(&Peer) -> Option<Caller> + Send + Sync + 'static) -> Self {
        self.callers = Some(Arc::new(callers));
        self
    }
}

impl Policy for Roles {
    async fn decide(&self, asked: Asked) -> Decision {
        let rule = asked.rule();
        if rule.allows_anyone() {
            return Decision::Allowed;
        }
        if rule.is_empty() {
            return Decision::denied("the procedure has no rule: say who may call it by `allow`");
        }
        match asked.caller() {
            Some(caller) if rule.allows(caller) => Decision::Allowed,
            Some(_) => Decision::denied(format!("the caller has none of the roles {rule:?}")),
            None => Decision::unauthenticated("neither middleware nor the transport says who calls"),
        }
    }

    fn caller(&self, peer: &Peer) -> Option<Caller> {
        self.callers.as_ref()?(peer)
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roles")
            .field("callers", &self.callers.is_some())
            .finish()
    }
}
