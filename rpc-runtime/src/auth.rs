//! Who calls, and who may.
//!
//! A server that takes tokens has [`BearerTokens`] as its middleware. A client sends one by
//! [`ClientBuilder::token`](crate::client::ClientBuilder::token), or by
//! [`ClientBuilder::token_source`](crate::client::ClientBuilder::token_source) if it expires. Handlers read the [`Caller`].

mod bearer_tokens;
mod caller;
mod verified;
mod verified_cache;

pub use self::{bearer_tokens::BearerTokens, caller::Caller, verified::Verified};
pub use crate::{
    api::secret::Secret,
    client::token::{Token, TokenSource},
};
