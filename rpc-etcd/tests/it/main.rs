//! Finding and registering servers, with a fake etcd of our own generator that speaks gRPC.

mod fake;
mod registration;
mod resolver;

/// The server's half of `proto/etcd.proto`.
mod proto {
    include!(concat!(env!("OUT_DIR"), "/fake/rpc_protos.rs"));
    pub(crate) use etcdserverpb::*;
}
