//! An RPC runtime on tokio: deadlines that hold, errors that say whether a call ran, a graceful stop within a bound.
//!
//! You describe a service in a `.proto` file. `rpc-codegen` turns it into a trait, which you implement, and a client, whose
//! methods you await. This crate carries the calls, over TCP, over Unix sockets or named pipes,
//! or within one process.
//!
//! # A whole program
//!
//! `proto/hello.proto`:
//!
//! ```proto
//! syntax = "proto3";
//! package hello.v1;
//! service Hello {
//!   rpc rpc_greet(GreetRequest) returns (GreetReply);
//! }
//! message GreetRequest { string name = 1; }
//! message GreetReply { string text = 1; }
//! ```
//!
//! `build.rs`, with `rpc-codegen` under `[build-dependencies]`:
//!
//! ```ignore
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     rpc_codegen::compile_dir("proto")
//! }
//! ```
//!
//! `src/main.rs`, with `rpc-runtime` and `tokio` (features `macros` and `rt-multi-thread`) under `[dependencies]`:
//!
//! ```
//! use hello::v1::*;
//! use rpc_runtime::{Context, Error, Result, Server};
//!
//! # // What `include_protos!` includes in a program with a build script, shortened and written by hand.
//! # mod hello {
//! #     pub mod v1 {
//! #         use std::{future::Future, sync::Arc};
//! #         use rpc_runtime::{Client, Context, DrainReport, Error, Result};
//! #         use rpc_runtime::{client::Call, server::{Handler, Incoming, Procedure, Service}};
//! #         #[derive(Clone, PartialEq, rpc_runtime::codegen::prost::Message)]
//! #         #[prost(prost_path = "rpc_runtime::codegen::prost")]
//! #         pub struct GreetRequest { #[prost(string, tag = "1")] pub name: String }
//! #         #[derive(Clone, PartialEq, rpc_runtime::codegen::prost::Message)]
//! #         #[prost(prost_path = "rpc_runtime::codegen::prost")]
//! #         pub struct GreetReply { #[prost(string, tag = "1")] pub text: String }
//! #         static PROCEDURES: [Procedure; 1] = [Procedure::new("hello.v1.Hello/rpc_greet", 0x5a1c_66d0_17b5_11ee)];
//! #         pub trait Hello: Send + Sync + 'static {
//! #             fn rpc_greet(
//! #                 &self, cx: &Context, request: GreetRequest,
//! #             ) -> impl Future<Output = Result<GreetReply>> + Send;
//! #         }
//! #         pub struct HelloServer<T>(Arc<T>);
//! #         impl<T: Hello> HelloServer<T> {
//! #             pub fn new(service: T) -> Self { Self(Arc::new(service)) }
//! #         }
//! #         impl<T: Hello> Service for HelloServer<T> {
//! #             fn name(&self) -> &'static str { "hello.v1.Hello" }
//! #             fn procedures(&self) -> &'static [Procedure] { &PROCEDURES }
//! #             fn call(&self, _: usize, call: Incoming) -> Handler {
//! #                 let service = Arc::clone(&self.0);
//! #                 call.handle(move |cx: Context, request| async move { service.rpc_greet(&cx, request).await })
//! #             }
//! #         }
//! #         pub struct HelloClient(Client);
//! #         impl HelloClient {
//! #             pub fn connect_lazy(address: &str) -> Self { Self(Client::connect_lazy(address)) }
//! #             pub fn send_recv(&self) -> HelloSendRecv<'_> { HelloSendRecv(self.0.call()) }
//! #         }
//! #         pub struct HelloSendRecv<'a>(Call<'a>);
//! #         impl HelloSendRecv<'_> {
//! #             pub async fn greet(self, name: impl Into<String>) -> Result<GreetReply, Error> {
//! #                 self.0.send_recv(&PROCEDURES[0], GreetRequest { name: name.into() }).await
//! #             }
//! #             pub async fn terminate(self) -> Result<DrainReport, Error> { self.0.terminate().await }
//! #         }
//! #     }
//! # }
//! # #[cfg(any())]
//! rpc_runtime::include_protos!();
//!
//! struct Polite;
//!
//! impl Hello for Polite {
//!     async fn rpc_greet(&self, _: &Context, request: GreetRequest) -> Result<GreetReply> {
//!         Ok(GreetReply { text: format!("good day, {}", request.name) })
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let server = Server::builder().service(HelloServer::new(Polite)).listener("tcp://127.0.0.1:0").bind().await?;
//!     let hello = HelloClient::connect_lazy(&server.addresses()[0]);
//!     let serving = tokio::spawn(server.serve());
//!
//!     println!("{}", hello.send_recv().greet("Ada").await?.text);
//!     println!("{}", hello.send_recv().terminate().await?); // the server finishes its open calls and ends
//!     serving.await.expect("the server does not panic")?;
//!     Ok(())
//! }
//! ```
//!
//! # What belongs to the process
//!
//! Everything runs as tasks of the current tokio runtime, but for two threads of the process. `rpc-signals` starts with the
//! first server that obeys SIGTERM and Ctrl-C, and takes both from the OS; [`ServerBuilder::signals`](server::ServerBuilder::signals) with `false` avoids it.
//! `rpc-monitor` starts with the first call that is served, and sleeps while no handler runs. See [`Server`] for both.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `zstd` | `Compression::Zstd`: it builds the C library zstd, so it needs a C compiler |
//! | `lz4` | `Compression::Lz4`: Rust without unsafe code |
//! | `json` | serde's traits for messages that the build script selects with `Config::json` |
//! | `tower` | `middleware::tower`: layers of the crate tower as middleware |
//! | `tls` | `tls://` addresses and the module `tls`, by rustls with aws-lc-rs: it needs a C compiler |
//! | `tls-ring` | the same with ring in place of aws-lc-rs, which builds faster |
//! | `tls-dev` | `tls::dev()`: a throw-away CA for local use; beside `tls` or `tls-ring` |
//! | `sim` | the module `sim`: runs servers and clients under faults, in virtual time, from a seed |
//!
//! # Where to go
//!
//! | you want to | start at |
//! |---|---|
//! | call a service | [`Client`], then [`client`] |
//! | implement a service, run a server, stop it | [`Context`] and [`Server`], then [`server`] |
//! | send or read many messages in one call | [`stream`](mod@stream) |
//! | return an error, or handle one | [`Status`] and [`Error`], then [`status`] |
//! | bound memory and time | [`Limits`] |
//! | wrap calls: log, refuse, time, retry | [`middleware`] |
//! | know who calls, and decide who may | [`auth`] |
//! | see what a process does now | [`inspect`] |
//! | limit what a caller may ask, and refuse calls under overload | [`limit`] |
//! | read what was counted: calls, latencies, connections | [`metrics`] |
//! | send data beside a message | [`Metadata`] |
//! | follow a call from process to process, and see its spans | [`trace`] |
//! | find servers by a name, and balance calls over them | [`discover`] |
//! | encrypt, and know who calls | the module `tls`, with the feature of that name |
//! | test a service under faults | the module `sim`, with the feature of that name |
//! | call a server that speaks another protocol, such as gRPC | [`protocol`] |
//! | speak the protocol yourself | [`codec`] |
//!
//! The repository has a tutorial, how-to pages, and the reference of guarantees, limits and the wire, in `docs/`.

