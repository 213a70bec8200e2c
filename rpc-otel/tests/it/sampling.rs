//! Which traces are taken is decided before anything is built, and the others are carried on.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use opentelemetry::trace::TraceContextExt;
use rpc_http::{Grpc, Http};
use rpc_runtime::{
    Client, Context, Result, Server,
    middleware::{self, ClientCall},
    server::{Handler, Incoming, Procedure, Service},
    stream,
    trace::TraceContext,
};
use test_support::{Running, serve, serve_one, within};
use tracing::{Event, Id, Subscriber, span::Attributes};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, layer, registry::LookupSpan};

use crate::{collector::Collector, subscribe};

/// Makes a call of each kind at the next server, if there is one.
static RELAY: Procedure = Procedure::new("otel.v1.Sampled/rpc_relay", 721);
static NOTE: Procedure = Procedure::new("otel.v1.Sampled/rpc_note", 722);
static WATCH: Procedure = Procedure::new("otel.v1.Sampled/rpc_watch", 723).with_reply_stream();
/// One-way: calls `RELAY` at the next server.
static PASS: Procedure = Procedure::new("otel.v1.Sampled/rpc_pass", 724);
static PROCEDURES: [Procedure; 4] = [RELAY, NOTE, WATCH, PASS];

const TAKEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_TAKEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn trace(parent: &str) -> TraceContext {
    TraceContext::parse(parent, "vendor=1", "tenant=acme").unwrap()
}

/// What handlers have seen: the traces of their calls, and whether OpenTelemetry has a span there.
type Seen = Arc<Mutex<Vec<(TraceContext, bool)>>>;

#[derive(Clone, Default)]
struct Sampled {
    next: Option<Client>,
    seen: Seen,
}

impl Sampled {
    /// Does some work in a span of its own.
    fn note(&self, cx: &Context) {
        let work = tracing::info_span!("work");
        let _entered = work.enter();
        tracing::info!("it works");
        let has_span = work.context().span().span_context().is_valid();
        let trace = cx.trace().cloned().expect("each call belongs to a trace");
        self.seen.lock().unwrap().push((trace, has_span));
    }

    async fn relay(&self, cx: &Context) -> Result<()> {
        self.note(cx);
        let Some(client) = &self.next else {
            return Ok(());
        };
        client.call().send_recv::<_, ()>(&RELAY, ()).await?;
        client.call().send(&NOTE, ()).await?;
        let mut texts = client.call().reply_stream::<_, String>(&WATCH, ()).await?;
        while texts.message().await?.is_some() {}
        client.barrier().await?;
        Ok(())
    }

