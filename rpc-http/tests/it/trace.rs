//! The trace of a call by gRPC: in headers, and in spans.

use std::sync::{Arc, Mutex};

use demo_api::demo::kv::v1::FetchRequest;
use rpc_runtime::{
    middleware::{self, ServerCall},
    trace::TraceContext,
};
use test_support::Spans;

use crate::{
    TestServer,
    caller::{Caller, prefixed},
    outgoing,
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What a server has seen of its calls: the trace, and the keys of the metadata.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<SeenCall>>>);

/// The trace of a call, and the keys of its metadata.
type SeenCall = (Option<TraceContext>, Vec<String>);

impl Seen {
    async fn serve(&self) -> TestServer {
        let seen = self.clone();
        let layer = middleware::from_fn(move |call: ServerCall, next: middleware::Next<ServerCall>| {
            let keys = call.metadata().iter().map(|(key, _)| key.to_owned()).collect();
            seen.0
                .lock()
                .unwrap()
                .push((call.context().trace().cloned(), keys));
            next.run(call)
        });
        TestServer::start_with("tcp://127.0.0.1:0", |server| server.layer(layer)).await
    }

    fn take(&self) -> Vec<SeenCall> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn the_headers_of_a_trace_are_no_metadata() {
    let seen = Seen::default();
    let server = seen.serve().await;
    let caller = Caller::connect(&server.address).await;
    let headers = [
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("baggage", "tenant=acme"),
        ("x-user", "ada"),
    ];
    let fetch = || {
        prefixed(&FetchRequest {
            key: "dog".to_owned(),
        })
    };
    let answer = caller.call("/demo.kv.v1.Kv/rpc_fetch", &headers, fetch()).await;
    assert_eq!(answer.code(), "0");
    let trace = TraceContext::parse(PARENT, "a=1,b=2", "tenant=acme");
    assert_eq!(seen.take(), [(trace, vec!["x-user".to_owned()])]);
    // An invalid parent is dropped, and the call goes on.
    let answer = caller
        .call(
            "/demo.kv.v1.Kv/rpc_fetch",
            &[("traceparent", "00-0-0-0"), ("tracestate", "a=1")],
            fetch(),
        )
        .await;
    assert_eq!(answer.code(), "0");
    assert_eq!(seen.take(), [(None, Vec::new())]);
    drop(caller);
    server.stop().await;
}

#[tokio::test]
async fn a_client_writes_the_trace_of_a_call_into_headers() {
    let seen = Seen::default();
    let server = seen.serve().await;
    let kv = outgoing::connect(&server.address).await;
    let trace = TraceContext::parse(PARENT, "a=1", "tenant=acme").unwrap();
    kv.send_recv()
        .trace_context(trace.clone())
        .fetch("dog")
        .await
        .unwrap();
    kv.send_recv().fetch("dog").await.unwrap();
    kv.send()
        .trace_context(trace.clone())
        .update("dog", "woof")
        .await
        .unwrap();
    kv.barrier().await.unwrap();
    let traces: Vec<_> = seen.take().into_iter().map(|(trace, _)| trace).collect();
    assert_eq!(traces, [Some(trace.clone()), None, Some(trace)]);
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn a_call_by_grpc_has_one_span_on_each_side() {
    let spans = Spans::linked();
    let server = Seen::default().serve().await;
    let kv = outgoing::connect(&server.address).await;
    kv.send_recv().fetch("dog").await.unwrap();
    spans.closed().await;
    assert_eq!(spans.names(), ["client fetch", "server fetch"]);
    let (caller, callee) = (spans.only("client fetch"), spans.only("server fetch"));
    for span in [&caller, &callee] {
        assert_eq!(
            (span.get("rpc.system.name"), span.get("rpc.status_code")),
            ("grpc", "OK")
        );
    }
    let port = server.address.rsplit_once(':').unwrap().1;
    assert_eq!(
        (caller.get("server.address"), caller.get("server.port")),
        ("127.0.0.1", port)
    );
    assert_eq!(callee.parent, caller.trace.unwrap().span_id());
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn a_procedure_that_the_server_lacks_has_a_span_with_the_beginning_of_its_path() {
    let spans = Spans::linked();
    let server = Seen::default().serve().await;
    let caller = Caller::connect(&server.address).await;
    let long = "x".repeat(1000);
    let path = format!("/demo.kv.v1.Kv/{long}");
    let answer = caller
        .call(&path, &[("traceparent", PARENT)], prefixed(&()))
        .await;
    assert_eq!(answer.code(), "12");
    spans.closed().await;
    let span = spans.only("server grpc");
    assert_eq!(
        (span.get("rpc.method"), span.get("rpc.status_code")),
        ("_OTHER", "UNIMPLEMENTED")
    );
    assert_eq!(span.get("rpc.method_original"), &path[1..=256]);
    assert_eq!(span.get("rpc.call.id"), "");
    assert_eq!(span.get("server.address"), "127.0.0.1");
    // It belongs to the trace of its caller.
    let parent = TraceContext::parse(PARENT, "", "").unwrap();
    assert_eq!(span.parent, parent.span_id());
    drop(caller);
    server.stop().await;
}
