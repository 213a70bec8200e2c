//! Layer: code of users that wraps calls, the same on a server and on a client.

mod answer;
mod any_call;
mod chain;
mod from_fn;
mod raw;
pub(crate) mod request;
#[cfg(feature = "tower")]
mod tower;
mod tries;

#[cfg(feature = "tower")]
pub use self::tower::{Rest, Tower, TowerCall, tower};
pub use self::{
    answer::Answer,
    any_call::AnyCall,
    chain::{Middleware, Next},
    from_fn::{FromFn, from_fn},
    raw::RawMessage,
};
pub(crate) use self::{
    any_call::{CallError, Sealed},
    chain::{AnswerFuture, Chain, DynMiddleware, Last, Running},
    tries::{SentTry, Tries},
};
