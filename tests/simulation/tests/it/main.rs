//! Services in virtual time, by `rpc_runtime::sim` and by turmoil.

mod discover;
mod limits;
mod network;
mod planted_bug;
mod turmoil;
