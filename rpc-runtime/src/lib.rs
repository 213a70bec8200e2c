//! The runtime of an RPC framework: frames, connections, servers, clients, and a `terminate` that ends within a bound.
//!
//! Code that `rpc-codegen` generates from a `.proto` file stands on this crate; programs use the few names below.
//!
//! Goals: deadlines that bound, errors that say whether the handler ran, one-way calls that are accounted for, a drain
//! that never hangs, quick small calls. Not goals: gRPC's wire, HTTP, code generation at run time.
//!
//! A whole program, server and client in one:
//!
//! ```
//! use rpc_runtime::{Client, Server};
//! # use rpc_runtime::{Bytes, Context, Handler, Incoming, Procedure, Service};
//! # // By hand, what `include_protos!()` brings into a program of yours.
//! # const RPC_ECHO: Procedure = Procedure::new("doc.v1.Echo/rpc_echo", 0x5a1c_66d0_17b5_11ee);
//! # struct EchoServer;
//! # impl Service for EchoServer {
//! #     fn name(&self) -> &'static str { "doc.v1.Echo" }
//! #     fn procedures(&self) -> &'static [Procedure] { &[RPC_ECHO] }
//! #     fn call(&self, _: usize, call: Incoming) -> Handler {
//! #         call.handle(|_: Context, text: String| async move { Ok(text) })
//! #     }
//! # }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), rpc_runtime::Error> {
//! let server = Server::builder().service(EchoServer).listen("mem:doc").bind().await?;
//! let serving = tokio::spawn(server.serve());
//!
//! let client = Client::connect("mem:doc").await?;
//! // Generated stubs read `client.send_recv().echo("hello")`; this is what they do.
//! let text: String = client.call().send_recv(&RPC_ECHO, "hello".to_owned()).await?;
//! assert_eq!(text, "hello");
//!
//! let report = client.terminate().await?;
//! assert!(report.is_clean());
//! serving.await.unwrap()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What belongs to the process
//!
//! Everything runs as tasks of the current tokio runtime, but for two threads of the process. `rpc-signals` starts with the
//! first server that obeys SIGTERM and Ctrl-C, and takes both from the OS; [`ServerBuilder::signals`] with `false` avoids it.
//! `rpc-monitor` starts with the first call that is served, and sleeps while no handler runs. See [`Server`] for both.

// Generated code says `::rpc_runtime`, in this crate too.
extern crate self as rpc_runtime;

mod api;
mod base;
mod client;
#[doc(hidden)]
pub mod codegen;
mod conn;
mod driver;
#[cfg(any(test, fuzzing))]
#[allow(unreachable_pub, missing_docs, reason = "only fuzz targets reach it")]
#[doc(hidden)]
pub mod fuzz;
mod message;
mod net;
mod server;
mod session;
#[cfg(feature = "sim")]
pub mod sim;
mod wire;

pub use api::{
    account::{Account, DropReason},
    counters::Counters,
    error::{Error, Executed, LostSends, Phase},
    limits::Limits,
    load::Load,
    metadata::Metadata,
    open::Open,
    priority::Priority,
    report::DrainReport,
    status::{Code, Status},
};
pub use bytes::Bytes;
pub use client::{
    Call, Client, ClientBuilder, ConnectionState, Receipt, Reply, Sender, StateWatch, Streaming, UnaryCall,
};
pub use futures_core::Stream;
pub use message::procedure::Procedure;
pub use net::{Peer, Transport};
pub use prost::Message;
pub use prost_types;
pub use server::{Server, ServerBuilder, ServerHandle, TerminatePolicy, run};
pub use session::{Context, Handler, Incoming, Out, Requests, Service, stream};
pub use wire::compression::Compression;

/// What a handler returns; the error is a [`Status`] unless said otherwise.
pub type Result<T, E = Status> = std::result::Result<T, E>;

/// Includes the modules that `rpc-codegen` generated in this package's build script, by package name.
///
/// The compiler says so if no build script has generated any.
#[macro_export]
macro_rules! include_protos {
    () => {
        include!(env!(
            "RPC_CODEGEN_PROTOS",
            "include_protos!() finds no generated code: this package has no build script that calls \
             `rpc_codegen::compile_dir`\n\n\
             help: write a build.rs beside Cargo.toml:\n\n    \
             fn main() -> Result<(), Box<dyn std::error::Error>> {\n        \
             rpc_codegen::compile_dir(\"proto\")\n    \
             }\n\n\
             and in Cargo.toml, where rpc-runtime stands under [dependencies], put rpc-codegen under \
             [build-dependencies]; the documentation of rpc-codegen begins with a whole example. A build.rs that says \
             `Config::out_dir` writes elsewhere: include that folder's rpc_protos.rs by `include!`"
        ));
    };
}
