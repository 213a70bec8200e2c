//! Token: what a client says to show who it is, where it comes from, and when it is renewed.

mod bearer;
mod cache;
mod source;
mod tokens;

pub use self::source::{Token, TokenSource};
pub(super) use self::{bearer::Bearer, source::DynTokenSource, tokens::Tokens};
