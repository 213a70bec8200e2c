//! What handlers add to the headers of their answers.

use std::sync::{Arc, Mutex};

use demo_api::demo::kv::v1::{FetchRequest, UpdateRequest, WatchRequest};
use rpc_http::{Http, add_initial_metadata};
use rpc_runtime::{
    Code,
    middleware::{Next, ServerCall, from_fn},
};

use crate::{
    TestServer,
    caller::{Caller, prefixed, read_chunk},
};

/// Starts a server that adds `x-zone` to the headers of each call, and `x-cost` to its reply metadata.
async fn start(http: Http) -> TestServer {
    TestServer::start_with("tcp://127.0.0.1:0", |server| {
        let add = from_fn(async |call: ServerCall, next| {
            let cx = call.context().clone();
            // What joins the call and its headers is no entry of the caller's.
            let mut keys: Vec<_> = cx.metadata().iter().map(|(key, _)| key).collect();
            keys.retain(|key| *key != "user-agent");
            assert!(keys.is_empty(), "{keys:?}");
            add_initial_metadata(&cx, "X-Zone", "b")?;
            cx.add_reply_metadata("x-cost", "7")?;
            next.run(call).await
        });
        server.guest(http).layer(add)
    })
    .await
}

fn fetch() -> bytes::Bytes {
    prefixed(&FetchRequest::default())
}

#[tokio::test]
async fn initial_metadata_goes_with_the_headers_and_the_rest_with_the_trailers() {
    let server = start(Http::new().grpc().initial_metadata()).await;
    let grpc = Caller::connect(&server.address).await;
    let answer = grpc.call("/demo.kv.v1.Kv/rpc_fetch", &[], fetch()).await;
    assert_eq!(
        (answer.code(), &answer.headers["x-zone"]),
        ("0", &"b".parse().unwrap())
    );
    assert!(!answer.trailers.contains_key("x-zone"), "{answer:?}");
    assert_eq!(answer.trailers["x-cost"], "7");
    // A failure has both, too.
    let bad = prefixed(&UpdateRequest::default());
    let answer = grpc.call("/demo.kv.v1.Kv/rpc_update", &[], bad).await;
    assert_eq!(
        (answer.code(), &answer.headers["x-zone"]),
        ("3", &"b".parse().unwrap())
    );
    assert!(!answer.trailers.contains_key("x-zone"), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn initial_metadata_comes_before_the_end_of_a_stream() {
    let server = start(Http::new().grpc().initial_metadata()).await;
    server
        .native()
        .await
        .send_recv()
        .update("dog", &b"woof"[..])
        .await
        .unwrap();
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_watch", &[]).await;
    stream
        .send_data(prefixed(&WatchRequest::default()), true)
        .unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.headers()["x-zone"], "b");
    let mut body = response.into_body();
    assert!(read_chunk(&mut body).await.is_some());
    server.stop().await;
}

#[tokio::test]
async fn without_the_option_all_metadata_goes_with_the_trailers() {
    let server = start(Http::new().grpc()).await;
    let grpc = Caller::connect(&server.address).await;
    let answer = grpc.call("/demo.kv.v1.Kv/rpc_fetch", &[], fetch()).await;
    assert!(!answer.headers.contains_key("x-zone"), "{answer:?}");
    assert_eq!(answer.trailers["x-zone"], "b");
    server.stop().await;
}

#[tokio::test]
async fn a_native_caller_gets_it_with_the_reply() {
    let server = start(Http::new().grpc().initial_metadata()).await;
    let native = server.native().await;
    let (_, receipt) = native.send_recv().fetch("dog").with_receipt().await.unwrap();
    assert_eq!(receipt.metadata().get_str("x-zone"), Some("b"));
    server.stop().await;
}

#[tokio::test]
async fn after_the_headers_it_is_refused_as_are_keys_of_others() {
    let seen = Arc::new(Mutex::new(None));
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        let seen = Arc::clone(&seen);
        let keep = from_fn(move |call: ServerCall, next: Next<ServerCall>| {
            *seen.lock().unwrap() = Some(call.context().clone());
            let refused = |key, value: Vec<u8>| add_initial_metadata(call.context(), key, value).unwrap_err();
            assert_eq!(
                refused("Content-Type", b"text/html".to_vec()).code(),
                Code::InvalidArgument
            );
            assert_eq!(
                refused("x-long", vec![b'x'; 9000]).code(),
                Code::ResourceExhausted
            );
            next.run(call)
        });
        server.guest(Http::new().grpc().initial_metadata()).layer(keep)
    })
    .await;
    let grpc = Caller::connect(&server.address).await;
    let bad = prefixed(&UpdateRequest::default());
    // A panic of the middleware would end the call with another code. The second call fails, and has no headers of its own.
    for (path, body, code) in [("rpc_fetch", fetch(), "0"), ("rpc_update", bad, "3")] {
        let answer = grpc.call(&format!("/demo.kv.v1.Kv/{path}"), &[], body).await;
        assert_eq!(answer.code(), code);
        let cx = seen.lock().unwrap().take().unwrap();
        let refused = add_initial_metadata(&cx, "x-zone", "b").unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
    }
    server.stop().await;
}
