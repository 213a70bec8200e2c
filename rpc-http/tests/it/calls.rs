//! Calls of all four kinds, and what handlers notice of them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use demo_api::demo::kv::v1::{
    Answer as SessionAnswer, Command, FetchReply, FetchRequest, ImportReply, SleepRequest, UpdateRequest,
    WatchEvent, WatchRequest,
};
use rpc_runtime::auth::{Asked, Decision, policy_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    TestServer,
    caller::{Answer, Caller, prefixed, read_chunk, take_message},
};

fn update(key: &str, value: &'static [u8]) -> UpdateRequest {
    UpdateRequest {
        key: key.to_owned(),
        value: Bytes::from_static(value),
    }
}

fn fetch(key: &str) -> FetchRequest {
    FetchRequest { key: key.to_owned() }
}

async fn both_protocols_meet(listener: &str) {
    let server = TestServer::start(listener).await;
    let (grpc, native) = (Caller::connect(&server.address).await, server.native().await);
    let stored = grpc
        .call(
            "/demo.kv.v1.Kv/rpc_update",
            &[],
            prefixed(&update("dog", b"woof")),
        )
        .await;
    assert_eq!((stored.status.as_u16(), stored.code()), (200, "0"));
    assert_eq!(stored.headers["content-type"], "application/grpc");
    assert_eq!(
        native.send_recv().fetch("dog").await.unwrap().as_deref(),
        Some(&b"woof"[..])
    );
    native.send_recv().update("cat", &b"meow"[..]).await.unwrap();
    let fetched = grpc
        .call("/demo.kv.v1.Kv/rpc_fetch", &[], prefixed(&fetch("cat")))
        .await;
    let [reply] = &fetched.messages::<FetchReply>()[..] else {
        panic!("{fetched:?}")
    };
    assert_eq!(reply.value.as_deref(), Some(&b"meow"[..]));
    drop((grpc, native));
    server.stop().await;
}

#[tokio::test]
async fn both_protocols_share_a_tcp_port() {
    both_protocols_meet("tcp://127.0.0.1:0").await;
}

#[tokio::test]
async fn both_protocols_share_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("rpc-http-{}", std::process::id()));
    both_protocols_meet(&format!("unix:{}", path.display())).await;
}

#[tokio::test]
async fn messages_of_any_length_arrive_as_they_are() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    // Copied or not, in one frame or in several, and more than the caller takes at once.
    for len in [0, 100, 16_000, 16_384, 30_000, 65_536, 80_000, 300_000] {
        let value = Bytes::from_iter((0..len).map(|at| (at % 251) as u8));
        let stored = UpdateRequest {
            key: "long".to_owned(),
            value: value.clone(),
        };
        let stored = grpc
            .call("/demo.kv.v1.Kv/rpc_update", &[], prefixed(&stored))
            .await;
        assert_eq!(stored.code(), "0", "{len}");
        let fetched = grpc
            .call("/demo.kv.v1.Kv/rpc_fetch", &[], prefixed(&fetch("long")))
            .await;
        let [reply] = &fetched.messages::<FetchReply>()[..] else {
            panic!("{len}: {fetched:?}")
        };
        assert!(reply.value.as_ref() == Some(&value), "{len}");
    }
    drop(grpc);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_of_requests_is_read_to_its_end() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_import", &[]).await;
    // Three messages: two in one frame, the third in pieces.
    let mut two = BytesMut::from(&prefixed(&update("a", b"1"))[..]);
    two.extend_from_slice(&prefixed(&update("b", b"2")));
    stream.send_data(two.freeze(), false).unwrap();
    let third = prefixed(&update("c", b"3"));
    stream.send_data(third.slice(..3), false).unwrap();
    stream.send_data(third.slice(3..), true).unwrap();
    let answer = Answer::read(response).await;
    assert_eq!(answer.code(), "0");
    assert_eq!(answer.messages::<ImportReply>(), [ImportReply { entries: 3 }]);
    server.stop().await;
}

