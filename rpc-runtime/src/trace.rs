//! Spans of calls, and the trace context that links them over processes.
//!
//! Each call has a span of the crate [`tracing`] on both sides, if a subscriber wants spans of the target `rpc_runtime::call` at level INFO.
//! Without one no span is built. The span of a server is entered whenever the handler is polled, so what the handler logs is
//! within it. Names and attributes follow OpenTelemetry's conventions for RPC.
//!
//! Beside a call travels its [`TraceContext`], which is the W3C's `traceparent`, `tracestate` and `baggage`, and a handler's own calls
//! inherit it: one-way calls and streams, too. [`Call::trace_context`](crate::client::Call::trace_context) sets it, and
//! [`Context::trace`](crate::Context::trace) reads it. Over gRPC it is in the headers of these names.
//!
//! The crate `tracing` knows nothing of such ids. An exporter does, and tells them by a [`Linker`]: the crate `rpc-otel` is one. Without a
//! linker the context goes from call to call unchanged. A linker also decides which traces it takes, before a span is built.
//!
//! ```
//! use rpc_runtime::{Client, Error, server::Procedure, trace::TraceContext};
//!
//! # static FETCH: Procedure = Procedure::new("kv.v1.Kv/rpc_fetch", 1);
//! async fn fetch(client: &Client, traceparent: &str) -> Result<String, Error> {
//!     let mut call = client.call();
//!     // What came as a header of an HTTP request, say.
//!     if let Some(trace) = TraceContext::parse(traceparent, "", "") {
//!         call = call.trace_context(trace);
//!     }
//!     call.send_recv(&FETCH, "dog".to_owned()).await
//! }
//! ```

mod address;
mod client_span;
mod current;
mod end;
mod linker;
mod server_span;

use tracing::{
    Level,
    level_filters::{LevelFilter, STATIC_MAX_LEVEL},
};

pub(crate) use self::{
    client_span::{Called, ClientSpan, note_call},
    current::current,
    server_span::{CallTrace, Method, Served},
};
pub use self::{
    current::is_declined,
    linker::{Linker, Sampling, set_linker},
};
pub use crate::api::trace_context::TraceContext;

/// Returns whether spans of calls may be wanted. Without a subscriber it costs a load and a branch.
#[inline]
pub(crate) fn is_on() -> bool {
    Level::INFO <= STATIC_MAX_LEVEL && Level::INFO <= LevelFilter::current()
}

/// Returns whether spans of calls are wanted.
fn is_wanted() -> bool {
    is_on() && tracing::span_enabled!(target: TARGET, Level::INFO)
}

/// The target of the spans of calls.
const TARGET: &str = "rpc_runtime::call";
/// What stands for a procedure that a server does not have.
const OTHER: &str = "_OTHER";
/// The name of our own protocol in attributes.
const OURS: &str = "rustrpc";
/// The name of gRPC in attributes.
const GRPC: &str = "grpc";
