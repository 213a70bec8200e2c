//! Collector: sends spans to a collector of OpenTelemetry, by OTLP over gRPC.

use std::{fmt, time::Duration};

use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use rpc_http::Grpc;
use rpc_runtime::{Client, Error, Status, server::Procedure};
use tokio::runtime::{self, Runtime};

/// A collector of spans.
pub(crate) struct Collector {
    client: Client,
    timeout: Duration,
    resource: ResourceAttributesWithSchema,
    /// None once it is dropped. Its connection lives here, because the thread that exports has no runtime, and that of the program may
    /// wait for the export.
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
            .map_err(|error| Status::unavailable(format!("no thread for the export of spans: {error}")))?;
        let client = Client::builder(endpoint)
            .protocol(Grpc::new())
            // Otherwise each export would make spans to export.
            .without_spans()
            .connect_lazy();
        Ok(Self {
            client: client.with_procedures(&PROCEDURES),
            timeout,
            resource: ResourceAttributesWithSchema::default(),
            runtime: Some(runtime),
        })
    }
}

impl SpanExporter for Collector {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let (client, timeout) = (self.client.clone(), self.timeout);
        let sending = self.runtime.as_ref().map(|runtime| {
            runtime.spawn(async move {
                let call = client.call().timeout(timeout);
                call.send_recv::<_, ExportTraceServiceResponse>(&EXPORT, request)
                    .await
            })
        });
        async move {
            let Some(sending) = sending else {
                return Err(OTelSdkError::AlreadyShutdown);
            };
            let sent = sending
                .await
                .map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?;
            let response = sent.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?;
            match response
                .partial_success
                .filter(|partial| partial.rejected_spans > 0)
            {
                None => Ok(()),
                Some(partial) => Err(OTelSdkError::InternalFailure(format!(
                    "the collector rejected {} spans: {}",
                    partial.rejected_spans, partial.error_message
                ))),
            }
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
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

/// Of `opentelemetry/proto/collector/trace/v1/trace_service.proto`.
static EXPORT: Procedure = Procedure::new(
    "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    0xf18b_4a34_5305_bf9c,
);
static PROCEDURES: [Procedure; 1] = [EXPORT];