#![cfg_attr(docsrs, feature(doc_cfg))]

// Generated code says `::rpc_runtime`, in this crate too.
extern crate self as rpc_runtime;

mod api;
pub mod auth;
pub mod balance;
mod base;
mod call_log;
pub mod client;
#[doc(hidden)]
pub mod codegen;
mod conn;
pub mod discover;
mod driver;
#[cfg(any(test, fuzzing))]
#[allow(unreachable_pub, missing_docs, reason = "only fuzz targets reach it")]
#[doc(hidden)]
pub mod fuzz;
pub mod inspect;
#[cfg(feature = "json")]
#[doc(hidden)]
pub mod json;
mod layer;
pub mod limit;
mod message;
pub mod metrics;
mod net;
pub mod server;
mod session;
#[cfg(feature = "sim")]
#[cfg_attr(docsrs, doc(cfg(feature = "sim")))]
pub mod sim;
#[cfg(test)]
mod tests;
#[cfg(feature = "_tls")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "tls", feature = "tls-ring"))))]
pub mod tls;
pub mod trace;
mod wire;

/// Failures: what a handler returns, and what a caller receives.
///
/// A handler returns a [`Status`]; the caller receives an [`Error`], which may hold that status. An error also says how far
/// the call had come ([`Phase`]) and whether the handler ran ([`Executed`]).
pub mod status {
    pub use prost::DecodeError;

