//! Peers that send too much, too slowly, or what HTTP/2 does not allow. tests/attacks has more of them.

use std::time::Duration;

use bytes::Bytes;
use demo_api::demo::kv::v1::{FetchRequest, PingRequest, SleepRequest};
use h2::Reason;
use rpc_http::Http;
use rpc_runtime::{Limits, server::Counters};
use test_support::{Logged, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    TestServer,
    caller::{Answer, Caller, prefixed},
};

const FETCH: &str = "/demo.kv.v1.Kv/rpc_fetch";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SHORT: Duration = Duration::from_millis(50);
/// Short, but not too short for the connection within the process, which has the same limits.
const SECOND: Duration = Duration::from_secs(1);

async fn raw(server: &TestServer, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(server.address.trim_start_matches("tcp://"))
        .await
        .unwrap();
    // The server may close before it has read all.
    let _ = socket.write_all(bytes).await;
    socket
}

/// Reads until the server ends the connection.
async fn ended(mut socket: TcpStream) {
    let mut bytes = Vec::new();
    let _ = timeout(Duration::from_secs(60), socket.read_to_end(&mut bytes))
        .await
        .unwrap();
}

async fn counted(server: &TestServer, count: impl Fn(&Counters) -> u64, expected: u64) {
    let counting = async {
        while count(&server.handle.counters()) < expected {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let counted = timeout(Duration::from_secs(60), counting).await;
    assert!(counted.is_ok(), "{}", server.handle.counters());
    assert_eq!(count(&server.handle.counters()), expected);
}

#[tokio::test]
async fn each_end_of_a_connection_is_counted() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    ended(raw(&server, b"PRIVATE protocol, whose first byte is that of HTTP/2").await).await;
    counted(&server, Counters::handshakes_rejected, 1).await;
    // DATA of stream 0.
    let malformed = [PREFACE, b"\0\0\x01\0\0\0\0\0\0x"].concat();
    ended(raw(&server, &malformed).await).await;
    counted(&server, Counters::ended_by_protocol, 1).await;
    // CONTINUATIONs without end.
    let mut endless = [PREFACE, b"\0\0\0\x01\0\0\0\0\x01"].concat();
    endless.extend_from_slice(&b"\0\0\0\x09\0\0\0\0\x01".repeat(50));
    ended(raw(&server, &endless).await).await;
    counted(&server, Counters::ended_by_excess, 1).await;
    // A name of 200,000 bytes, in three frames.
    let name = [&b"\0\x7f\xc1\x99\x0c"[..], &[b'x'; 199_995]].concat();
    let mut long = PREFACE.to_vec();
    for (kind, part) in [1, 9, 9].into_iter().zip(name.chunks(70_000)) {
        let [_, len @ ..] = (part.len() as u32).to_be_bytes();
        long.extend([&len[..], &[kind, 0, 0, 0, 0, 1], part].concat());
    }
    ended(raw(&server, &long).await).await;
    counted(&server, Counters::ended_by_excess, 2).await;
    server.stop().await;
}

#[tokio::test]
async fn a_preface_that_does_not_come_is_counted() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.limits(Limits::default().handshake_timeout(SHORT))
    })
    .await;
    let slow = raw(&server, &PREFACE[..10]).await;
    counted(&server, Counters::handshakes_timed_out, 1).await;
    ended(slow).await;
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_pings_ends_its_connection() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let mut flood = PREFACE.to_vec();
    // 17 bytes each.
    flood.extend_from_slice(&b"\0\0\x08\x06\0\0\0\0\0 a PING ".repeat(40_000));
    let socket = TcpStream::connect(server.address.trim_start_matches("tcp://"))
        .await
        .unwrap();
    let (mut reader, mut writer) = socket.into_split();
    // The answers are read, so that the server reads on.
    let reading = tokio::spawn(async move {
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes).await;
    });
    let _ = writer.write_all(&flood).await;
    counted(&server, Counters::ended_by_excess, 1).await;
    timeout(Duration::from_secs(60), reading).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_silent_peer_is_given_up_and_counted() {
    let logged = Logged::here();
    let guest = Http::new().grpc().keep_alive(SHORT).keep_alive_timeout(SHORT);
    for (guest, names_its_setting) in [(guest.clone(), true), (guest.with_fixed_limits(), false)] {
        let server = TestServer::with_guest(guest).await;
        ended(raw(&server, PREFACE).await).await;
        counted(&server, Counters::ended_by_silence, 1).await;
        server.stop().await;
        let all = logged.all();
        assert!(all.contains("nothing came in 50ms after a PING"), "{all}");
        assert_eq!(
            all.contains("Http::keep_alive_timeout"),
            names_its_setting,
            "{all}"
        );
        logged.clear();
    }
}

