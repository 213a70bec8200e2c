//! A collector: it serves OTLP's trace service, over gRPC, and keeps what it gets.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
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

#[derive(Clone, Default)]
pub(crate) struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    resources: Arc<Mutex<Vec<Resource>>>,
}

impl Collector {
    /// Serves a collector. Returns its address as exporters write it.
    pub(crate) async fn serve() -> (Self, String, Running) {
        let collector = Self::default();
        let server = Server::builder()
            .service(collector.clone())
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