    pub use crate::api::{
        error::{Error, Executed, LostSends, Phase},
        status::{Code, Status},
        time_spent::TimeSpent,
    };
}

/// Entries beside a message.
pub mod metadata {
    pub use crate::api::metadata::{IntoIter, Iter, Metadata};
}

/// Calling servers that speak another protocol, such as gRPC.
///
/// [`ClientBuilder::protocol`](crate::client::ClientBuilder::protocol) adds a [`Protocol`](protocol::Protocol) to a client. Its stubs then
/// call servers at the addresses of that protocol. `Grpc` of the crate rpc-http is one; this module is for those who write another.
///
/// For each connection the client makes a server in this process, which carries its calls by a
/// [`ProtocolConnection`](protocol::ProtocolConnection).
pub mod protocol {
    pub use crate::{
        server::bridge::{Connecting, Protocol, ProtocolStream},
        session::{
            CallFuture, OutgoingCall, OutgoingFailure, OutgoingReplies, OutgoingRequests, ProtocolConnection,
            ProtocolTask,
        },
    };
}

/// Code that wraps calls, on a server and on a client: to log, to refuse, to time, to retry.
///
/// [`ServerBuilder::layer`](crate::server::ServerBuilder::layer) and [`ClientBuilder::layer`](crate::client::ClientBuilder::layer)
/// add [`Middleware`](middleware::Middleware). The one that is added first is the outermost: it sees a call first, and its
/// end last. [`from_fn`](middleware::from_fn) makes middleware of an async function.
///
/// Calls of the built-in control service (`ping`, `settle`, `terminate`) pass no middleware, except that `terminate` of a server with a
/// [policy](crate::server::ServerBuilder::policy) passes middleware that [asks for it](middleware::Middleware::wraps_terminate).
pub mod middleware {
    #[cfg(feature = "tower")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
    pub use crate::layer::{Rest, Tower, TowerCall, tower};
    pub use crate::{
        call_log::{AccessLog, SlowCalls, access_log, slow_calls},
        client::ClientCall,
        layer::{Answer, AnyCall, FromFn, Middleware, Next, from_fn},
        session::{Layered, ServerCall},
    };
}

/// Calls with many messages.
///
/// A caller holds a [`Sender`] for its requests and a [`Streaming`] for the replies, or a [`Reply`] if there is one reply. A
/// handler reads [`Requests`] and returns a [`Stream`], which [`stream()`] makes of straight code.
pub mod stream {
    pub use futures_core::Stream;

    pub use crate::{
        client::{Reply, Sender, Streaming},
        session::{Out, Requests, stream},
    };
}

/// The frames of the protocol, for peers and tests that speak it by hand.
///
/// Programs that only use generated code need nothing of this module. [`FrameCodec`](codec::FrameCodec) has an example.
pub mod codec {
    pub use tokio_util::codec::{Decoder, Encoder};

    pub use crate::layer::RawMessage;
    pub use crate::wire::{
        codec::{CodecError, FrameCodec, Greeting},
        frame::{Flags, Frame, FrameError, Kind},
    };
}

pub use api::{limits::Limits, open::Open, priority::Priority};
pub use bytes::Bytes;
#[doc(inline)]
pub use client::{Account, Client};
#[doc(inline)]
pub use metadata::Metadata;
pub use prost::Message;
pub use prost_types;
#[doc(inline)]
pub use server::{Context, DrainReport, Server, run};
#[doc(inline)]
pub use status::{Code, Error, Executed, Status};
#[doc(inline)]
pub use stream::{Reply, Requests, Sender, Stream, Streaming, stream};
#[cfg(any(feature = "zstd", feature = "lz4"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "zstd", feature = "lz4"))))]
pub use wire::compression::Compression;
#[cfg(not(any(feature = "zstd", feature = "lz4")))]
pub(crate) use wire::compression::Compression;

// Short names for our own files.
pub(crate) use crate::{
    client::{Call, ClientBuilder},
    server::{Counters, Handler, Incoming, Load, Peer, Procedure, Service, TerminatePolicy, Transport},
    status::{LostSends, Phase},
};

/// What a handler returns: a value or a [`Status`], unless another error type is given.
pub type Result<T, E = Status> = std::result::Result<T, E>;

/// Includes the modules that `rpc-codegen` has generated in this package's build script, by package name.
///
/// If the build script has generated nothing, the compiler prints what to do.
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
