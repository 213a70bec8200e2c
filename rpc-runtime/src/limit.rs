//! How much a caller may ask of a server: limits of each caller, and the refusal of calls when all of them wait too long.
//!
//! Three kinds of [middleware](crate::middleware), for [`ServerBuilder::layer`](crate::server::ServerBuilder::layer) and
//! [`layer_for`](crate::server::ServerBuilder::layer_for). Each tells apart who calls, as middleware before it has found out:
//!
//! | middleware | what it bounds |
//! |---|---|
//! | [`rate`](rate()) | how many calls of a caller begin in a time |
//! | [`concurrency`](concurrency()) | how many calls of a caller run at once |
//! | [`shed`](shed()) | how long calls wait before their handlers start, whoever makes them |
//!
//! ```
//! use std::time::Duration;
//!
//! use rpc_runtime::{Server, limit};
//!
//! let server = Server::builder()
//!     .layer(limit::shed())
//!     .layer(limit::concurrency(20))
//!     .layer(limit::rate(100).burst(200))
//!     .layer_for("demo.kv.v1.Kv/rpc_clear", limit::rate(1).per(Duration::from_secs(60)));
//! # let _ = server;
//! ```
//!
//! A call that is refused was not executed, and its status says when to come back: see
//! [`Status::retry_after`](crate::Status::retry_after). Clients of this library do that by themselves: see
//! [`ClientBuilder::retry_hints`](crate::ClientBuilder::retry_hints). A one-way call that is refused is dropped, and counts as
//! overload in its caller's [`Account`](crate::Account).
//!
//! Limits do not wrap calls of the control service, such as `terminate`, so they refuse none of them.

mod caller_key;
mod concurrency;
mod key_of;
mod rate;
mod recent;
mod run_delay;
mod shed;
mod standing_queue;
mod theoretical_arrival;

pub use self::{
    caller_key::{CallerKey, caller},
    concurrency::{ConcurrencyLimit, concurrency},
    rate::{RateLimit, rate},
    shed::{Shed, shed},
};
