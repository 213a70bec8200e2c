//! Services in virtual time, by `rpc_runtime::sim` and by turmoil.

mod network;
mod planted_bug;
mod turmoil;
