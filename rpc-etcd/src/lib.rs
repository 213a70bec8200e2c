//! Servers in etcd: a client finds them, and a server registers itself, in the format of gRPC-Go.
//!
//! [`Etcd::resolver`] makes a [`Resolver`](rpc_runtime::discover::Resolver), which follows the servers of a service.
//! [`Etcd::registration`] makes a [`Registrar`](rpc_runtime::discover::Registrar), which keeps a server in etcd while it serves.
//!
//! ```no_run
//! # async fn serve(service: impl rpc_runtime::server::Service) -> Result<(), rpc_runtime::Error> {
//! use rpc_etcd::Etcd;
//! use rpc_runtime::{Client, Server};
//!
//! let etcd = Etcd::builder().endpoint("grpc://10.0.0.1:2379").endpoint("grpc://10.0.0.2:2379").build()?;
//!
//! // A server of the service `orders`.
//! let server = Server::builder()
//!     .service(service)
//!     .listener("tcp://10.0.0.7:5005")
//!     .register(etcd.registration("orders").weight(2).zone("a"));
//!
//! // A client of all servers of the service.
//! let client: Client = Client::builder("etcd:///orders").resolver(etcd.resolver("orders")).connect_lazy();
//! # server.serve().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is in etcd
//!
//! A server of the service `orders` has a key that begins with `orders/`. Its value is that of gRPC-Go's package `naming/endpoints`, so
//! gRPC-Go finds servers of this library, and clients of this library find those of gRPC-Go:
//!
//! ```json
//! {"Op":0,"Addr":"10.0.0.7:5005","Metadata":{"weight":2,"zone":"a"}}
//! ```
//!
//! The key of a server is bound to a lease: a server that dies is gone after the lease's time, 15 s by default. After a change of etcd's
//! leader that may take twice as long.
//!
//! # When etcd fails
//!
//! A client keeps the servers that it knows while etcd is away, and a server serves on. Both come back by themselves, also when etcd has
//! lost its data.

/// The Rust blocks of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod backoff;
mod builder;
mod etcd;
mod known;
mod naming;
mod proto {
    rpc_runtime::include_protos!();
    pub(crate) use etcdserverpb::*;
}
mod registration;
mod resolver;
mod watching;

pub use self::{builder::EtcdBuilder, etcd::Etcd, registration::Registration, resolver::EtcdResolver};
