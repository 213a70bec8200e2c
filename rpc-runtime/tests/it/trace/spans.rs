//! Spans of calls: their names, attributes and parents.

use std::time::Duration;

use rpc_runtime::{
    Client, Code, Server,
    middleware::{self, ClientCall, ServerCall},
    server::Procedure,
    trace::TraceContext,
};
use test_support::{Lab, Spans, lab, serve, serve_at, serve_one, within};
use tracing::subscriber::NoSubscriber;

use super::{FAIL, Hop, SAY, TELL, call_hop, elsewhere};

#[tokio::test(crate = "test_support::gate")]
async fn two_hops_are_one_trace_with_the_right_parents() {
    let spans = Spans::linked();
    let (_last, last_server) = Hop::serve(None).await;
    let (_first, server) = Hop::serve(Some(&last_server)).await;
    let client = server.client().await;
    let said = call_hop(&client, Some(elsewhere()), "inherited").await;
    spans.closed().await;
    assert_eq!(
        spans.names(),
        [
            "client hop",
            "client import",
            "client say",
            "client tell",
            "client watch",
            "server hop",
            "server import",
            "server say",
            "server tell",
            "server watch",
        ]
    );
    for span in spans.all() {
        let trace = span.trace.as_ref().unwrap();
        assert_eq!(trace.trace_id(), elsewhere().trace_id(), "{}", span.name());
        assert_eq!(
            (trace.tracestate(), span.get("rpc.status_code")),
            ("vendor=1", "OK")
        );
    }
    let id = |name: &str| spans.only(name).trace.unwrap().span_id();
    let parent = |name: &str| spans.only(name).parent;
    assert_eq!(parent("client hop"), elsewhere().span_id());
    assert_eq!(parent("server hop"), id("client hop"));
    for name in ["say", "tell", "watch", "import"] {
        assert_eq!(parent(&format!("client {name}")), id("server hop"), "{name}");
        assert_eq!(
            parent(&format!("server {name}")),
            id(&format!("client {name}")),
            "{name}"
        );
    }
    // The handler sees its own span, with the baggage of the caller.
    let own = spans.only("server say").trace.unwrap();
    let expected = format!("{} vendor=1 tenant=acme", own.traceparent().unwrap());
    assert_eq!(said[0], expected);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_call_of_no_trace_begins_one() {
    let spans = Spans::linked();
    let server = serve_one(Hop::default()).await;
    let client = server.client().await;
    let _: String = within(client.call().send_recv(&SAY, ())).await.unwrap();
    spans.closed().await;
    let (caller, callee) = (spans.only("client say"), spans.only("server say"));
    assert_eq!(caller.parent, None);
    assert_eq!(callee.parent, caller.trace.unwrap().span_id());
}

#[tokio::test(crate = "test_support::gate")]
async fn spans_have_the_attributes_of_opentelemetry_from_the_start() {
    let spans = Spans::here();
    let server = serve_one(Hop::default()).await;
    let client = server.client().await;
    let _: String = within(client.call().send_recv(&SAY, ())).await.unwrap();
    spans.closed().await;
    let (caller, callee) = (spans.only("client say"), spans.only("server say"));
    let port = server.address.rsplit_once(':').unwrap().1;
    for (name, value) in [
        ("otel.name", "trace.v1.Hop/rpc_say"),
        ("otel.kind", "client"),
        ("rpc.system.name", "rustrpc"),
        ("rpc.method", "trace.v1.Hop/rpc_say"),
        ("server.address", "127.0.0.1"),
        ("server.port", port),
    ] {
        assert_eq!(
            caller.at_start.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    for (name, value) in [
        ("otel.kind", "server"),
        ("rpc.system.name", "rustrpc"),
        ("rpc.method", "trace.v1.Hop/rpc_say"),
        // Of the listener: the peer's own port is another.
        ("server.address", "127.0.0.1"),
        ("server.port", port),
        ("network.peer.address", "127.0.0.1"),
        ("rpc.call.id", "1"),
    ] {
        assert_eq!(
            callee.at_start.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    // What is known later is recorded later.
    for (name, value) in [
        ("network.peer.address", "127.0.0.1"),
        ("network.peer.port", port),
        ("rpc.call.id", "1"),
        ("rpc.status_code", "OK"),
    ] {
        assert_eq!(
            (caller.at_start.get(name), caller.get(name)),
            (None, value),
            "{name}"
        );
    }
    assert_eq!(
        (caller.get("error.type"), callee.get("otel.status_code")),
        ("", "")
    );
    assert_ne!(callee.get("network.peer.port"), port);
    assert_eq!(callee.get("rpc.method_original"), "");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_that_only_this_process_reaches_has_its_own_address_in_spans_or_none() {
    let spans = Spans::here();
    let server = serve_at("mem:spans", Hop::default()).await;
    let client = server.client().await;
    let _: String = within(client.call().send_recv(&SAY, ())).await.unwrap();
    let client = Client::in_process(Hop::default());
    let _: String = within(client.call().send_recv(&SAY, ())).await.unwrap();
    spans.closed().await;
    let all = spans.all();
    let mut servers = all.iter().filter(|span| span.name() == "server say");
    let servers = [servers.next(), servers.next()].map(|span| span.unwrap().get("server.address"));
    assert_eq!(servers, ["spans", ""]);
    assert!(all.iter().all(|span| span.get("server.port").is_empty()));
}

#[tokio::test(crate = "test_support::gate")]
async fn what_a_handler_logs_is_within_its_span() {
    let spans = Spans::here();
    let server = serve_one(Hop::default()).await;
    let client = server.client().await;
    let _: String = within(client.call().send_recv(&SAY, ())).await.unwrap();
    spans.closed().await;
    assert_eq!(spans.only("server say").events, ["said"]);
    assert_eq!(spans.only("client say").events, [""; 0]);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_span_says_how_its_call_ended() {
    let spans = Spans::here();
    let (lab, other) = (Lab::default(), Hop::default());
    let builder = Server::builder().service(lab.clone()).service(other);
    let server = serve(builder.listener("tcp://127.0.0.1:0").signals(false)).await;
    let client = server.client().await;
    for text in ["internal", "missing", "panic"] {
        within(client.call().send_recv::<_, ()>(&FAIL, text.to_owned()))
            .await
            .unwrap_err();
    }
    spans.closed().await;
    let ends = |kind: &str| -> Vec<String> {
        let all = spans.all();
        let ends = all.iter().filter(|span| span.get("otel.kind") == kind);
        ends.map(|span| {
            ["rpc.status_code", "error.type", "otel.status_code"]
                .map(|name| span.get(name))
                .join(" ")
        })
        .collect()
    };
    // A server is not to blame for what its caller asks for.
    assert_eq!(
        ends("server"),
        ["INTERNAL INTERNAL error", "NOT_FOUND  ", "UNKNOWN UNKNOWN error"]
    );
    assert_eq!(
        ends("client"),
        [
            "INTERNAL INTERNAL error",
            "NOT_FOUND NOT_FOUND error",
            "UNKNOWN UNKNOWN error"
        ]
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_call_that_is_given_up_or_late_ends_its_spans() {
    let spans = Spans::here();
    let lab = Lab::default();
    let server = serve_one(lab.clone()).await;
    let client = server.client().await;
    let given_up = lab::hang(&client);
    lab.until_hanging(1).await;
    given_up.abort();
    lab.until_hanging(0).await;
    spans.closed().await;
    let late = client.call().timeout(Duration::from_millis(20));
    let error = within(late.send_recv::<_, ()>(&lab::HANG, ())).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    spans.closed().await;
    let ends = |kind: &str| -> Vec<String> {
        let all = spans.all();
        let ends = all.iter().filter(|span| span.get("otel.kind") == kind);
        ends.map(|span| span.get("rpc.status_code").to_owned()).collect()
    };
    assert_eq!(ends("client"), ["CANCELLED", "DEADLINE_EXCEEDED"]);
    // The server may read the CANCEL of the late caller before its own clock says so.
    let ends = ends("server");
    assert_eq!(ends[0], "CANCELLED");
    // On a slow machine it reads both before the handler begins.
    if let Some(late) = ends.get(1) {
        assert!(["CANCELLED", "DEADLINE_EXCEEDED"].contains(&late.as_str()));
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn one_way_calls_of_one_frame_have_a_span_each() {
    let spans = Spans::here();
    let hop = Hop::default();
    let server = serve_one(hop.clone()).await;
    let client = server.client().await;
    for _ in 0..5 {
        within(client.call().send(&TELL, ())).await.unwrap();
    }
    within(client.barrier()).await.unwrap();
    spans.closed().await;
    assert_eq!(hop.told().len(), 5);
    let all = spans.all();
    let ids = all.iter().filter(|span| span.name() == "server tell");
    let ids: Vec<_> = ids.map(|span| span.get("rpc.call.id").to_owned()).collect();
    assert_eq!(ids, ["1", "3", "5", "7", "9"]);
    assert_eq!(all.iter().filter(|span| span.name() == "client tell").count(), 5);
    assert!(all.iter().all(|span| span.get("rpc.status_code") == "OK"));
}

#[tokio::test(crate = "test_support::gate")]
async fn a_span_is_around_middleware_on_both_sides() {
    let spans = Spans::linked();
    let note = middleware::from_fn(async |call: ServerCall, next| {
        tracing::info!("server middleware");
        next.run(call).await
    });
    let outer = middleware::from_fn(async |call: ServerCall, next: middleware::Next<ServerCall>| {
        // A task may run the rest of a call.
        tokio::spawn(next.run(call)).await.unwrap()
    });
    let builder = Server::builder().service(Hop::default()).layer(note).layer(outer);
    let server = serve(builder.listener("tcp://127.0.0.1:0").signals(false)).await;
    let client =
        Client::builder(&server.address).layer(middleware::from_fn(async |call: ClientCall, next| {
            tracing::info!("client middleware");
            next.run(call).await
        }));
    let client: Client = within(client.connect()).await.unwrap();
    let said: String = within(client.call().send_recv(&SAY, ())).await.unwrap();
    within(client.call().send(&TELL, ())).await.unwrap();
    within(client.barrier()).await.unwrap();
    spans.closed().await;
    let (caller, callee) = (spans.only("client say"), spans.only("server say"));
    assert_eq!(caller.events, ["client middleware"]);
    assert_eq!(callee.events, ["server middleware", "said"]);
    assert_eq!((caller.get("rpc.call.id"), callee.get("rpc.call.id")), ("1", "1"));
    assert_eq!(callee.parent, caller.trace.unwrap().span_id());
    assert!(
        said.starts_with(&callee.trace.unwrap().traceparent().unwrap()),
        "{said}"
    );
    assert_eq!(
        spans.only("server tell").parent,
        spans.only("client tell").trace.unwrap().span_id()
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_procedure_that_the_server_lacks_has_a_span_without_its_name() {
    static UNKNOWN: Procedure = Procedure::new("trace.v1.Hop/rpc_unknown", 699);
    let spans = Spans::here();
    let server = serve_one(Hop::default()).await;
    let client = server.client().await;
    within(client.call().send_recv::<_, ()>(&UNKNOWN, ()))
        .await
        .unwrap_err();
    spans.closed().await;
    let callee = spans.only("server rustrpc");
    assert_eq!(
        (callee.get("rpc.method"), callee.get("rpc.status_code")),
        ("_OTHER", "UNIMPLEMENTED")
    );
    let id = format!("{:#018x}", UNKNOWN.id());
    assert_eq!(callee.get("rpc.method_original"), id);
    // Its caller has the name.
    assert_eq!(spans.only("client unknown").get("rpc.method_original"), "");
}

#[tokio::test(crate = "test_support::gate")]
async fn the_control_service_has_no_spans() {
    let spans = Spans::here();
    let server = serve_one(Hop::default()).await;
    let client = server.client().await;
    within(client.ping()).await.unwrap();
    within(client.barrier()).await.unwrap();
    within(client.terminate()).await.unwrap();
    within(server.serving).await.unwrap().unwrap();
    assert_eq!(spans.names(), [""; 0]);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_span_that_no_subscriber_wants_leaves_the_context_as_it_is() {
    // One subscriber makes the level wanted, and this thread has another one, which wants nothing.
    let spans = Spans::linked();
    let _nothing = tracing::subscriber::set_default(NoSubscriber::default());
    let server = serve_one(Hop::default()).await;
    let client = server.client().await;
    let trace = TraceContext::new(1, 2, false).unwrap();
    let said: String = within(client.call().trace_context(trace).send_recv(&SAY, ()))
        .await
        .unwrap();
    assert_eq!(said, "00-00000000000000000000000000000001-0000000000000002-00  ");
    assert_eq!(spans.names(), [""; 0]);
}
