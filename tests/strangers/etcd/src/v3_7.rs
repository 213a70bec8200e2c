//! The API of etcd 3.7.3, generated.

include!(concat!(env!("OUT_DIR"), "/v3_7/rpc_protos.rs"));

#[path = "check.rs"]
#[allow(
    clippy::duplicate_mod,
    reason = "the same checks hold for each version of the API"
)]
pub(crate) mod check;
