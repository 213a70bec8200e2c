//! The headers of an answer, apart from its trailers.

use std::sync::{Arc, Mutex};

use demo_api::demo::kv::v1::{FetchReply, KvClient};
use rpc_http::{Http, ReplyHeaders, add_initial_metadata};
use rpc_runtime::{
    Code, Metadata,
    middleware::{Next, ServerCall, from_fn},
};

use super::{
    builder, connect,
    raw::{GOOD, RawServer},
};
use crate::TestServer;

/// What the handlers of a server have seen of their callers' metadata.
type Seen = Arc<Mutex<Vec<Metadata>>>;

/// Starts a server that adds `x-zone` to the headers of each call, and `x-cost` to its reply metadata.
async fn start() -> (TestServer, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        let add = from_fn(move |call: ServerCall, next: Next<ServerCall>| {
            let kept = Arc::clone(&kept);
            async move {
                let cx = call.context().clone();
                kept.lock().unwrap().push(cx.metadata().clone());
                add_initial_metadata(&cx, "x-zone", "b")?;
                // As many servers do.
                add_initial_metadata(&cx, "date", "Mon, 30 Nov 2026 12:00:00 GMT")?;
                cx.add_reply_metadata("x-cost", "7")?;
                next.run(call).await
            }
        });
        server.guest(Http::new().grpc().initial_metadata()).layer(add)
    })
    .await;
    (server, seen)
}

/// The values of `x-zone` and `x-cost`.
fn both(metadata: &Metadata) -> (Option<&str>, Option<&str>) {
    (metadata.get_str("x-zone"), metadata.get_str("x-cost"))
}

#[tokio::test]
async fn headers_of_an_answer_are_told_apart_from_its_trailers() {
    let (server, seen) = start().await;
    let kv = connect(&server.address).await;
    let headers = ReplyHeaders::new();
    assert!(headers.get().is_none());
    let call = kv.send_recv().metadata(ReplyHeaders::KEY, &headers);
    let (_, receipt) = call.fetch("dog").with_receipt().await.unwrap();
    assert_eq!(both(&headers.get().unwrap()), (Some("b"), None));
    assert_eq!(both(receipt.metadata()), (None, Some("7")));
    assert!(!headers.get().unwrap().contains_key("date"), "it is HTTP's");
    // It is for this process alone.
    assert!(!seen.lock().unwrap()[0].contains_key(ReplyHeaders::KEY));
    // A failure has both, too.
    let headers = ReplyHeaders::new();
    let call = kv.send_recv().metadata(ReplyHeaders::KEY, &headers);
    let error = call.update("", &b"woof"[..]).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert_eq!(both(&headers.get().unwrap()), (Some("b"), None));
    assert_eq!(both(error.status().unwrap().metadata()), (None, Some("7")));
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn headers_of_a_stream_are_there_with_its_first_reply() {
    let (server, _) = start().await;
    let kv = connect(&server.address).await;
    kv.send_recv().update("dog", &b"woof"[..]).await.unwrap();
    let headers = ReplyHeaders::new();
    let call = kv.send_recv().metadata(ReplyHeaders::KEY, &headers);
    let mut events = call.watch("d").await.unwrap();
    assert!(events.message().await.unwrap().is_some());
    assert_eq!(both(&headers.get().unwrap()), (Some("b"), None));
    drop((events, kv));
    server.stop().await;
}

#[tokio::test]
async fn without_it_a_receipt_has_headers_and_trailers() {
    let (server, _) = start().await;
    let kv = connect(&server.address).await;
    let (_, receipt) = kv.send_recv().fetch("dog").with_receipt().await.unwrap();
    assert_eq!(both(receipt.metadata()), (Some("b"), Some("7")));
    // A number that is none, and that of a call that is over.
    let over = bytes::Bytes::from(&ReplyHeaders::new());
    for value in [bytes::Bytes::from_static(b"odd"), over] {
        let call = kv.send_recv().metadata(ReplyHeaders::KEY, value);
        let (_, receipt) = call.fetch("dog").with_receipt().await.unwrap();
        assert_eq!(both(receipt.metadata()), (Some("b"), Some("7")));
    }
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn a_server_of_the_native_protocol_puts_all_into_the_receipt() {
    let (server, _) = start().await;
    let kv = server.native().await;
    let headers = ReplyHeaders::new();
    let call = kv.send_recv().metadata(ReplyHeaders::KEY, &headers);
    let (_, receipt) = call.fetch("dog").with_receipt().await.unwrap();
    assert!(headers.get().is_none());
    assert_eq!(both(receipt.metadata()), (Some("b"), Some("7")));
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_only_an_end_has_trailers_alone() {
    let server = RawServer::bind().await;
    let kv: KvClient = builder(&server.address()).connect_lazy();
    let headers = Arc::new(ReplyHeaders::new());
    let call = {
        let headers = Arc::clone(&headers);
        tokio::spawn(async move {
            let call = kv.send_recv().metadata(ReplyHeaders::KEY, &*headers);
            call.fetch("dog").await.unwrap_err()
        })
    };
    let mut connection = server.accept().await;
    let stream = connection.request().await;
    let end = [&GOOD[..], &[("grpc-status", "5"), ("x-cost", "7")]].concat();
    connection.end(stream, &end).await;
    let error = call.await.unwrap();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert_eq!(both(error.status().unwrap().metadata()), (None, Some("7")));
    assert!(headers.get().is_none());
}

#[tokio::test]
async fn several_values_and_bytes_come_as_they_were_sent() {
    let server = RawServer::bind().await;
    let kv: KvClient = builder(&server.address()).connect_lazy();
    let headers = Arc::new(ReplyHeaders::new());
    let call = {
        let headers = Arc::clone(&headers);
        tokio::spawn(async move {
            let call = kv.send_recv().metadata(ReplyHeaders::KEY, &*headers);
            call.fetch("dog").await
        })
    };
    let mut connection = server.accept().await;
    let stream = connection.request().await;
    let more = [("x-zone", "b"), ("x-zone", "c"), ("x-blob-bin", "AP8H,AA==")];
    connection.headers(stream, &[&GOOD[..], &more].concat()).await;
    connection.message(stream, &FetchReply::default()).await;
    connection.end(stream, &[("grpc-status", "0")]).await;
    assert_eq!(call.await.unwrap().unwrap(), None);
    let headers = headers.get().unwrap();
    let values = |key: &str| -> Vec<Vec<u8>> {
        let entries = headers.iter().filter(|(entry, _)| *entry == key);
        entries.map(|(_, value)| value.to_vec()).collect()
    };
    assert_eq!(values("x-zone"), [b"b".to_vec(), b"c".to_vec()]);
    assert_eq!(values("x-blob-bin"), [vec![0, 255, 7], vec![0]]);
}
