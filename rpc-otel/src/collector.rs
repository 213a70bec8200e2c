//! Collector: a collector of OpenTelemetry, which is called by OTLP over gRPC.

use std::{fmt, time::Duration};

use rpc_http::Grpc;
use rpc_runtime::{Client, Error, Status, codegen::prost::Message, server::Procedure};
use tokio::runtime::{self, Runtime};

/// A collector, and the thread that calls it.
///
/// Its connection lives on a runtime of its own, because a thread that exports has none, and that of the program may wait for the export.
pub(crate) struct Collector {
    client: Client,
    timeout: Duration,
    /// None once it is dropped.
    runtime: Option<Runtime>,
}

impl Collector {
    /// A collector at `endpoint`, which may take `timeout` for one batch. Nothing connects before the first batch.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT if `endpoint` is no address of gRPC, UNAVAILABLE if there is no thread.
    pub(crate) fn new(endpoint: &str, timeout: Duration) -> Result<Self, Error> {
        if !endpoint.starts_with("grpc") {
            let text =
                format!("{endpoint:?} is no address of gRPC: give the collector's as grpc://host:4317");
            return Err(Status::invalid_argument(text).into());
        }
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rpc-otel")
            .enable_all()
            .build()
            .map_err(|error| Status::unavailable(format!("no thread for the export: {error}")))?;
        let client = Client::builder(endpoint)
            .protocol(Grpc::new())
            // Otherwise each export would make spans to export.
            .without_spans()
            .connect_lazy();
        Ok(Self {
            client: client.with_procedures(&PROCEDURES),
            timeout,
            runtime: Some(runtime),
        })
    }

    /// How long it may take for one batch.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A client of it, for tasks of its runtime. They must not keep the collector itself: that keeps them.
    pub(crate) fn client(&self) -> CollectorClient {
        CollectorClient {
            client: self.client.clone(),
            timeout: self.timeout,
        }
    }

    /// Its runtime; none once it is dropped.
    pub(crate) fn runtime(&self) -> Option<&Runtime> {
        self.runtime.as_ref()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be dropped within another one.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// Calls a collector.
#[derive(Clone)]
pub(crate) struct CollectorClient {
    client: Client,
    timeout: Duration,
}

impl CollectorClient {
    /// Sends one batch, within the timeout.
    ///
    /// # Errors
    ///
    /// What the collector answers, or why it cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call. The collector may have taken the batch.
    pub(crate) async fn send<Request: Message + 'static, Response: Message + Default>(
        &self,
        procedure: &'static Procedure,
        request: Request,
    ) -> Result<Response, Error> {
        let call = self.client.call().timeout(self.timeout);
        call.send_recv(procedure, request).await
    }
}

/// Of `opentelemetry/proto/collector/trace/v1/trace_service.proto`.
pub(crate) static EXPORT_SPANS: Procedure = Procedure::new(
    "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    0xf18b_4a34_5305_bf9c,
);
/// Of `opentelemetry/proto/collector/metrics/v1/metrics_service.proto`.
pub(crate) static EXPORT_METRICS: Procedure = Procedure::new(
    "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    0xa69e_91b2_baa6_4296,
);
static PROCEDURES: [Procedure; 2] = [EXPORT_SPANS, EXPORT_METRICS];
