//! Who calls, and who may.
//!
//! A server that takes tokens has [`BearerTokens`] as its middleware. A client sends one by
//! [`ClientBuilder::token`](crate::client::ClientBuilder::token), or by
//! [`ClientBuilder::token_source`](crate::client::ClientBuilder::token_source) if it expires. Handlers read the [`Caller`].
//!
//! Middleware that authenticates puts a [`Caller`] beside the call. A [`Policy`] decides whether the call goes on: [`Roles`] by the
//! rules in the .proto, [`policy_fn`] by a function of your own. [`ServerBuilder::policy`](crate::server::ServerBuilder::policy)
//! gives it to a server:
//!
//! ```
//! use rpc_runtime::{
//!     Server,
//!     auth::{self, Caller, Roles},
//!     middleware::{self, ServerCall},
//! };
//!
//! let server = Server::builder()
//!     .layer(middleware::from_fn(async |mut call: ServerCall, next| {
//!         if call.peer().is_same_user() {
//!             call.insert(Caller::new("operator").with_role("admin"));
//!         }
//!         next.run(call).await
//!     }).with_terminate())
//!     .policy(Roles::new())
//!     .allow(auth::TERMINATE, ["admin"]);
//! ```

mod asked;
mod audit;
mod bearer_tokens;
mod caller;
mod decision;
mod denial;
mod guard;
mod policy;
mod roles;
mod rule;
mod verified;
mod verified_cache;

pub use self::{
    asked::Asked,
    bearer_tokens::BearerTokens,
    caller::Caller,
    decision::Decision,
    policy::{Policy, PolicyFn, policy_fn},
    roles::Roles,
    rule::Rule,
    verified::Verified,
};
pub(crate) use self::{audit::AUDIT, denial::deny_operator, guard::Guard};
pub use crate::{
    api::secret::Secret,
    client::token::{Token, TokenSource},
};

/// The path of the procedure that terminates a server, for [`ServerBuilder::allow`](crate::server::ServerBuilder::allow) and for
/// policies.
pub const TERMINATE: &str = "rpc.control.v1.Control/rpc_terminate";
