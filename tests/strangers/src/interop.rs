//! gRPC's interoperability cases, as their public description has them: the server, and a client that makes the calls.

mod cases;
mod server;
mod site;

pub use self::{
    cases::run,
    server::{Tester, serve},
    site::Site,
};

include!(concat!(env!("OUT_DIR"), "/interop/rpc_protos.rs"));
