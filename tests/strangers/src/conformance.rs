//! Connect's conformance suite: the server and the client that it asks for, and the messages by which it tells them what to do.

mod client;
mod framing;
mod invocation;
mod outcome;
mod rpc_status;
mod server;
mod service;

pub use self::{client::call, server::serve, service::Conformance};

include!(concat!(env!("OUT_DIR"), "/conformance/rpc_protos.rs"));
