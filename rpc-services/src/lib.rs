//! gRPC's health service and server reflection, and a look into a live server, for servers of [`rpc_runtime`].
//!
//! [`Health`] says whether a server and its services can take calls, to load balancers, to Kubernetes and to clients. [`Reflection`] says what
//! the server serves, to tools such as grpcurl. [`Inspect`] shows connections, calls in flight, procedures and limits to those who may terminate the server.
//! They are services as any other: served over the native protocol, and over gRPC by a
//! server with the guest of the crate `rpc-http`.
//!
//! ```no_run
//! # async fn serve(service: impl rpc_runtime::server::Service) -> Result<(), rpc_runtime::Error> {
//! use rpc_runtime::Server;
//! use rpc_services::{Health, Reflection, ServingStatus};
//!
//! let health = Health::new();
//! let handle = health.handle();
//! let server = Server::builder()
//!     .service(service)
//!     .service(health)
//!     .service(Reflection::new())
//!     .listener("tcp://127.0.0.1:5005");
//!
//! // From anywhere in the program, at any time.
//! handle.set("kv.v1.Kv", ServingStatus::NotServing);
//! server.serve().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The modules [`grpc`] and [`rpc`] have what is generated from their .proto files: clients, messages, and the traits themselves.

/// The Rust blocks of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod health;
mod inspect;
mod reflection;
mod service_names;

rpc_runtime::include_protos!();

#[doc(hidden)]
pub use self::inspect::Measured;
pub use self::{
    health::{Health, HealthHandle, ServingStatus},
    inspect::Inspect,
    reflection::Reflection,
};
