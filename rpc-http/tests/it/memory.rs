//! What gRPC callers make the server hold counts in its account of memory.

use std::time::Duration;

use bytes::Bytes;
use demo_api::demo::kv::v1::{FetchRequest, SleepRequest, UpdateRequest};
use rpc_runtime::{Limits, server::ServerHandle};
use tokio::time::{sleep, timeout};

use crate::{
    TestServer,
    caller::{Answer, Caller, prefixed},
};

const IMPORT: &str = "/demo.kv.v1.Kv/rpc_import";

fn update(len: usize) -> Bytes {
    prefixed(&UpdateRequest {
        key: "k".to_owned(),
        value: vec![7; len].into(),
    })
}

/// Waits until what the server holds is as `wanted` says.
async fn held(handle: &ServerHandle, wanted: impl Fn(u64) -> bool) {
    let waiting = async {
        while !wanted(handle.buffered_bytes()) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = timeout(Duration::from_secs(60), waiting).await;
    assert!(waited.is_ok(), "{} bytes are held", handle.buffered_bytes());
}

#[tokio::test]
async fn a_body_counts_while_it_is_gathered() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open(IMPORT, &[]).await;
    stream.send_data(update(200_000).slice(..150_000), false).unwrap();
    held(&server.handle, |bytes| bytes >= 150_000).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_reply_counts_until_it_is_taken() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let native = server.native().await;
    native.send_recv().update("k", vec![7; 300_000]).await.unwrap();
    let grpc = Caller::connect_with_window(&server.address, 0).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_fetch", &[]).await;
    let fetch = FetchRequest { key: "k".to_owned() };
    stream.send_data(prefixed(&fetch), true).unwrap();
    held(&server.handle, |bytes| bytes >= 300_000).await;
    drop((response, stream, grpc));
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_counts() {
    const SLOTS: u32 = 16;
    let limits = Limits::default().max_calls(SLOTS);
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| server.limits(limits)).await;
    let grpc = Caller::connect(&server.address).await;
    let sleep = prefixed(&SleepRequest { millis: 3_600_000 });
    let mut open = Vec::new();
    for _ in 0..SLOTS {
        let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_sleep", &[]).await;
        stream.send_data(sleep.clone(), true).unwrap();
        open.push((response, stream));
    }
    while server.handle.load().handler_tasks() < SLOTS as usize {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = server.handle.buffered_bytes();
    assert!(before < 100_000, "{before}");

    // One whose message is here, and one whose body is not read.
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_update", &[]).await;
    stream.send_data(update(200_000), true).unwrap();
    open.push((response, stream));
    held(&server.handle, |bytes| bytes >= before + 200_000).await;
    let (response, stream) = grpc.open(IMPORT, &[]).await;
    open.push((response, stream));
    held(&server.handle, |bytes| bytes >= before + 200_000 + (64 << 10)).await;
    drop(open);
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_holds_its_part_is_refused_more_and_others_are_not() {
    let server =
        TestServer::start_with("tcp://127.0.0.1:0", |server| server.max_buffered_bytes(3 << 20)).await;
    let native = server.native().await;
    let grpc = Caller::connect(&server.address).await;
    let half = update(200_000).slice(..100_000);
    let mut open = Vec::new();
    let refused = loop {
        let (response, mut stream) = grpc.open(IMPORT, &[]).await;
        stream.send_data(half.clone(), false).unwrap();
        // Either its half is held, or it is refused.
        let before = server.handle.counters().calls_refused();
        let all = (open.len() as u64 + 1) * 100_000;
        held(&server.handle, |bytes| {
            bytes >= all || server.handle.counters().calls_refused() > before
        })
        .await;
        if server.handle.counters().calls_refused() > before {
            break response;
        }
        open.push((response, stream));
        assert!(open.len() < 20, "nothing is refused");
    };
    let answer = Answer::read(refused).await;
    assert_eq!(answer.code(), "8", "{answer:?}");
    assert!(open.len() >= 8, "{} calls hold their half", open.len());
    // A third of 3 MiB, and the calls themselves.
    assert!(server.handle.buffered_bytes() <= 1_100_000);
    native.send_recv().ping("others go on").await.unwrap();
    let other = Caller::connect(&server.address).await;
    let pinged = other.call("/demo.kv.v1.Kv/rpc_import", &[], update(10_000)).await;
    assert_eq!(pinged.code(), "0");
    drop(open);
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}