#[tokio::test]
async fn faults_end_a_connection_and_good_requests_make_up_for_them() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.limits(Limits::default().max_faults(5))
    })
    .await;
    let grpc = Caller::connect(&server.address).await;
    let unknown = || grpc.call("/demo.kv.v1.Kv/rpc_none", &[], Bytes::new());
    for _ in 0..4 {
        assert_eq!(unknown().await.code(), "12");
    }
    for _ in 0..10 {
        let ping = prefixed(&PingRequest::default());
        assert_eq!(grpc.call("/demo.kv.v1.Kv/rpc_ping", &[], ping).await.code(), "0");
    }
    assert_eq!(unknown().await.code(), "12");
    assert_eq!(server.handle.counters().ended_by_excess(), 0);
    assert_eq!(unknown().await.code(), "12");
    counted(&server, Counters::ended_by_excess, 1).await;
    let connection = timeout(Duration::from_secs(60), grpc.connection).await;
    connection.unwrap().unwrap().unwrap();
    assert_eq!(server.handle.counters().unknown_procedures(), 6);
    server.stop().await;
}

#[tokio::test]
async fn a_header_list_over_its_limit_is_refused() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let long = "x".repeat(17 << 10);
    let (response, _stream) = grpc.open(FETCH, &[("long", &long)]).await;
    assert_eq!(response.await.unwrap().status(), 431);
    let answer = grpc.call(FETCH, &[], prefixed(&FetchRequest::default())).await;
    assert_eq!(answer.status, 200, "the connection goes on");
    server.stop().await;
}

#[tokio::test]
async fn a_stream_over_the_limit_is_refused() {
    let server = TestServer::with_guest(Http::new().grpc().max_streams(2)).await;
    // POST, http, and a literal path and content type.
    let mut block = b"\x83\x86\x04\x17/demo.kv.v1.Kv/rpc_ping".to_vec();
    block.extend_from_slice(b"\0\x0ccontent-type\x10application/grpc");
    let mut bytes = PREFACE.to_vec();
    for stream in [1, 3, 5] {
        bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 4, 0, 0, 0, stream]);
        bytes.extend_from_slice(&block);
    }
    let mut socket = raw(&server, &bytes).await;
    let refused = async {
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            socket.read_exact(&mut payload).await.unwrap();
            // RST_STREAM.
            if head[3] == 3 {
                return (head[8], payload[3]);
            }
        }
    };
    let refused = timeout(Duration::from_secs(60), refused).await.unwrap();
    assert_eq!(refused, (5, 7), "stream 5 gets REFUSED_STREAM");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_go_on_ends_its_call() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.limits(Limits::default().slow_frame(SECOND))
    })
    .await;
    let grpc = Caller::connect(&server.address).await;
    let whole = prefixed(&PingRequest::default());
    // Nothing, a part, and all but the end.
    for (path, len) in [
        ("/demo.kv.v1.Kv/rpc_ping", 0),
        ("/demo.kv.v1.Kv/rpc_ping", whole.len()),
        ("/demo.kv.v1.Kv/rpc_import", 3),
    ] {
        let (response, mut stream) = grpc.open(path, &[]).await;
        stream.send_data(whole.slice(..len), false).unwrap();
        let answer = timeout(Duration::from_secs(60), Answer::read(response))
            .await
            .unwrap();
        assert_eq!(answer.code(), "8", "{path} {len}");
        assert!(answer.text().contains("Limits::slow_frame"), "{}", answer.text());
    }
    counted(&server, Counters::other_faults, 3).await;
    server.stop().await;
}