    fn seen(&self) -> Vec<(TraceContext, bool)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Service for Sampled {
    fn name(&self) -> &'static str {
        "otel.v1.Sampled"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn takes_rows(&self) -> bool {
        true
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let sampled = self.clone();
        match index {
            0 => call.handle(move |cx: Context, ()| async move { sampled.relay(&cx).await }),
            1 => call.handle(move |cx: Context, ()| async move {
                sampled.note(&cx);
                Ok(())
            }),
            2 => call.handle_reply_stream(move |cx: Context, (), replies| async move {
                let texts = stream(async move |out| {
                    out.send("one".to_owned()).await;
                    sampled.note(&cx);
                    Ok(())
                });
                replies.forward(texts).await
            }),
            3 => call.handle(move |_: Context, ()| async move {
                let client = sampled.next.as_ref().expect("there is a next server");
                Ok(client.call().send_recv::<_, ()>(&RELAY, ()).await?)
            }),
            _ => call.unknown(),
        }
    }
}

/// Two servers, of which the first calls the second.
struct TwoHops {
    first: Running,
    second: Running,
    /// The service of the first server.
    sampled: Sampled,
    /// That of the second one.
    last: Sampled,
}

impl TwoHops {
    async fn serve() -> Self {
        let last = Sampled::default();
        let second = serve_one(last.clone()).await;
        let sampled = Sampled {
            next: Some(second.client().await),
            ..Sampled::default()
        };
        Self {
            first: serve_one(sampled.clone()).await,
            second,
            sampled,
            last,
        }
    }
}

/// The names of the spans at the collector, sorted.
fn names(collector: &Collector) -> Vec<String> {
    let spans = collector.spans().into_iter();
    let mut names: Vec<_> = spans.map(|span| span.name).collect();
    names.sort();
    names
}

async fn shut_down(exporter: rpc_otel::Exporter) {
    tokio::task::spawn_blocking(move || exporter.shutdown())
        .await
        .unwrap();
}

/// All spans of one call of [`RELAY`] over two hops.
const ALL: [&str; 12] = [
    "otel.v1.Sampled/rpc_note",
    "otel.v1.Sampled/rpc_note",
    "otel.v1.Sampled/rpc_relay",
    "otel.v1.Sampled/rpc_relay",
    "otel.v1.Sampled/rpc_relay",
    "otel.v1.Sampled/rpc_relay",
    "otel.v1.Sampled/rpc_watch",
    "otel.v1.Sampled/rpc_watch",
    "work",
    "work",
    "work",
    "work",
];

#[tokio::test]
async fn a_call_at_ratio_0_makes_no_span_and_is_carried_on() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).sample_ratio(0.0).layer().unwrap();
    let subscriber = subscribe(layer);
    let hops = TwoHops::serve().await;
    let client = hops.first.client().await;
    within(client.call().send_recv::<_, ()>(&RELAY, ()))
        .await
        .unwrap();
    let seen = hops.sampled.seen();
    let (first, has_span) = &seen[0];
    assert!(!has_span && !first.is_sampled(), "{first:?}");
    assert_eq!(first.traceparent().unwrap().len(), TAKEN.len());
    // Another one is another trace.
    within(client.call().send_recv::<_, ()>(&RELAY, ()))
        .await
        .unwrap();
    let second = &hops.sampled.seen()[0].0;
    assert_ne!(second.trace_id(), first.trace_id());
    drop(subscriber);
    shut_down(exporter).await;
    assert_eq!(names(&collector), [""; 0]);
}

#[tokio::test]
async fn a_trace_that_its_caller_takes_is_taken_at_ratio_0() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).sample_ratio(0.0).layer().unwrap();
    let subscriber = subscribe(layer);
    let hops = TwoHops::serve().await;
    let client = hops.first.client().await;
    let call = client.call().trace_context(trace(TAKEN));
    within(call.send_recv::<_, ()>(&RELAY, ())).await.unwrap();
    for (seen, has_span) in hops.sampled.seen() {
        assert!(has_span && seen.is_sampled(), "{seen:?}");
    }
    drop(subscriber);
    shut_down(exporter).await;
    assert_eq!(names(&collector), ALL);
}

#[tokio::test]
async fn a_trace_that_its_caller_does_not_take_is_not_taken_at_ratio_1() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).layer().unwrap();
    let subscriber = subscribe(layer);
    let TwoHops {
        first, sampled, last, ..
    } = TwoHops::serve().await;
    // What middleware does belongs to the call.
    let busy = middleware::from_fn(|call: ClientCall, next: middleware::Next<ClientCall>| {
        tracing::info_span!("middleware").in_scope(|| next.run(call))
    });
    let client = Client::builder(&first.address)
        .layer(busy)
        .connect()
        .await
        .unwrap();
    let call = client.call().trace_context(trace(NOT_TAKEN));
    within(call.send_recv::<_, ()>(&RELAY, ())).await.unwrap();
    let seen = [sampled.seen(), last.seen()].concat();
    assert_eq!(seen.len(), 4);
    for (seen, has_span) in seen {
        assert!(!has_span);
        // With all that it had.
        assert_eq!(seen, trace(NOT_TAKEN));
    }
    drop(subscriber);
    shut_down(exporter).await;
    assert_eq!(names(&collector), [""; 0]);
}

