//! Metrics: what the servers and clients of this process have counted.
//!
//! The runtime always counts. [`snapshot()`] reads the numbers, and [`render()`] makes the text that Prometheus reads. A page `/metrics`
//! takes two lines, whatever HTTP server you have:
//!
//! ```
//! use rpc_runtime::metrics::{self, Format};
//!
//! /// Returns the content type and the body of the page, for the header `Accept` of the request.
//! fn page(accept: &str) -> (&'static str, String) {
//!     let format = Format::of_accept(accept);
//!     (format.content_type(), metrics::render(format))
//! }
//! # assert!(page("").1.contains("rpc_build_info"));
//! ```
//!
//! Programs read values without parsing a text: [`Snapshot::procedures`] has the calls of each procedure, and
//! [`Snapshot::families`] everything. `docs/reference/metrics.md` in the repository lists all metrics.
//!
//! A call costs a few atomic additions on each side, without a lock and without memory. Cores that handle different connections count in
//! different cache lines.

mod calls;
mod connections;
mod families;
mod family;
mod histogram;
mod labels;
mod live;
mod meters;
mod procedure_calls;
mod procedures;
mod process;
mod render;
mod shard;
mod snapshot;
mod totals;
mod traffic;

pub(crate) use self::{
    calls::CallCounts,
    connections::OpenConnection,
    labels::{EndLabel, FateLabel},
    live::{LiveClient, LiveServer, ServerGauges, add_client, add_server},
    meters::{CalledMeter, ConnectionMeters, ServedMeter},
    procedures::{ProcedureCounts, ServedProcedures},
    shard::Shard,
    totals::{ClientTotals, DRAINS, LIMITS},
    traffic::{SendCounts, Traffic},
};
pub use self::{
    family::{Family, Kind, Sample, Value},
    histogram::Histogram,
    labels::{Protocol, Side},
    procedure_calls::ProcedureCalls,
    render::Format,
    snapshot::{Snapshot, render, snapshot},
};
#[cfg(feature = "_tls")]
pub(crate) use self::{
    live::{LiveCertificate, add_certificate},
    totals::TlsTotals,
};
