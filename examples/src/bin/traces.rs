//! One trace over two hops: a client calls the web server, whose handler calls the stock. A collector prints the spans that it gets.
//!
//! `cargo run -p examples --bin traces`

use std::{
    error::Error,
    sync::{Arc, Mutex},
};

use examples::web::v1::{
    CountReply, CountRequest, PageReply, PageRequest, Stock, StockClient, StockServer, Web, WebClient,
    WebServer,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    trace::v1::{Span, span::SpanKind},
};
use rpc_http::Http;
use rpc_runtime::{
    Context, Result, Server,
    server::{Handler, Incoming, Procedure, ServerBuilder, ServerHandle, Service},
};
use tokio::task::JoinHandle;

/// The front server, with a client of the one behind it.
struct Front(StockClient);

impl Web for Front {
    async fn rpc_page(&self, _: &Context, request: PageRequest) -> Result<PageReply> {
        let article = request.article;
        // Nothing to do for the trace: the call of a handler goes on with that of its own call.
        let left = self.0.send_recv().count(article.as_str()).await?.count;
        let text = format!("{article}: {left} left");
        Ok(PageReply { text })
    }
}

struct Back;

impl Stock for Back {
    async fn rpc_count(&self, _: &Context, request: CountRequest) -> Result<CountReply> {
        let count = request.article.len() as u32;
        Ok(CountReply { count })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let spans = Spans::default();
    let collector =
        Running::start(Server::builder().service(spans.clone()).guest(Http::new().grpc())).await?;
    // Each process of a system does so, with the address of its collector. Here one does it for all.
    let exporter = rpc_otel::builder(collector.address.replacen("tcp", "grpc", 1))
        .service("shop")
        .install()?;

    let back = Running::start(Server::builder().service(StockServer::new(Back))).await?;
    let stock = StockClient::connect(&back.address).await?;
    let front = Running::start(Server::builder().service(WebServer::new(Front(stock)))).await?;
    let web = WebClient::connect(&front.address).await?;
    println!("client: {}", web.send_recv().page("soap").await?.text);

    // A span is sent after its end, and the servers may be a moment behind the client.
    front.stop().await?;
    back.stop().await?;
    tokio::task::spawn_blocking(move || exporter.shutdown()).await?;
    collector.stop().await?;
    spans.print();
    Ok(())
}

/// In the place of a collector such as Jaeger: it keeps the spans that it gets.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

static EXPORT: [Procedure; 1] = [Procedure::new(
    "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    0xf18b_4a34_5305_bf9c,
)];

impl Service for Spans {
    fn name(&self) -> &'static str {
        "opentelemetry.proto.collector.trace.v1.TraceService"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &EXPORT
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let spans = self.clone();
        call.handle(|_, request: ExportTraceServiceRequest| async move {
            let scopes = request.resource_spans.into_iter().flat_map(|one| one.scope_spans);
            let found = scopes.flat_map(|scope| scope.spans);
            // This program serves the collector, too, and that is not what it shows.
            let found = found.filter(|span| !span.name.ends_with("/Export"));
            spans.0.lock().expect("nothing panics with it").extend(found);
            Ok(ExportTraceServiceResponse::default())
        })
    }
}

impl Spans {
    /// Prints each span below its parent.
    fn print(&self) {
        let spans = self.0.lock().expect("nothing panics with it");
        let is_one_trace = spans.iter().all(|span| span.trace_id == spans[0].trace_id);
        println!("collector: {} spans, of one trace: {is_one_trace}", spans.len());
        print_below(&[], 1, &spans);
    }
}

fn print_below(parent: &[u8], depth: usize, spans: &[Span]) {
    for span in spans.iter().filter(|span| span.parent_span_id == parent) {
        let kind = match span.kind() {
            SpanKind::Client => "client",
            _ => "server",
        };
        println!("{:width$}{kind} {}", "", span.name, width = 2 * depth);
        print_below(&span.span_id, depth + 1, spans);
    }
}

/// A server of this program.
struct Running {
    address: String,
    handle: ServerHandle,
    serving: JoinHandle<Result<(), rpc_runtime::Error>>,
}

impl Running {
    async fn start(server: ServerBuilder) -> Result<Self, rpc_runtime::Error> {
        let server = server.listener("tcp://127.0.0.1:0").bind().await?;
        Ok(Self {
            address: server.addresses().join(""),
            handle: server.handle(),
            serving: tokio::spawn(async move { server.serve().await.map(drop) }),
        })
    }

    async fn stop(self) -> Result<(), Box<dyn Error>> {
        self.handle.drain();
        Ok(self.serving.await??)
    }
}