#[tokio::test]
async fn a_long_frame_that_does_not_go_on_ends_its_connection() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.limits(Limits::default().slow_frame(SECOND))
    })
    .await;
    // DATA of 65,536 bytes, of which 40,000 come.
    let begun = [PREFACE, b"\x01\0\0\0\0\0\0\0\x01", &[7; 40_000]].concat();
    ended(raw(&server, &begun).await).await;
    counted(&server, Counters::ended_by_slow_frame, 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_stream_without_a_message_under_way_may_wait() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.limits(Limits::default().slow_frame(SECOND))
    })
    .await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_import", &[]).await;
    sleep(2 * SECOND).await;
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(Answer::read(response).await.code(), "0");
    server.stop().await;
}

#[tokio::test]
async fn a_reply_that_is_not_taken_ends_its_call() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.limits(Limits::default().write_stall(SECOND))
    })
    .await;
    let grpc = Caller::connect_with_window(&server.address, 0).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_ping", &[]).await;
    let ping = prefixed(&PingRequest {
        text: "hello".to_owned(),
    });
    stream.send_data(ping, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let error = timeout(Duration::from_secs(60), body.data()).await.unwrap();
    assert_eq!(error.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
    counted(&server, Counters::other_faults, 1).await;
    server.stop().await;
}

/// Opens `count` calls that hang, waits until the server runs them all, and gives them up; less if the connection ends.
async fn give_up(server: &TestServer, grpc: &Caller, count: usize) {
    let mut open = Vec::new();
    for _ in 0..count {
        let Ok((response, mut stream)) = grpc.try_open("/demo.kv.v1.Kv/rpc_sleep", &[]).await else {
            return;
        };
        // It fails if the connection has ended.
        let _ = stream.send_data(prefixed(&SleepRequest { millis: u32::MAX }), true);
        open.push((response, stream));
    }
    until(|| grpc.connection.is_finished() || server.handle.load().handler_tasks() == count).await;
    drop(open);
    until(|| server.handle.load().handler_tasks() == 0).await;
}

async fn ping(grpc: &Caller) {
    let ping = prefixed(&PingRequest::default());
    assert_eq!(grpc.call("/demo.kv.v1.Kv/rpc_ping", &[], ping).await.code(), "0");
}

#[tokio::test]
async fn a_caller_may_give_up_all_its_calls_some_times() {
    let server = TestServer::with_guest(Http::new().grpc().max_streams(50)).await;
    let grpc = Caller::connect(&server.address).await;
    for _ in 0..4 {
        give_up(&server, &grpc, 50).await;
    }
    ping(&grpc).await;
    assert_eq!(server.handle.counters().ended_by_excess(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_makes_calls_only_to_give_them_up_is_sent_away() {
    let server = TestServer::with_guest(Http::new().grpc().max_streams(50)).await;
    let grpc = Caller::connect(&server.address).await;
    let (native, other) = (server.native().await, Caller::connect(&server.address).await);
    // All run at the server before they are given up. Time gives some back, so it may take more than five rounds.
    let giving_up = async {
        while !grpc.connection.is_finished() {
            give_up(&server, &grpc, 50).await;
        }
    };
    timeout(Duration::from_secs(60), giving_up).await.unwrap();
    let error = grpc.connection.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
    counted(&server, Counters::ended_by_excess, 1).await;
    // Others notice nothing.
    native.send_recv().ping("hello").await.unwrap();
    ping(&other).await;
    drop(native);
    server.stop().await;
}
