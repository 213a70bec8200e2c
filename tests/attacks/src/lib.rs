//! The attack suite: raw sockets that send what no client would, against a server in a process of its own with little
//! memory, and a legitimate client beside them.
//!
//! `cargo run --release -p attacks -- --seconds 10` shows each attack, how it was answered, and what others noticed of it.

rpc_runtime::include_protos!();

pub mod attack;
pub mod probe;
pub mod process;
pub mod raw;
pub mod report;
pub mod serve;
