//! An exporter that is the only subscriber: what its sampling leaves out is not even built.
//!
//! A program of its own, because it sets the subscriber of the whole process.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rpc_runtime::{
    Client, Context,
    middleware::{self, ClientCall},
    server::{Handler, Incoming, Procedure, Service},
    trace::TraceContext,
};
use test_support::{serve_one, within};
use tracing::Span;

static WORK: Procedure = Procedure::new("otel.v1.Worker/rpc_work", 741);
static PROCEDURES: [Procedure; 1] = [WORK];

/// How often a field of a span was computed, and how often code ran within a span.
#[derive(Clone, Default)]
struct Worker {
    computed: Arc<AtomicU64>,
    within_spans: Arc<AtomicU64>,
}

impl Worker {
    fn note_span(&self) {
        let is_within = !Span::current().is_none();
        self.within_spans.fetch_add(is_within.into(), Relaxed);
    }

    fn work(&self) {
        self.note_span();
        let compute = || self.computed.fetch_add(1, Relaxed);
        tracing::info_span!("work", computed = compute()).in_scope(|| {
            tracing::info!(computed = compute(), "it works");
            self.note_span();
        });
    }

    fn take(&self) -> [u64; 2] {
        [&self.computed, &self.within_spans].map(|number| number.swap(0, Relaxed))
    }
}

impl Service for Worker {
    fn name(&self) -> &'static str {
        "otel.v1.Worker"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let worker = self.clone();
        call.handle(move |cx: Context, ()| async move {
            worker.work();
            let trace = cx.trace().and_then(TraceContext::traceparent);
            Ok(trace.unwrap_or_default())
        })
    }
}

#[tokio::test]
async fn a_call_that_is_not_taken_builds_no_span() {
    let exporter = rpc_otel::builder("grpc://127.0.0.1:1").sample_ratio(0.0);
    let exporter = exporter
        .timeout(std::time::Duration::from_millis(1))
        .install()
        .unwrap();
    let worker = Worker::default();
    let server = serve_one(worker.clone()).await;
    let of_client = worker.clone();
    let busy = middleware::from_fn(move |call: ClientCall, next: middleware::Next<ClientCall>| {
        of_client.work();
        next.run(call)
    });
    let client = Client::builder(&server.address)
        .layer(busy)
        .connect()
        .await
        .unwrap();
    let call = client.call().send_recv::<_, String>(&WORK, ());
    assert!(within(call).await.unwrap().ends_with("-00"));
    assert_eq!(worker.take(), [0, 0]);

    let taken = TraceContext::start(true);
    let call = client
        .call()
        .trace_context(taken)
        .send_recv::<_, String>(&WORK, ());
    assert!(within(call).await.unwrap().ends_with("-01"));
    assert_eq!(worker.take(), [4, 4]);
    exporter.shutdown();
}
