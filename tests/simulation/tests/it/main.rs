//! Services in virtual time, by `rpc_runtime::sim` and by turmoil.

mod limits;
mod network;
mod planted_bug;
mod turmoil;
