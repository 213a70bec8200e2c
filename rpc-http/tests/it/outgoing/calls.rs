//! Calls of all kinds, at our own gRPC port.

use std::time::Duration;

use bytes::Bytes;
use demo_api::demo::kv::v1::{Command, KeyRefused, KvClient, UpdateRequest, WatcherClient};
use rpc_http::Grpc;
use rpc_runtime::{
    Client, Code, Executed, Limits,
    client::DropReason,
    middleware::{self, ServerCall},
    server::Procedure,
};
use tokio::time::timeout;

use super::{builder, connect, grpc};
use crate::TestServer;

const LONG: Duration = Duration::from_secs(60);

/// Makes calls of all kinds.
pub(super) async fn all_kinds(kv: &KvClient) {
    kv.send_recv().noop().await.unwrap();
    kv.send_recv().update("dog", &b"woof"[..]).await.unwrap();
    let value = kv.send_recv().fetch("dog").await.unwrap();
    assert_eq!(value.as_deref(), Some(&b"woof"[..]));
    assert_eq!(kv.send_recv().fetch("cat").await.unwrap(), None);
    assert_eq!(kv.send_recv().ping("hello").await.unwrap(), "hello");

    let mut events = kv.send_recv().watch("d").await.unwrap();
    let event = events.message().await.unwrap().unwrap();
    assert_eq!((&event.key[..], &event.value[..]), ("dog", &b"woof"[..]));
    kv.send_recv().update("duck", &b"quack"[..]).await.unwrap();
    assert_eq!(events.message().await.unwrap().unwrap().key, "duck");
    drop(events);

    let (mut entries, imported) = kv.send_recv().import().await.unwrap();
    for number in 0..1000 {
        let key = format!("import/{number}");
        let value = Bytes::from_static(b"v");
        entries.send(UpdateRequest { key, value }).await.unwrap();
    }
    entries.finish();
    assert_eq!(imported.await.unwrap(), 1000);

    let (mut commands, mut answers) = kv.send_recv().session().await.unwrap();
    for before in [None, Some(&b"1"[..]), Some(&b"2"[..])] {
        let value = Some(Bytes::from_static(if before.is_none() { b"1" } else { b"2" }));
        let key = "session".to_owned();
        commands.send(Command { key, value }).await.unwrap();
        // Each command waits for the answer to the one before.
        assert_eq!(
            answers.message().await.unwrap().unwrap().before.as_deref(),
            before
        );
    }
    commands.finish();
    assert!(answers.message().await.unwrap().is_none());
}

async fn calls_of_all_kinds(listener: &str) {
    let server = TestServer::start(listener).await;
    let kv = connect(&server.address).await;
    all_kinds(&kv).await;
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn calls_of_all_kinds_go_over_tcp() {
    calls_of_all_kinds("tcp://127.0.0.1:0").await;
}

#[tokio::test]
async fn calls_of_all_kinds_go_over_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("rpc-http-outgoing-{}", std::process::id()));
    calls_of_all_kinds(&format!("unix:{}", path.display())).await;
}

