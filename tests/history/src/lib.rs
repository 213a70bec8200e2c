//! The history checker: did each call run as often as its caller was told, whatever was cut or killed meanwhile?
//!
//! Each call of a [`load`] carries a token of its own. The servers, which serve a [`probe`], write into their
//! [`journal`] which handler started and how it ended; the callers write into the [`history`] what they saw; and the
//! [`check`] compares the two. In between, [`cuts`] does to connections what networks do, and a [`child`] is a
//! server that can be killed.
//!
//! `cargo run --release -p history -- --calls 1000000 --seed 7` does all of it.
//!
//! [`stops`] looks at how a server ends: `cargo run --release -p history --bin random-stops -- --count 1000 --seed 7`.

rpc_runtime::include_protos!();

pub mod check;
pub mod child;
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
