//! Servers and clients over every transport, as a user of the crate sees them.
//!
//! One binary, because each binary costs a link. Its tests share a process and run at the same time, so none may measure the
//! process, send a signal, or use an address or a file of another one: every `mem:` name occurs in one test. Tests that need a
//! process of their own are the other files of this folder; each says why.

#[cfg(unix)]
mod another_user;
mod auth;
mod call_log;
mod callbacks;
mod client;
mod cluster;
#[cfg(all(feature = "lz4", feature = "zstd"))]
mod compression;
mod extreme_limits;
mod inspect;
mod limit;
mod limit_texts;
mod load;
mod metrics;
mod middleware;
mod policy;
mod protocol;
mod secrets;
mod server;
mod streams;
#[cfg(feature = "_tls")]
mod tls;
mod trace;
#[cfg(all(feature = "_tls", unix))]
mod who_is_let_in;
