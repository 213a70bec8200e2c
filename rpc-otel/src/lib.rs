//! Exports spans and metrics of [`rpc_runtime`] by OpenTelemetry, to a collector that takes OTLP by gRPC.
//!
//! One call sets it up for the whole process:
//!
//! ```no_run
//! # async fn serve(service: impl rpc_runtime::server::Service) -> Result<(), rpc_runtime::Error> {
//! let exporter = rpc_otel::builder("grpc://127.0.0.1:4317").service("kv").install()?;
//! rpc_runtime::Server::builder().service(service).listener("tcp://127.0.0.1:5005").serve().await?;
//! exporter.shutdown(); // sends what is left, within 5 s
//! # Ok(())
//! # }
//! ```
//!
//! Each call then has a span on both sides, and the spans of all processes are one trace: see [`rpc_runtime::trace`]. Spans that the program
//! itself makes, by `#[tracing::instrument]` for example, are in the same trace.
//!
//! A program with a subscriber of its own adds a [layer](Builder::layer) to that:
//!
//! ```no_run
//! use tracing_subscriber::prelude::*;
//!
//! # fn set_up() -> Result<rpc_otel::Exporter, rpc_runtime::Error> {
//! let (layer, exporter) = rpc_otel::builder("grpc://127.0.0.1:4317").service("kv").layer()?;
//! tracing_subscriber::registry()
//!     .with(tracing_subscriber::fmt::layer())
//!     .with(layer)
//!     .init();
//! # Ok(exporter)
//! # }
//! ```
//!
//! # Metrics
//!
//! [`Builder::metrics`] also sends the metrics of the process, at an interval and at the end. They are those of [`rpc_runtime::metrics`]: with
//! all their counts and buckets, under OpenTelemetry's names.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! # fn set_up() -> Result<rpc_otel::Exporter, rpc_runtime::Error> {
//! rpc_otel::builder("grpc://127.0.0.1:4317").service("kv").metrics(Duration::from_secs(60)).install()
//! # }
//! ```
//!
//! # What it costs and what it bounds
//!
//! Finished spans wait in a queue of 2048; what comes beyond that is dropped. A thread of its own sends them every 5 s, or when 512 are
//! there, by a client of `rpc-runtime` with a runtime of its own. No call waits for the collector, and a collector that is away costs
//! spans and nothing else. Of metrics only the batch that is being sent is in memory, and each has all that was counted before.

/// The Rust blocks of the page are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/trace-calls.md")]
mod page {}

/// The same of the page of metrics.
#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/send-metrics.md")]
mod metrics_page {}

/// The Rust blocks of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod builder;
mod collector;
mod exporter;
mod linker;
mod metrics;
mod sampling;
mod spans;

pub use self::{
    builder::{Builder, builder},
    exporter::Exporter,
};
