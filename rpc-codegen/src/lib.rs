//! The build-time half of the rpc framework: .proto files to Rust, without protoc.
//!
//! Give it .proto files, and it writes the messages as Rust types, a trait for each service that a server implements,
//! and a client for each service that a program calls. It reads proto2 and proto3, streams included, so an existing gRPC
//! file compiles as it stands. What is wrong with a file is told as rustc would tell it: with the line, what is
//! wrong in it, and what to write instead, everything at once.
//!
//! It is no protoc plugin and starts no other program; it generates no code for other languages.
//!
//! # From an empty crate to running code
//!
//! `cargo new greeter`, and in `Cargo.toml`:
//!
//! ```toml
//! [dependencies]
//! rpc-runtime = { path = "../rpc/rpc-runtime" } # not on a registry yet
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//!
//! [build-dependencies]
//! rpc-codegen = { path = "../rpc/rpc-codegen" }
//! ```
//!
//! `proto/greeter.proto`, the procedures and their messages:
//!
//! ```proto
//! syntax = "proto3";
//! package greeter.v1;
//!
//! // Greets people.
//! service Greeter {
//!   // Greets one of them.
//!   rpc rpc_greet(GreetRequest) returns (GreetReply);
//! }
//! message GreetRequest { string name = 1; }
//! message GreetReply { string text = 1; }
//! ```
//!
//! `build.rs`, beside `Cargo.toml`:
//!
//! ```no_run
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     rpc_codegen::compile_dir("proto")
//! }
//! ```
//!
//! `src/main.rs`, a server and a client in one:
//!
//! ```ignore (needs the build script above)
//! rpc_runtime::include_protos!();
//!
//! use greeter::v1::{GreetReply, GreetRequest, Greeter, GreeterClient, GreeterServer};
//! use rpc_runtime::{Context, Error, Result};
//!
//! struct Polite;
//!
//! impl Greeter for Polite {
//!     async fn rpc_greet(&self, _: &Context, request: GreetRequest) -> Result<GreetReply> {
//!         Ok(GreetReply { text: format!("good day, {}", request.name) })
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let greeter = GreeterClient::in_process(GreeterServer::new(Polite));
//!     println!("{}", greeter.send_recv().greet("Ada").await?.text);
//!     greeter.close().await
//! }
//! ```
//!
//! # What is called what
//!
//! | in the .proto file | in Rust |
//! |---|---|
//! | package `greeter.v1` | module `greeter::v1` |
//! | service `Greeter` | trait `Greeter`, `GreeterServer`, `GreeterClient`, and `GreeterSend` and `GreeterSendRecv` behind its `send()` and `send_recv()` |
//! | procedure `rpc_get_user`, or `GetUser` as in gRPC | trait method `rpc_get_user`, stub `get_user` |
//! | `google.protobuf.Empty` | `()`, and no argument |
//! | a request of one field | that message; stubs take `impl Into` of it, and the field's value is one: `greet("Ada")` |
//! | `bytes` | `rpc_runtime::Bytes` |
//! | comments | documentation; code in them as text, never as doctests |
//!
//! Keywords become raw identifiers (`r#type`). The types behind `send()` and `send_recv()` have methods of their own,
//! `timeout`, `idle_timeout`, `fail_fast`, `wait_for_ready`, `metadata`, `within`, `detached`, `priority`, `receipt` and `terminate`: a stub of that name gets a `_`,
//! with a warning. `rpc_terminate` is built in, and two things with one name in Rust are an error here rather than in the
//! generated code.
//!
//! # Streams
//!
//! | in the .proto file | the handler | the stub, under `send_recv()` |
//! |---|---|---|
//! | `rpc rpc_watch(Key) returns (stream Event)` | returns `Result<impl Stream<Item = Result<Event>> + Send>` | gives a `Streaming<Event>` |
//! | `rpc rpc_import(stream Entry) returns (Count)` | takes a `Requests<Entry>` | gives a `Sender<Entry>` and a `Reply<Count>` |
//! | `rpc rpc_edit(stream Command) returns (stream Answer)` | takes the one, returns the other | gives a `Sender<Command>` and a `Streaming<Answer>` |
//!
//! A handler's stream may borrow from `self` and `cx`; `rpc_runtime::stream` writes one as straight code, and any other
//! `futures_core::Stream` will do:
//!
//! ```ignore (needs generated code)
//! async fn rpc_watch(&self, cx: &Context, key: String) -> Result<impl Stream<Item = Result<Event>> + Send> {
//!     Ok(rpc_runtime::stream(async move |out| {
//!         while let Some(value) = self.next_value(&key).await {
//!             out.send(Event { value }).await;
//!         }
//!         Ok(())
//!     }))
//! }
//! ```
//!
//! ```ignore (needs generated code)
//! let mut events = kv.send_recv().timeout(None).watch("dog").await?;
//! while let Some(event) = events.message().await? {
//!     println!("{event:?}");
//! }
//! ```
//!
//! With `flatten`, the one request beside a stream of replies becomes arguments, and the one reply to a stream of requests
//! its value; what streams stays a message. One-way calls have no streams: `send()` leaves those procedures out.
//!
//! # Options
//!
//! `import "rpc/options.proto";` brings them; the file says everything about them, and this crate has it inside.
//!
//! - `option (rpc.service) = { flatten: true };` in a service turns the fields of requests into arguments, and replies
//!   of one field into the value. Stubs take `impl Into<String>` for text and `impl Into<Bytes>` for bytes (`'static`
//!   text and `Vec`s are `Into<Bytes>`; of other slices make a `Bytes` first), numbers as they are, `optional` fields as
//!   `Option`. Enums are `rpc_runtime::Open` of their Rust type, for a peer that was built later may send values that this
//!   build has no name for; stubs take the enum itself, too. Arguments go by the numbers of the fields, not by their
//!   lines; where these differ, the build warns. A request with a oneof, with a field of its own type or with more than
//!   7 fields stays a message, and so do Google's messages. A field more is then an argument more at every call and in
//!   every handler: leave `flatten` out where others build against your .proto (docs/how-to/evolve-a-schema.md).
//! - `option (rpc.procedure) = { blocking: true };` in a procedure says that its handlers block their thread, and
//!   `spawn: true` that they compute for long. `priority: BULK` beside them, or alone, lets its messages wait for others
//!   where a connection has more to send than it can, and `priority: CONTROL` lets them go first.
//! - Of the standard ones `deprecated` is understood.
//!
//! # What may go wrong
//!
//! ```text
//! Error: no code was generated, because of one error
//!
//! error: option field '(rpc.service).flaten' is not defined
//!  --> proto/greeter.proto:7:24
//!   |
//! 7 |   option (rpc.service).flaten = true;
//!   |                        ^^^^^^
//! help: write `flatten`
//! ```
//!
//! Editions are such errors too, for now. Code that another version of rpc-runtime has to run is refused
//! by the compiler in one sentence.
//!
//! [`Config`] has the rest: chosen files, include paths, attributes, only one half, a renamed runtime.

mod compile;
mod config;
mod emit;
mod error;
mod model;
mod source;
mod target;
mod write;

pub use compile::compile_dir;
pub use config::Config;
pub use error::Error;