#[tokio::test]
async fn streams_of_both_sides_take_turns() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_session", &[]).await;
    let command = |value: &'static [u8]| {
        prefixed(&Command {
            key: "k".to_owned(),
            value: Some(Bytes::from_static(value)),
        })
    };
    stream.send_data(command(b"1"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut befores = Vec::new();
    for value in [&b"2"[..], b"3"] {
        // Each command waits for the answer to the one before.
        let mut chunk = read_chunk(&mut body).await.unwrap();
        befores.push(take_message::<SessionAnswer>(&mut chunk).unwrap().before);
        stream.send_data(command(value), false).unwrap();
    }
    let mut chunk = read_chunk(&mut body).await.unwrap();
    befores.push(take_message::<SessionAnswer>(&mut chunk).unwrap().before);
    stream.send_data(Bytes::new(), true).unwrap();
    assert!(read_chunk(&mut body).await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    assert_eq!(
        befores,
        [
            None,
            Some(Bytes::from_static(b"1")),
            Some(Bytes::from_static(b"2"))
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_drain_ends_a_stream_of_replies_well() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    server
        .native()
        .await
        .send_recv()
        .update("dog", &b"woof"[..])
        .await
        .unwrap();
    let grpc = Caller::connect(&server.address).await;
    let watch = WatchRequest {
        prefix: "d".to_owned(),
    };
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_watch", &[]).await;
    stream.send_data(prefixed(&watch), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut chunk = read_chunk(&mut body).await.unwrap();
    assert_eq!(take_message::<WatchEvent>(&mut chunk).unwrap().key, "dog");
    let stopped = tokio::spawn(server.stop());
    assert!(read_chunk(&mut body).await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    drop((stream, body));
    assert!(stopped.await.unwrap().is_clean());
    grpc.connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn replies_that_have_come_share_frames() {
    const EVENTS: usize = 200;
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let native = server.native().await;
    for number in 0..EVENTS {
        let key = format!("d{number:03}");
        native.send_recv().update(key, &b"woof"[..]).await.unwrap();
    }
    let grpc = Caller::connect(&server.address).await;
    let watch = WatchRequest {
        prefix: "d".to_owned(),
    };
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_watch", &[]).await;
    stream.send_data(prefixed(&watch), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let (mut keys, mut frames) = (Vec::new(), 0);
    while keys.len() < EVENTS {
        let mut chunk = read_chunk(&mut body).await.unwrap();
        frames += 1;
        // The window has room, so no message is cut.
        while let Some(event) = take_message::<WatchEvent>(&mut chunk) {
            keys.push(event.key);
        }
    }
    let sorted: Vec<_> = (0..EVENTS).map(|number| format!("d{number:03}")).collect();
    keys.sort();
    assert_eq!(keys, sorted);
    assert!(frames < EVENTS / 2, "{frames} frames");
    drop((stream, body, grpc, native));
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_and_a_cancellation_reach_the_handler() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let long = prefixed(&SleepRequest { millis: u32::MAX });
    let answer = grpc
        .call(
            "/demo.kv.v1.Kv/rpc_sleep",
            &[("grpc-timeout", "20m")],
            long.clone(),
        )
        .await;
    assert_eq!(answer.code(), "4", "{answer:?}");
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_sleep", &[]).await;
    stream.send_data(long, true).unwrap();
    while server.handle.load().handler_tasks() == 0 {
        tokio::task::yield_now().await;
    }
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    let gone = async {
        while server.handle.load().handler_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_stream_of_many_short_messages_keeps_its_connection() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_import", &[]).await;
    // One frame for each.
    for _ in 0..20_000 {
        stream.send_data(prefixed(&update("k", b"v")), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let answer = Answer::read(response).await;
    assert_eq!(
        answer.messages::<ImportReply>(),
        [ImportReply { entries: 20_000 }]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_covers_a_body_that_never_comes() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let (response, _stream) = grpc
        .open("/demo.kv.v1.Kv/rpc_ping", &[("grpc-timeout", "20m")])
        .await;
    assert_eq!(Answer::read(response).await.code(), "4");
    server.stop().await;
}

#[tokio::test]
async fn peers_that_say_nothing_do_not_hold_up_a_drain() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.drain_timeout(Duration::from_secs(3600))
    })
    .await;
    let address = server.address.trim_start_matches("tcp://").to_owned();
    // One has sent its preface and answers no PING, one has begun its preface, and one has sent nothing.
    let mut peers = Vec::new();
    for sent in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        b"P",
        b"",
    ] {
        let mut peer = TcpStream::connect(&address).await.unwrap();
        peer.write_all(sent).await.unwrap();
        peers.push(peer);
    }
    // The settings of the server, so that the first one is served.
    peers[0].read_exact(&mut [0; 9]).await.unwrap();
    timeout(Duration::from_secs(60), server.stop()).await.unwrap();
}

#[tokio::test]
async fn a_policy_sees_the_grpc_caller() {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&peers);
    let policy = policy_fn(move |asked: Asked| {
        seen.lock().unwrap().push(asked.peer().address().to_owned());
        let is_admin = asked.metadata().get_str("x-role") == Some("admin");
        async move {
            match is_admin {
                true => Decision::Allowed,
                false => Decision::denied("no admin"),
            }
        }
    });
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| server.policy(policy)).await;
    let grpc = Caller::connect(&server.address).await;
    for (role, code) in [("admin", "0"), ("guest", "7")] {
        let answer = grpc
            .call(
                "/demo.kv.v1.Kv/rpc_fetch",
                &[("x-role", role)],
                prefixed(&fetch("k")),
            )
            .await;
        assert_eq!(answer.code(), code, "{role}");
    }
    let peers = std::mem::take(&mut *peers.lock().unwrap());
    assert_eq!(peers.len(), 2);
    assert!(
        peers[0] == peers[1] && peers[0].starts_with("tcp://127.0.0.1:"),
        "{peers:?}"
    );
    assert_ne!(peers[0], server.address, "it is the caller's end");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_stream_of_long_messages_goes_on_to_its_end() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_import", &[]).await;
    let message = prefixed(&UpdateRequest {
        key: "k".to_owned(),
        value: vec![7; 64 << 10].into(),
    });
    for _ in 0..1000 {
        stream.send_data(message.clone(), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let answer = timeout(Duration::from_secs(60), response).await;
    assert!(answer.is_ok(), "the stream stands still");
    server.stop().await;
}
