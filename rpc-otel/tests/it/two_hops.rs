//! One trace over two hops, with a stream and a one-way call.

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use rpc_runtime::trace::TraceContext;
use test_support::{serve_one, within};

use crate::{
    collector::{Collector, attribute},
    hop::{HOP, Hop},
    subscribe,
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The only span of this kind and name.
fn only<'a>(spans: &'a [Span], kind: SpanKind, name: &str) -> &'a Span {
    let name = format!("otel.v1.Hop/rpc_{name}");
    let mut found = spans
        .iter()
        .filter(|span| span.kind() == kind && span.name == name);
    match (found.next(), found.next()) {
        (Some(span), None) => span,
        _ => panic!("not one {kind:?} {name:?}: {spans:#?}"),
    }
}

#[tokio::test]
async fn two_hops_are_one_trace_at_the_collector() {
    let (collector, address, _collecting) = Collector::serve().await;
    let builder = rpc_otel::builder(&address).service("kv").attribute("zone", "b");
    let (layer, exporter) = builder.layer().unwrap();
    let subscriber = subscribe(layer);
    let last = serve_one(Hop::default()).await;
    let first = serve_one(Hop(Some(last.client().await))).await;
    let client = first.client().await;
    let trace = TraceContext::parse(PARENT, "vendor=1", "tenant=acme").unwrap();
    let call = client.call().trace_context(trace);
    within(call.send_recv::<_, ()>(&HOP, ())).await.unwrap();
    let failed = last.client().await;
    within(failed.call().send_recv::<_, ()>(&HOP, ()))
        .await
        .unwrap_err();
    // What ended in this process is not yet told to the collector.
    drop(subscriber);
    tokio::task::spawn_blocking(move || exporter.shutdown())
        .await
        .unwrap();

    let all = collector.spans();
    let trace_id = &all[0].trace_id;
    let (traced, others): (Vec<Span>, Vec<Span>) = all
        .iter()
        .cloned()
        .partition(|span| span.trace_id == 0x0af7651916cd43dd8448eb211c80319c_u128.to_be_bytes());
    assert_eq!((traced.len(), others.len()), (8, 2), "{trace_id:?}: {all:#?}");
    let (client, server) = (SpanKind::Client, SpanKind::Server);
    let top = only(&traced, client, "hop");
    assert_eq!(top.parent_span_id, 0xb7ad6b7169203331_u64.to_be_bytes());
    let hop = only(&traced, server, "hop");
    assert_eq!(hop.parent_span_id, top.span_id);
    for name in ["echo", "note", "watch"] {
        let (caller, callee) = (only(&traced, client, name), only(&traced, server, name));
        assert_eq!(caller.parent_span_id, hop.span_id, "{name}");
        assert_eq!(callee.parent_span_id, caller.span_id, "{name}");
        assert_eq!(caller.trace_state, "vendor=1");
        assert_eq!(attribute(&callee.attributes, "rpc.status_code"), "OK");
        assert_eq!(attribute(&caller.attributes, "rpc.system.name"), "rustrpc");
        assert_eq!(attribute(&caller.attributes, "server.address"), "127.0.0.1");
        assert_eq!(
            attribute(&caller.attributes, "rpc.call.id"),
            match name {
                // Its id is not known to its caller.
                "note" => String::new(),
                _ => attribute(&callee.attributes, "rpc.call.id"),
            }
        );
    }
    let failed = only(&others, server, "hop");
    assert_eq!(
        failed.status.as_ref().map(|status| status.code()),
        Some(StatusCode::Error)
    );
    assert_eq!(failed.status.as_ref().unwrap().message, "there is no next server");
    assert_eq!(attribute(&failed.attributes, "error.type"), "INTERNAL");
    let resources = collector.resources();
    assert_eq!(attribute(&resources[0].attributes, "service.name"), "kv");
    assert_eq!(attribute(&resources[0].attributes, "zone"), "b");
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_is_carried_and_not_exported() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (layer, exporter) = rpc_otel::builder(&address).sample_ratio(0.0).layer().unwrap();
    let subscriber = subscribe(layer);
    let last = serve_one(Hop::default()).await;
    let first = serve_one(Hop(Some(last.client().await))).await;
    let client = first.client().await;
    within(client.call().send_recv::<_, ()>(&HOP, ())).await.unwrap();
    // One whose caller records it is exported all the same.
    let trace = TraceContext::parse(PARENT, "", "").unwrap();
    let call = client.call().trace_context(trace);
    within(call.send_recv::<_, ()>(&HOP, ())).await.unwrap();
    drop(subscriber);
    tokio::task::spawn_blocking(move || exporter.shutdown())
        .await
        .unwrap();
    let spans = collector.spans();
    assert_eq!(spans.len(), 8, "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace_id[0] == 0x0a));
}
