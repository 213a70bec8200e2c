//! The names of gRPC's own headers and trailers.

use http::HeaderName;

pub(crate) static STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) static DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
pub(crate) static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
pub(crate) static ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
pub(crate) static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How often a client or a proxy made this call before.
pub(crate) static EARLIER_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
/// A trailer of this library: `no` if the handler of the call surely did not run. Others ignore it.
pub(crate) static EXECUTED: HeaderName = HeaderName::from_static("rpc-executed");