#[tokio::test]
async fn a_trace_is_taken_whole_or_not_at_all() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).sample_ratio(0.5).layer().unwrap();
    let subscriber = subscribe(layer);
    let TwoHops {
        first,
        second,
        sampled,
        last,
    } = TwoHops::serve().await;
    let client = first.client().await;
    // That all are taken, or none, does not happen.
    for _ in 0..64 {
        within(client.call().send_recv::<_, ()>(&RELAY, ()))
            .await
            .unwrap();
    }
    // Then all spans have ended.
    first.stop().await;
    second.stop().await;
    drop(subscriber);
    shut_down(exporter).await;
    let ids = |is_taken: bool| {
        let seen = [sampled.seen.lock().unwrap(), last.seen.lock().unwrap()];
        let all = seen.iter().flat_map(|seen| seen.iter());
        let some = all.filter(|(trace, _)| trace.is_sampled() == is_taken);
        some.map(|(trace, has_span)| {
            assert_eq!(*has_span, is_taken);
            trace.trace_id().unwrap()
        })
        .collect::<Vec<u128>>()
    };
    let spans = collector.spans();
    for is_taken in [true, false] {
        let ids = ids(is_taken);
        let traces: HashSet<_> = ids.iter().copied().collect();
        assert!(!traces.is_empty());
        assert_eq!(ids.len(), traces.len() * 4);
        for id in traces {
            // The rule of OpenTelemetry's sampler `TraceIdRatioBased`, which another process may ask.
            assert_eq!((id as u64) >> 1 < 1 << 62, is_taken, "{id:032x}");
            let of_trace = spans.iter().filter(|span| span.trace_id == id.to_be_bytes());
            assert_eq!(of_trace.count(), if is_taken { ALL.len() } else { 0 });
        }
    }
}

#[tokio::test]
async fn one_way_calls_of_one_frame_are_decided_one_by_one() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).sample_ratio(0.5).layer().unwrap();
    let subscriber = subscribe(layer);
    let TwoHops {
        first, second, last, ..
    } = TwoHops::serve().await;
    // A caller that traces nothing.
    let client = Client::builder(&first.address)
        .without_spans()
        .connect()
        .await
        .unwrap();
    for _ in 0..64 {
        client.call().send(&PASS, ()).await.unwrap();
    }
    let account = within(client.settled()).await.unwrap();
    assert_eq!(account.handled(), 64, "{account}");
    // Then all spans have ended.
    first.stop().await;
    second.stop().await;
    drop(subscriber);
    shut_down(exporter).await;
    let (spans, seen) = (collector.spans(), last.seen());
    assert_eq!(seen.len(), 64);
    let taken = seen.iter().filter(|(trace, _)| trace.is_sampled()).count();
    assert!(0 < taken && taken < 64, "{taken}");
    for (trace, has_span) in seen {
        assert_eq!(trace.is_sampled(), has_span);
        let id = trace.trace_id().unwrap().to_be_bytes();
        let mut names: Vec<_> = spans.iter().filter(|span| span.trace_id == id).collect();
        names.sort_by(|one, other| one.name.cmp(&other.name));
        let names: Vec<_> = names.iter().map(|span| span.name.as_str()).collect();
        match has_span {
            true => assert_eq!(names, [PASS.path(), RELAY.path(), RELAY.path(), "work"]),
            false => assert_eq!(names, [""; 0]),
        }
    }
}

#[tokio::test]
async fn a_call_belongs_to_the_trace_of_the_span_around_it() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).sample_ratio(0.0).layer().unwrap();
    let subscriber = subscribe(layer);
    let hops = TwoHops::serve().await;
    let client = hops.first.client().await;
    // OpenTelemetry has decided about this one.
    let around = tracing::info_span!("around");
    let id = around.context().span().span_context().trace_id();
    let calling = client.call().send_recv::<_, ()>(&RELAY, ());
    within(tracing::Instrument::instrument(calling, around))
        .await
        .unwrap();
    for (seen, _) in hops.sampled.seen() {
        assert!(!seen.is_sampled());
        assert_eq!(seen.trace_id().unwrap().to_be_bytes(), id.to_bytes());
    }
    drop(subscriber);
    shut_down(exporter).await;
    assert_eq!(names(&collector), [""; 0]);
}