#[tokio::test]
async fn long_messages_and_gzip_go_both_ways() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let kv: KvClient = KvClient::builder(grpc(&server.address))
        .protocol(Grpc::new().gzip())
        .connect_lazy();
    let long = Bytes::from(vec![7; 3_000_000]);
    kv.send_recv().update("long", long.clone()).await.unwrap();
    assert_eq!(kv.send_recv().fetch("long").await.unwrap(), Some(long));
    let text = "text".repeat(10_000);
    assert_eq!(kv.send_recv().ping(text.clone()).await.unwrap(), text);
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn a_reply_over_the_limit_fails_only_its_own_call() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let kv = builder(&grpc(&server.address))
        .limits(Limits::default().max_message(100_000))
        .connect()
        .await
        .unwrap();
    let native = server.native().await;
    native.send_recv().update("long", vec![0; 200_000]).await.unwrap();
    let error = kv.send_recv().fetch("long").await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert_eq!(kv.send_recv().ping("on").await.unwrap(), "on");
    drop((kv, native));
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_has_its_code_text_and_details() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let kv = connect(&server.address).await;
    let error = kv.send_recv().update("", &b"v"[..]).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::Yes)
    );
    assert_eq!(error.message(), "a key has 1 to 256 bytes, this one has 0");
    let details: KeyRefused = error.details_as().unwrap().unwrap();
    assert_eq!(details.max_len, 256);
    assert_eq!(error.peer(), Some(&*grpc(&server.address)));
    assert_eq!(error.procedure(), Some("demo.kv.v1.Kv/rpc_update"));
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn metadata_goes_both_ways() {
    let echo = middleware::from_fn(async |call: ServerCall, next| {
        let sent = call.metadata().clone();
        let mut answer = next.run(call).await?;
        for (key, value) in &sent {
            if key.starts_with("x-") || key == "authorization" {
                answer.metadata_mut().append(key, value.clone());
            }
        }
        Ok(answer)
    });
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| server.layer(echo)).await;
    let kv = builder(&grpc(&server.address))
        .metadata("x-tenant", "acme")
        .connection_metadata("x-build", "7")
        .token("secret")
        .dangerous_token_over_plain_tcp()
        .connect()
        .await
        .unwrap();
    let call = kv
        .send_recv()
        .metadata("x-blob-bin", vec![0, 255])
        .metadata("x-build", "8");
    let ((), receipt) = call.noop().with_receipt().await.unwrap();
    let echoed = receipt.metadata();
    assert_eq!(echoed.get_str("x-tenant"), Some("acme"));
    assert_eq!(echoed.get_str("x-build"), Some("8"), "the call's own");
    assert_eq!(echoed.get_str("authorization"), Some("Bearer secret"));
    assert_eq!(
        echoed.get("x-blob-bin").map(|value| &value[..]),
        Some(&[0, 255][..])
    );
    let ((), receipt) = kv.send_recv().noop().with_receipt().await.unwrap();
    assert_eq!(receipt.metadata().get_str("x-build"), Some("7"));
    let error = kv
        .send_recv()
        .metadata("x-text", "größe")
        .noop()
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::No)
    );
    assert!(
        error.message().contains("give the key the ending \"-bin\""),
        "{error}"
    );
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_and_a_cancellation_reach_the_handler() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let kv = connect(&server.address).await;
    let idle = async || {
        while server.handle.load().handler_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let late = kv.send_recv().timeout(Duration::from_millis(30)).sleep(u32::MAX);
    let error = late.await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.executed(), Executed::Maybe);
    timeout(LONG, idle()).await.unwrap();
    let long = {
        let kv = kv.clone();
        tokio::spawn(async move { kv.send_recv().timeout(None).sleep(u32::MAX).await })
    };
    while server.handle.load().handler_tasks() == 0 {
        tokio::task::yield_now().await;
    }
    long.abort();
    timeout(LONG, idle()).await.unwrap();
    // The connection goes on.
    kv.send_recv().noop().await.unwrap();
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn a_barrier_waits_for_one_way_calls_and_counts_them() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let kv = connect(&server.address).await;
    for number in 0..100 {
        kv.send().update(format!("key{number}"), &b"v"[..]).await.unwrap();
    }
    kv.send().update("", &b"v"[..]).await.unwrap();
    kv.send().sleep(50).await.unwrap();
    let account = kv.barrier().await.unwrap();
    assert_eq!((account.received(), account.pending()), (102, 0), "{account}");
    assert_eq!((account.handled(), account.failed()), (101, 1), "{account}");
    assert!(kv.send_recv().fetch("key99").await.unwrap().is_some());
    // One that no server gets is counted, too.
    kv.send().metadata("x-text", "größe").noop().await.unwrap();
    let account = kv.settled().await.unwrap();
    let dropped: u64 = account.dropped().map(|(_, count)| count).sum();
    assert_eq!((account.received(), dropped), (103, 1), "{account}");
    assert!(
        account
            .dropped()
            .all(|(reason, _)| reason == DropReason::Draining)
    );
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn flush_and_close_wait_until_one_way_calls_have_arrived() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let (kv, native) = (connect(&server.address).await, server.native().await);
    kv.send().update("flushed", &b"v"[..]).await.unwrap();
    kv.flush().await.unwrap();
    assert!(native.send_recv().fetch("flushed").await.unwrap().is_some());
    kv.send().update("closed", &b"v"[..]).await.unwrap();
    kv.close().await.unwrap();
    assert!(native.send_recv().fetch("closed").await.unwrap().is_some());
    drop(native);
    server.stop().await;
}

#[tokio::test]
async fn replies_that_are_not_read_stop_no_other_call() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let kv = connect(&server.address).await;
    let value = Bytes::from(vec![1; 100_000]);
    for number in 0..100 {
        let key = format!("big/{number:03}");
        kv.send_recv().update(key, value.clone()).await.unwrap();
    }
    let mut unread = kv.send_recv().timeout(None).watch("big/").await.unwrap();
    for _ in 0..100 {
        let mut read = kv.send_recv().watch("big/").await.unwrap();
        assert!(read.message().await.unwrap().is_some());
        assert_eq!(kv.send_recv().ping("on").await.unwrap(), "on");
    }
    for number in 0..100 {
        let event = unread.message().await.unwrap().unwrap();
        assert_eq!(
            (event.key, event.value.len()),
            (format!("big/{number:03}"), 100_000)
        );
    }
    drop((kv, unread));
    server.stop().await;
}

static NOOP: [Procedure; 1] = [Procedure::new("demo.kv.v1.Kv/rpc_noop", 0x2678_3453_93d9_212e)];

#[tokio::test]
async fn a_client_learns_procedures_after_it_has_connected() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let client: Client = Client::builder(grpc(&server.address))
        .protocol(Grpc::new())
        .connect()
        .await
        .unwrap();
    let error = client.call().send_recv::<_, ()>(&NOOP[0], ()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unimplemented, Executed::No)
    );
    assert!(error.message().contains("Client::with_procedures"), "{error}");
    let client = client.with_procedures(&NOOP);
    let () = client.call().send_recv(&NOOP[0], ()).await.unwrap();
    // Clients that are generated know their own.
    let kv = KvClient::new(client.clone());
    assert_eq!(kv.send_recv().ping("on").await.unwrap(), "on");
    let error = WatcherClient::new(client)
        .send_recv()
        .missed(1u64)
        .await
        .unwrap_err();
    assert_eq!(error.message(), "no procedure demo.kv.v1.Watcher/rpc_missed");
    drop(kv);
    server.stop().await;
}
