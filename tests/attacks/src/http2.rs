//! HTTP/2 and gRPC, as attackers speak them.

mod grpc_caller;
mod raw_http2;

pub use self::{
    grpc_caller::{End, GrpcCaller, end, prefixed},
    raw_http2::{Ended, Kind, RawHttp2, frame, request},
};
