//! gRPC over HTTP/2 for servers of [`rpc_runtime`], on the same port.
//!
//! [`Http`] is a [`Guest`](rpc_runtime::server::Guest): a server gives it the connections that do not speak the native protocol. Each
//! gRPC call becomes a call of the server itself, so handlers notice nothing: deadlines, cancellation, middleware, limits and drain are as
//! for native callers.
//!
//! ```no_run
//! # async fn serve(service: impl rpc_runtime::server::Service) -> Result<(), rpc_runtime::Error> {
//! use rpc_http::Http;
//! use rpc_runtime::Server;
//!
//! let server = Server::builder()
//!     .service(service)
//!     .guest(Http::new().grpc())
//!     .listener("tcp://127.0.0.1:5005");
//! server.serve().await?;
//! # Ok(())
//! # }
//! ```

mod connection;
mod grpc;
mod http_guest;
mod keep_alive;

pub use self::{grpc::add_initial_metadata, http_guest::Http};
