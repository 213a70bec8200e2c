//! The runtime.

mod client;
mod codec;
#[doc(hidden)]
pub mod codegen;
mod conn;
mod context;
mod error;
mod frame;
mod metadata;
mod report;
mod service;
mod status;
mod transport;

pub use bytes::Bytes;
pub use client::{Call, Client};
pub use context::Context;
pub use error::{Error, Executed, Phase};
pub use metadata::Metadata;
pub use report::{Account, DrainReport};
pub use service::{Handler, Incoming, Procedure, Service};
pub use status::{Code, Status};
pub use transport::{Peer, Transport};

/// What a handler returns; the error is a [`Status`] unless said otherwise.
pub type Result<T, E = Status> = std::result::Result<T, E>;

/// Includes the modules that `rpc-codegen` generated in this package's build script, by package name.
#[macro_export]
macro_rules! include_protos {
    () => {
        include!(concat!(env!("OUT_DIR"), "/rpc_protos.rs"));
    };
}
