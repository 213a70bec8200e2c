//! The attack suite. Raw sockets attack a server in a process of its own with little memory, while a legitimate client calls it.
//!
//! `cargo run --release -p attacks -- --seconds 10` shows each attack, the server's answer, and what other clients noticed.

rpc_runtime::include_protos!();

pub mod attack;
pub mod certificates;
pub mod door;
pub mod http2;
pub mod probe;
pub mod procedure;
pub mod process;
pub mod report;
pub mod serve;
pub mod terminates;
