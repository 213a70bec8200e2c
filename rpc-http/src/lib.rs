//! gRPC over HTTP/2 for [`rpc_runtime`]: servers answer gRPC callers on the same port, and clients call gRPC servers.
//!
//! # Servers
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
//!
//! With the feature `routes` a program answers other requests on that port, too, over HTTP/1.1 and HTTP/2: `Http::routes`.
//!
//! # Clients
//!
//! [`Grpc`] is a [`Protocol`](rpc_runtime::protocol::Protocol): a client that has it calls gRPC servers at `grpc://host:port`,
//! `grpcs://host:port` and `grpc+unix:/path`, by the stubs that it calls other servers with.
//!
//! ```no_run
//! # async fn example() -> Result<(), rpc_runtime::Error> {
//! use rpc_http::Grpc;
//! use rpc_runtime::Client;
//!
//! // Or a generated client: KvClient::builder(..)
//! let client: Client = Client::builder("grpc://127.0.0.1:50051").protocol(Grpc::new()).connect().await?;
//! # Ok(())
//! # }
//! ```

/// The Rust blocks of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod any_authority;
mod begun_frame;
mod connection;
#[cfg(any(test, fuzzing))]
#[allow(unreachable_pub, missing_docs, reason = "only fuzz targets reach it")]
#[doc(hidden)]
pub mod fuzz;
mod gathered_stream;
mod grpc;
mod held_bytes;
mod http_guest;
mod keep_alive;
mod longest_buffer;
mod open_answers;
mod opening;
mod outgoing;
mod pace;
mod preface;
mod reset_budget;
#[cfg(feature = "routes")]
mod routes;
mod stream_window;
mod sync;
mod task_waker;
#[cfg(test)]
mod wake_count;
mod watched_stream;
mod whole_answer;
mod woken_slots;

pub use self::{
    grpc::add_initial_metadata,
    http_guest::Http,
    outgoing::{Grpc, ReplyHeaders},
};
