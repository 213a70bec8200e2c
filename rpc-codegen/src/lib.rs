//! Generates Rust code from .proto files in a build script, without protoc.
//!
//! It writes each message as a Rust type, and each service as a trait for its server and a client for its callers.
//!
//! It reads proto2 and proto3, streams included, so the .proto files of a gRPC service compile unchanged. It starts no other
//! program, is no protoc plugin, and generates code for no other language.
//!
//! # Example
//!
//! A build script, `build.rs` beside `Cargo.toml`, that generates code for all .proto files in the folder `proto`:
//!
//! ```no_run
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     rpc_codegen::compile_dir("proto")
//! }
//! ```
//!
//! `Cargo.toml`:
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
//! `proto/greeter.proto`, a service with one procedure:
//!
//! ```proto
//! syntax = "proto3";
//! package greeter.v1;
//!
//! // Greets people.
//! service Greeter {
//!   // Greets one person by name.
//!   rpc rpc_greet(GreetRequest) returns (GreetReply);
//! }
//! message GreetRequest { string name = 1; }
//! message GreetReply { string text = 1; }
//! ```
//!
//! `src/main.rs`, a server and a client in one program:
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
//! # Names
//!
//! | in the .proto file | in Rust |
//! |---|---|
//! | package `greeter.v1` | module `greeter::v1` |
//! | service `Greeter` | trait `Greeter`, `GreeterServer`, `GreeterClient`; its `send()` and `send_recv()` return `GreeterSend` and `GreeterSendRecv`, which have the stubs |
//! | procedure `rpc_get_user`, or `GetUser` as in gRPC | trait method `rpc_get_user`, stub `get_user` |
//! | `google.protobuf.Empty` | `()`, and no argument |
//! | a request of one field | that message; its stub takes `impl Into` of it, and the field's value converts into it: `greet("Ada")` |
//! | `bytes` | `rpc_runtime::Bytes` |
//! | comments | documentation; code in comments becomes text, never a doctest |
//!
//! Keywords become raw identifiers (`r#type`). `GreeterSend` and `GreeterSendRecv` have methods of their own: `attempt_timeout`, `detached`,
//! `fail_fast`, `hash_key`, `idempotent`, `idle_timeout`, `metadata`, `priority`, `terminate`, `timeout`, `trace_context`, `wait_for_ready` and `within`. A
//! stub with such a name gets a `_` at its end, and the build prints a warning. The procedure `rpc_terminate` is built in.
//! If a message or another service has the name of a service's trait, server, client, `..Send` or `..SendRecv`, that item gets
//! a `_`, too: with `message MsgSend`, `service Msg` has `MsgSend_`. Other items with the same Rust name are an error of this
//! crate, not of the generated code. A package `a.b` and the types inside of a `message B` of package `a` share a module.
//!
//! # Streams
//!
//! | in the .proto file | the handler | the stub, under `send_recv()` |
//! |---|---|---|
//! | `rpc rpc_watch(Key) returns (stream Event)` | returns `Result<impl Stream<Item = Result<Event>> + Send>` | returns a `Streaming<Event>` |
//! | `rpc rpc_import(stream Entry) returns (Count)` | takes a `Requests<Entry>` | returns a `Sender<Entry>` and a `Reply<Count>` |
//! | `rpc rpc_edit(stream Command) returns (stream Answer)` | takes a `Requests<Command>`, returns a stream of `Answer` | returns a `Sender<Command>` and a `Streaming<Answer>` |
//!
//! A handler's stream may borrow from `self` and `cx`. `rpc_runtime::stream` writes one as straight code; any other
//! `futures_core::Stream` works, too:
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
//! One-way calls have no streams, so `send()` has no stubs for these procedures.
//!
//! # Options in a .proto file
//!
//! `import "rpc/options.proto";` declares the options of the framework. This crate contains that file.
//!
//! | option | of a | default | effect |
//! |---|---|---|---|
//! | `option (rpc.service) = { flatten: true };` | service | `false` | the fields of a request become arguments, and a reply of one field becomes its value |
//! | `option (rpc.procedure) = { blocking: true };` | procedure | `false` | handlers may block their thread: they run on the blocking pool |
//! | `option (rpc.procedure) = { spawn: true };` | procedure | `false` | handlers compute for long: each runs in a task of its own from the start |
//! | `option (rpc.procedure) = { priority: CONTROL };` | procedure | `NORMAL` | when messages wait to be written, those of this procedure go first; with `BULK` they go last |
//! | `option (rpc.service) = { allow: ["reader"] };` | service | no rule | who may call its procedures: callers with one of these roles |
//! | `option (rpc.procedure) = { allow: ["admin"] };` | procedure | the service's `allow` | who may call it, in place of the service's `allow` |
//! | `option (rpc.procedure) = { hash_by: "key" };` | procedure | none | the field of the request that is the key of a call, for clients that balance by a hash |
//! | `option idempotency_level = IDEMPOTENT;` | procedure | `IDEMPOTENCY_UNKNOWN` | a call may run twice: a client of several servers tries it elsewhere if a server is lost; `NO_SIDE_EFFECTS` means the same |
//! | `option deprecated = true;` | service, procedure, field, enum value | `false` | its client, stub, trait method, field or variant is deprecated |
//!
//! In `allow`, `"anyone"` stands for every caller, known or not, and `"authenticated"` for every caller that is known. A server with
//! such a rule needs a policy, which decides (docs/how-to/roles.md).
//!
//! `blocking` and `spawn` exclude each other. Other standard options of services and procedures change nothing.
//!
//! With `flatten`, stubs take `impl Into<String>` for text, `impl Into<Bytes>` for bytes (`'static` slices and `Vec`s
//! convert; make a `Bytes` of any other slice), numbers as they are, and `optional` fields as `Option`. Enums are
//! `rpc_runtime::Open` of their Rust type, because a newer peer may send values that this build does not know; stubs take
//! the enum itself, too. These requests stay messages: a request with a oneof, with a field of its own type, or with more
//! than 7 fields, a stream's messages, and Google's messages. Arguments follow the numbers of the fields; if the lines have
//! another order, the build prints a warning. A new field is a new argument in every call and every handler, so leave
//! `flatten` out where others build against your .proto file (docs/how-to/evolve-a-schema.md).
//!
//! # Options in a build script
//!
//! | [`Config`] | default | effect |
//! |---|---|---|
//! | [`file`](Config::file), [`files`](Config::files) | none | adds .proto files |
//! | [`include_path`](Config::include_path) | the folders of the files | adds a folder that imports are relative to |
//! | [`out_dir`](Config::out_dir) | Cargo's `OUT_DIR` | sets the folder of the generated files |
//! | [`extern_path`](Config::extern_path) | Google's types are prost-types' | takes the types of a package from another crate |
//! | [`leave_out`](Config::leave_out) | nothing | generates nothing for a package, type or service |
//! | [`type_names`](Config::type_names) | none | implements `prost::Name`, which `Any::from_msg` needs |
//! | [`default_handlers`](Config::default_handlers) | none | lets implementations leave handlers out |
//! | [`btree_map`](Config::btree_map) | `HashMap` | makes map fields a `BTreeMap` |
//! | [`bytes_type`](Config::bytes_type) | `rpc_runtime::Bytes` | chooses `Bytes` or `Vec<u8>` for `bytes` fields |
//! | [`boxed`](Config::boxed) | none | puts messages into a `Box` |
//! | [`skip_debug`](Config::skip_debug) | none | leaves `Debug` to you |
//! | [`disable_comments`](Config::disable_comments) | none | leaves out comments |
//! | [`retain_enum_prefix`](Config::retain_enum_prefix) | `Red` of `COLOR_RED` | keeps the enum's name in its values |
//! | [`dyn_trait`](Config::dyn_trait) | none | generates a trait for `dyn`, too |
//! | [`client_only`](Config::client_only), [`server_only`](Config::server_only) | both halves | leaves out servers, or clients |
//! | [`client_only_for`](Config::client_only_for), [`server_only_for`](Config::server_only_for) | both halves | the same, by service |
//! | [`descriptor_set`](Config::descriptor_set), [`descriptor_set_bytes`](Config::descriptor_set_bytes) | none | reads compiled files in place of .proto files |
//! | [`json`](Config::json), [`json_skip_unknown`](Config::json_skip_unknown) | no JSON | gives serde's traits to messages and enums |
//! | [`type_attribute`](Config::type_attribute), [`field_attribute`](Config::field_attribute) | none | adds attributes to generated types and fields |
//! | [`message_attribute`](Config::message_attribute), [`enum_attribute`](Config::enum_attribute) | none | the same for messages or enums only |
//! | [`client_attribute`](Config::client_attribute), [`server_attribute`](Config::server_attribute), [`trait_attribute`](Config::trait_attribute) | none | adds attributes to what a service becomes |
//! | [`without_descriptors`](Config::without_descriptors) | servers carry descriptors | leaves them out: reflection then knows only the names of services |
//! | [`file_descriptor_set_path`](Config::file_descriptor_set_path) | not written | writes the descriptors of all files |
//! | [`runtime_path`](Config::runtime_path) | `::rpc_runtime` | sets the path of rpc-runtime in the generated code |
//!
//! # Descriptor sets
//!
//! A descriptor set holds .proto files that are compiled already. `buf build -o shop.binpb` and
//! `protoc --include_imports --include_source_info -o shop.binpb ..` write one, and so does
//! [`file_descriptor_set_path`](Config::file_descriptor_set_path):
//!
//! ```no_run
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     rpc_codegen::Config::new().descriptor_set("shop.binpb").compile()
//! }
//! ```
//!
//! A build script that has the bytes of a set gives them to [`descriptor_set_bytes`](Config::descriptor_set_bytes).
//! The code is the same as that of the .proto files. Without source info it lacks their comments. Google's files and
//! `rpc/options.proto` may be missing in the set; other imports may not.
//!
//! # What protobuf has and this crate has not
//!
//! | feature | here |
//! |---|---|
//! | extensions of messages (proto2) | no code, and a warning for each file (20 at most); decoding skips their values |
//! | custom options, which extend Google's messages | read over without a warning |
//! | groups (proto2) | messages, encoded as groups |
//! | `edition = "2023"` and later | an error, because the compiler (protox 0.10) reads proto2 and proto3 |
//!
//! # Errors
//!
//! An [`Error`] lists everything that is wrong, each problem with its file, its line and what to write instead:
//!
//! ```text
//! Error: no code was generated: 1 error
//!
//! error: option field '(rpc.service).flaten' is not defined
//!  --> proto/greeter.proto:7:24
//!   |
//! 7 |   option (rpc.service).flaten = true;
//!   |                        ^^^^^^
//! help: write `flatten`
//! ```
//!
//! It shows at most 50 problems, and the number of the others. Two files that define the same names are one problem.
//!
//! rpc-codegen and rpc-runtime must have the same version; otherwise the compiler refuses the generated code with one message that names both.
//!
//! # Time
//!
//! A run that takes longer than two seconds says once a second on the standard error what it does, and at the end how long
//! each step took. Cargo shows the standard error of a build script with `cargo build -vv`, or if the script fails:
//!
//! ```text
//! [greeter 0.1.0] rpc-codegen: 2 s: formatting
//! [greeter 0.1.0] rpc-codegen: 2.9 s in all: reading the files 0.5 s, linking the files 0.4 s, ..
//! ```
//!
//! Cargo compiles build scripts and what they use without optimization. For hundreds of .proto files, change that in
//! `Cargo.toml`: the largest file of googleapis, with 4 MB, then takes 2.4 s of processor time and not 8.7 s.
//!
//! ```toml
//! [profile.dev.build-override]
//! opt-level = 3
//! ```

mod choices;
mod code;
mod compile;
mod config;
mod emit;
mod error;
mod model;
mod parallel;
mod progress;
mod source;
mod target;
mod write;

pub use choices::BytesType;
pub use compile::compile_dir;
pub use config::Config;
pub use error::Error;
