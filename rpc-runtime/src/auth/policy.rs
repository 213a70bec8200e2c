//! Policy: decides which calls go on.

use std::{fmt, future::Future, pin::Pin};

use super::{Asked, Caller, Decision};
use crate::Peer;

/// Decides which calls of a server go on.
///
/// [`Roles`](crate::auth::Roles) is the ready one: it compares the caller's roles with the rule of the procedure.
/// [`policy_fn`] makes one of an async function. A server gets it by
/// [`ServerBuilder::policy`](crate::server::ServerBuilder::policy), and asks it about each call of its services and about each
/// `terminate`, inside of its middleware. Calls of `ping`, `barrier` and `settled` pass it by.
///
/// ```
/// use rpc_runtime::auth::{Asked, Decision, Policy, Roles};
///
/// /// As the rules say, and only from this machine.
/// struct LocalRoles(Roles);
///
/// impl Policy for LocalRoles {
///     async fn decide(&self, asked: Asked) -> Decision {
///         match asked.peer().is_local() {
///             true => self.0.decide(asked).await,
///             false => Decision::denied("the peer is on another machine"),
///         }
///     }
/// }
/// ```
///
/// A policy that panics, or that takes longer than 5 s, denies.
///
/// # Cancel safety
///
/// When the call is no longer wanted, the future of [`Policy::decide`] is dropped at its next await.
pub trait Policy: Send + Sync + 'static {
    /// Decides whether the call goes on.
    fn decide(&self, asked: Asked) -> impl Future<Output = Decision> + Send;

    /// Returns who calls if no middleware has found out, by what the transport knows of the peer. Default: none.
    ///
    /// [`Asked::caller`] returns it, and handlers read it by [`Context::get`](crate::Context::get).
    fn caller(&self, peer: &Peer) -> Option<Caller> {
        let _ = peer;
        None
    }
}

/// A policy of any type.
pub(super) trait DynPolicy: Send + Sync {
    fn decide<'a>(&'a self, asked: Asked) -> Pin<Box<dyn Future<Output = Decision> + Send + 'a>>;

    fn caller(&self, peer: &Peer) -> Option<Caller>;
}

impl<P: Policy> DynPolicy for P {
    fn decide<'a>(&'a self, asked: Asked) -> Pin<Box<dyn Future<Output = Decision> + Send + 'a>> {
        Box::pin(Policy::decide(self, asked))
    }

    fn caller(&self, peer: &Peer) -> Option<Caller> {
        Policy::caller(self, peer)
    }
}

/// Makes a [`Policy`] of an async function or closure.
///
/// ```
/// use rpc_runtime::{Server, auth::{self, Asked, Decision}};
///
/// let server = Server::builder().policy(auth::policy_fn(async |asked: Asked| {
///     match (asked.caller(), asked.procedure()) {
///         (_, "kv.v1.Kv/rpc_health") => Decision::Allowed,
///         (None, _) => Decision::unauthenticated("no token"),
///         (Some(caller), auth::TERMINATE) if !caller.has_role("operator") => Decision::denied("not an operator"),
///         (Some(_), _) => Decision::Allowed,
///     }
/// }));
/// ```
pub fn policy_fn<F, Fut>(function: F) -> PolicyFn<F>
where
    F: Fn(Asked) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Decision> + Send,
{
    PolicyFn(function)
}

/// A policy made of a function: see [`policy_fn`].
#[derive(Clone, Copy)]
#[must_use = "a policy does nothing until a server gets it by `.policy(..)`"]
pub struct PolicyFn<F>(F);

impl<F, Fut> Policy for PolicyFn<F>
where
    F: Fn(Asked) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Decision> + Send,
{
    fn decide(&self, asked: Asked) -> impl Future<Output = Decision> + Send {
        (self.0)(asked)
    }
}

impl<F> fmt::Debug for PolicyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyFn").finish_non_exhaustive()
    }
}