#[tokio::test]
async fn a_call_that_was_given_a_trace_is_taken_within_one_that_is_not() {
    static GIVE: Procedure = Procedure::new("otel.v1.Giver/rpc_give", 731);
    static PROCEDURES: [Procedure; 1] = [GIVE];
    struct Giver(Client);
    impl Service for Giver {
        fn name(&self) -> &'static str {
            "otel.v1.Giver"
        }

        fn procedures(&self) -> &'static [Procedure] {
            &PROCEDURES
        }

        fn call(&self, _: usize, call: Incoming) -> Handler {
            let client = self.0.clone();
            call.handle(move |_: Context, ()| async move {
                let call = client.call().trace_context(trace(TAKEN));
                Ok(call.send_recv::<_, ()>(&RELAY, ()).await?)
            })
        }
    }

    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).layer().unwrap();
    let subscriber = subscribe(layer);
    let hops = TwoHops::serve().await;
    let client = hops.first.client().await;
    let giver = serve_one(Giver(client)).await;
    let call = giver.client().await;
    let call = call.call().trace_context(trace(NOT_TAKEN));
    within(call.send_recv::<_, ()>(&GIVE, ())).await.unwrap();
    assert!(hops.sampled.seen().iter().all(|(_, has_span)| *has_span));
    drop(subscriber);
    shut_down(exporter).await;
    assert_eq!(names(&collector), ALL);
}

/// A layer that keeps the names of spans, and of the span around each event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, about: &Attributes<'_>, _: &Id, _: layer::Context<'_, S>) {
        self.0.lock().unwrap().push(about.metadata().name().to_owned());
    }

    fn on_event(&self, event: &Event<'_>, cx: layer::Context<'_, S>) {
        if event.metadata().target().starts_with("it::") {
            let scope = cx.event_scope(event).into_iter().flatten();
            let names: Vec<_> = scope.map(|span| span.name()).collect();
            self.0
                .lock()
                .unwrap()
                .push(format!("event in {}", names.join(" in ")));
        }
    }
}

#[tokio::test]
async fn another_layer_gets_the_spans_of_a_call_that_is_not_taken() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).sample_ratio(0.0).layer().unwrap();
    let log = Log::default();
    let subscriber = subscribe(layer.and_then(log.clone()));
    let sampled = Sampled::default();
    let server = serve_one(sampled.clone()).await;
    let client = server.client().await;
    log.0.lock().unwrap().clear();
    within(client.call().send_recv::<_, ()>(&RELAY, ()))
        .await
        .unwrap();
    assert!(!sampled.seen()[0].1);
    drop(subscriber);
    shut_down(exporter).await;
    let log = log.0.lock().unwrap();
    let log: Vec<_> = log.iter().map(String::as_str).collect();
    assert_eq!(
        log,
        ["rpc.client", "rpc.server", "work", "event in work in rpc.server"]
    );
    assert_eq!(names(&collector), [""; 0]);
}

#[tokio::test]
async fn grpc_carries_a_trace_that_is_not_taken() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).sample_ratio(0.0).layer().unwrap();
    let subscriber = subscribe(layer);
    let sampled = Sampled::default();
    let server = Server::builder()
        .service(sampled.clone())
        .guest(Http::new().grpc());
    let server = serve(server.listener("tcp://127.0.0.1:0").signals(false)).await;
    let client = Client::builder(server.address.replacen("tcp", "grpc", 1))
        .protocol(Grpc::new())
        .connect()
        .await
        .unwrap();
    let client = client.with_procedures(&PROCEDURES);
    within(client.call().send_recv::<_, ()>(&RELAY, ()))
        .await
        .unwrap();
    let call = client.call().trace_context(trace(NOT_TAKEN));
    within(call.send_recv::<_, ()>(&RELAY, ())).await.unwrap();
    let call = client.call().trace_context(trace(TAKEN));
    within(call.send_recv::<_, ()>(&RELAY, ())).await.unwrap();
    let seen = sampled.seen();
    assert!(!seen[0].0.is_sampled() && !seen[0].1);
    assert_eq!(seen[1], (trace(NOT_TAKEN), false));
    assert!(seen[2].0.is_sampled() && seen[2].1);
    drop(subscriber);
    shut_down(exporter).await;
    let relay = RELAY.path();
    assert_eq!(names(&collector), [relay, relay, "work"]);
}
