//! The history checker: did each call run as its error says, while connections were cut and servers killed?
//!
//! Each call of a [`load`] has its own token. The servers serve a [`probe`], and record in their
//! [`journal`] which handlers started and how they ended. The callers record in the [`history`] the outcomes. The
//! [`check`] compares the two. Between clients and servers, [`cuts`] breaks connections. A [`child`] is a
//! server that can be killed.
//!
//! `cargo run --release -p history -- --calls 1000000 --seed 7` runs all of it.
//!
//! [`stops`] checks how a server ends: `cargo run --release -p history --bin random-stops -- --count 1000 --seed 7`.

rpc_runtime::include_protos!();

pub mod certificates;
pub mod check;
pub mod child;
pub mod cluster;
pub mod course;
pub mod cuts;
pub mod history;
pub mod host;
pub mod journal;
pub mod load;
pub mod probe;
pub mod scratch;
pub mod script;
pub mod simulation;
pub mod stops;
mod talk;
