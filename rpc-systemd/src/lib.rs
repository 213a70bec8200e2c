//! Servers of [`rpc_runtime`] under systemd: socket activation, notifications, a watchdog; and the hand-over of a server's listening sockets
//! to a new process.
//!
//! - [`Sockets`]: the sockets that systemd, or the process before this one, has given to this process.
//! - [`serve`]: serves, and tells the service manager when the server is ready, that it still runs, and how its drain goes.
//! - [`Successor`]: a new process that takes over from this one, without systemd.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use rpc_runtime::{DrainReport, Error, Server, server::Service};
//! use rpc_systemd::Sockets;
//!
//! # struct Kv;
//! # impl Service for Kv {
//! #     fn name(&self) -> &'static str { "doc.v1.Kv" }
//! #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
//! #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
//! # }
//! fn main() -> Result<ExitCode, Error> {
//!     // First of all, before there are other threads.
//!     let sockets = Sockets::take()?;
//!     Ok(rpc_runtime::run(run(sockets)))
//! }
//!
//! async fn run(mut sockets: Sockets) -> Result<DrainReport, Error> {
//!     let mut server = Server::builder().service(Kv);
//!     // The socket unit says FileDescriptorName=kv.
//!     for endpoint in sockets.endpoints("fd:kv")? {
//!         server = server.listener(endpoint);
//!     }
//!     rpc_systemd::serve(server.bind().await?).await
//! }
//! ```
//!
//! All of it needs no systemd library. Without systemd nothing is sent, and only addresses that begin with `fd:` fail.
//!
//! This crate is for Linux, where systemd is, and checked on other Unix systems. On Windows it is empty.
#![cfg(unix)]

/// The Rust blocks of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod names;
mod private_folder;
mod report;
mod sockets;
mod successor;

pub use self::{
    report::{report, serve},
    sockets::Sockets,
    successor::Successor,
};
