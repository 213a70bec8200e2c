//! The build-time half of the rpc framework: .proto files to Rust.
mod config;
mod docs;
mod emit;
mod error;
mod model;
mod naming;
mod scope;
mod source;

pub use config::{Config, compile_dir};
pub use error::Error;
