//! Metrics, probes and debug pages of a process that uses [`rpc_runtime`], over HTTP/1.1 and HTTP/2.
//!
//! One line shows a process to Prometheus, to Kubernetes and to curl, whether it serves or only calls:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), rpc_runtime::Error> {
//! let admin = rpc_admin::listen("tcp://127.0.0.1:0").await?;
//! println!("admin {}", admin.address());
//! # admin.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! | path | answer | for |
//! |---|---|---|
//! | `/metrics` | the [metrics](rpc_runtime::metrics) of the process, in Prometheus' text or OpenMetrics | everybody |
//! | `/healthz` | 200 while the runtime of the program runs tasks, 503 if it runs none for 2 s | everybody |
//! | `/readyz` | 200 while the server should get calls, 503 with the reason if not | everybody |
//! | `/debug/calls` | the calls in flight | peers of this machine, or by a policy |
//! | `/debug/connections` | the connections | the same |
//! | `/debug/procedures` | rates, errors and latencies of each procedure | the same |
//! | `/debug/limits` | the limits in force, and their use | the same |
//!
//! The debug pages are text, or JSON with `?format=json` or by `Accept`. [`AdminBuilder::policy`] lets other peers see them.
//!
//! The listener has a thread of its own, so it answers even if all threads of the program's runtime are blocked.

/// The Rust blocks of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod admin;
mod builder;
mod negotiation;
mod pages;
mod query;
mod visitor;

pub use self::{admin::Admin, builder::AdminBuilder};

use rpc_runtime::Error;

/// Listens at an address, without a health handle and without a policy: see [`AdminBuilder::listen`].
///
/// # Errors
///
/// Those of [`AdminBuilder::listen`].
///
/// # Cancel safety
///
/// Dropping the future leaves nothing behind.
pub async fn listen(address: impl Into<String>) -> Result<Admin, Error> {
    builder().listen(address).await
}

/// Makes a builder, to configure a listener.
pub fn builder() -> AdminBuilder {
    AdminBuilder::new()
}
