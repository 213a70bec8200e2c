//! A collector: it serves OTLP's services of traces and metrics, over gRPC, and keeps what it gets.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        },
        trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::Metric,
    resource::v1::Resource,
    trace::v1::Span,
};
use rpc_http::Http;
use rpc_runtime::{
    Context, Server,
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{Running, serve};

static PROCEDURES: [Procedure; 1] = [Procedure::new(
    "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    0xf18b_4a34_5305_bf9c,
)];
static METRICS_PROCEDURES: [Procedure; 1] = [Procedure::new(
    "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    0xa69e_91b2_baa6_4296,
)];

/// Metrics that came together, and the process that they are of.
pub(crate) type Batch = (Resource, Vec<Metric>);

#[derive(Clone, Default)]
pub(crate) struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    resources: Arc<Mutex<Vec<Resource>>>,
    batches: Arc<Mutex<Vec<Batch>>>,
    /// How many data points it rejects of each batch of metrics.
    rejected: i64,
}

impl Collector {
    /// Serves a collector. Returns its address as exporters write it.
    pub(crate) async fn serve() -> (Self, String, Running) {
        Self::default().serve_it().await
    }

    /// Serves one that takes the metrics but for this many data points of each batch.
    pub(crate) async fn serve_rejecting(rejected: i64) -> (Self, String, Running) {
        let collector = Self {
            rejected,
            ..Self::default()
        };
        collector.serve_it().await
    }

    async fn serve_it(self) -> (Self, String, Running) {
        let collector = self;
        let server = Server::builder()
            .service(collector.clone())
            .service(OfMetrics(collector.clone()))
            .guest(Http::new().grpc());
        let server = serve(server.listener("tcp://127.0.0.1:0").signals(false)).await;
        let address = server.address.replacen("tcp", "grpc", 1);
        (collector, address, server)
    }

    /// The spans so far, but for those of the export itself: this process is the collector, too.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        spans
            .iter()
            .filter(|span| !span.name.ends_with("/Export"))
            .cloned()
            .collect()
    }

    /// The batches of metrics so far.
    pub(crate) fn batches(&self) -> Vec<Batch> {
        self.batches.lock().unwrap().clone()
    }

    pub(crate) fn resources(&self) -> Vec<Resource> {
        self.resources.lock().unwrap().clone()
    }
}

impl Service for Collector {
    fn name(&self) -> &'static str {
        "opentelemetry.proto.collector.trace.v1.TraceService"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let collector = self.clone();
        call.handle(|_: Context, request: ExportTraceServiceRequest| async move {
            for one in request.resource_spans {
                collector.resources.lock().unwrap().extend(one.resource);
                let spans = one.scope_spans.into_iter().flat_map(|scope| scope.spans);
                collector.spans.lock().unwrap().extend(spans);
            }
            Ok(ExportTraceServiceResponse::default())
        })
    }
}

/// The part of a collector that takes metrics.
struct OfMetrics(Collector);

impl Service for OfMetrics {
    fn name(&self) -> &'static str {
        "opentelemetry.proto.collector.metrics.v1.MetricsService"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &METRICS_PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let collector = self.0.clone();
        call.handle(
            move |_: Context, request: ExportMetricsServiceRequest| async move {
                for one in request.resource_metrics {
                    let metrics = one.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
                    let batch = (one.resource.unwrap_or_default(), metrics.collect());
                    collector.batches.lock().unwrap().push(batch);
                }
                let partial_success = ExportMetricsPartialSuccess {
                    rejected_data_points: collector.rejected,
                    error_message: "too many series".to_owned(),
                };
                Ok(ExportMetricsServiceResponse {
                    partial_success: Some(partial_success),
                })
            },
        )
    }
}

/// The value of an attribute, as text; empty if it is not there.
pub(crate) fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
