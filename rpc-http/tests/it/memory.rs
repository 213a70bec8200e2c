//! What gRPC callers make the server hold counts in its account of memory.

use std::{io::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use demo_api::demo::kv::v1::{FetchReply, FetchRequest, ImportReply, SleepRequest, UpdateRequest};
use flate2::{Compression, write::GzEncoder};
use h2::{SendStream, client::ResponseFuture};
use rpc_runtime::{
    Limits,
    middleware::{self, Next, ServerCall},
    server::ServerHandle,
};
use test_support::{Logged, until};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

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
    // The last step of less than 16 KiB is not reported.
    held(&server.handle, |bytes| bytes >= 150_000 - (16 << 10)).await;
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

/// A server whose handlers begin once the returned `Semaphore` has room for them.
async fn waiting() -> (TestServer, Arc<Semaphore>) {
    let begin = Arc::new(Semaphore::new(0));
    let turns = Arc::clone(&begin);
    let wait = middleware::from_fn(move |call: ServerCall, next: Next<ServerCall>| {
        let turns = Arc::clone(&turns);
        async move {
            turns.acquire().await.unwrap().forget();
            next.run(call).await
        }
    });
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| server.layer(wait)).await;
    (server, begin)
}

#[tokio::test]
async fn a_request_counts_while_its_handler_runs() {
    let (server, begin) = waiting().await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_update", &[]).await;
    stream.send_data(update(300_000), true).unwrap();
    // Once: the request has gone on to the handler.
    held(&server.handle, |bytes| (300_000..400_000).contains(&bytes)).await;
    begin.add_permits(1);
    assert_eq!(Answer::read(response).await.code(), "0");
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_counts_as_long_as_it_is_decompressed() {
    let (server, begin) = waiting().await;
    let grpc = Caller::connect(&server.address).await;
    let mut gzip = GzEncoder::new(vec![1, 0, 0, 0, 0], Compression::default());
    gzip.write_all(&update(500_000)[5..]).unwrap();
    let mut body = gzip.finish().unwrap();
    let len = body.len() as u32 - 5;
    body[1..5].copy_from_slice(&len.to_be_bytes());
    assert!(len < 5_000, "{len}");
    let gzip = [("grpc-encoding", "gzip")];
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_update", &gzip).await;
    // At first the end of the body is missing, and then the handler waits.
    for rest in [body.into(), Bytes::new()] {
        let is_end = rest.is_empty();
        stream.send_data(rest, is_end).unwrap();
        held(&server.handle, |bytes| bytes >= 500_000).await;
    }
    begin.add_permits(1);
    assert_eq!(Answer::read(response).await.code(), "0");
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_not_read_counts_with_the_window_of_its_caller() {
    let (server, begin) = waiting().await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open(IMPORT, &[]).await;
    for _ in 0..4 {
        stream.send_data(update(100_000), false).unwrap();
    }
    // The first one fills the handler's window. The second one waits, and behind it the caller may send 256 KiB.
    held(&server.handle, |bytes| (462_000..500_000).contains(&bytes)).await;
    stream.send_data(Bytes::new(), true).unwrap();
    begin.add_permits(1);
    let answer = Answer::read(response).await;
    assert_eq!(answer.messages::<ImportReply>()[0].entries, 4);
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

/// Opens a call whose handler does not read, and sends more than that takes. Waits until `before`, two messages, and a window of `window` bytes count.
async fn unread(
    server: &TestServer,
    grpc: &Caller,
    before: u64,
    window: u64,
) -> (ResponseFuture, SendStream<Bytes>) {
    let (response, mut stream) = grpc.open(IMPORT, &[]).await;
    for _ in 0..4 {
        stream.send_data(update(100_000), false).unwrap();
    }
    let least = before + 200_000 + window;
    held(&server.handle, |bytes| (least..least + 40_000).contains(&bytes)).await;
    (response, stream)
}

#[tokio::test]
async fn streams_have_wider_windows_once_much_is_read_and_count_with_them() {
    let (server, begin) = waiting().await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = unread(&server, &grpc, 0, 256 << 10).await;
    // While a stream is not read, they stay as they are.
    let (updated, mut long) = grpc.open("/demo.kv.v1.Kv/rpc_update", &[]).await;
    long.send_data(update(2_000_000), true).unwrap();
    held(&server.handle, |bytes| bytes >= 2_000_000).await;
    let second = unread(&server, &grpc, 2_462_144, 256 << 10).await;
    drop(second);
    // Before it can take a turn.
    held(&server.handle, |bytes| bytes < 2_600_000).await;
    stream.send_data(Bytes::new(), true).unwrap();
    begin.add_permits(2);
    for response in [response, updated] {
        assert_eq!(Answer::read(response).await.code(), "0");
    }
    held(&server.handle, |bytes| bytes == 0).await;
    let wide = unread(&server, &grpc, 0, 1 << 20).await;
    drop(wide);
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_reply_counts_less_when_a_part_of_it_is_written() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let native = server.native().await;
    native.send_recv().update("k", vec![7; 300_000]).await.unwrap();
    let grpc = Caller::connect_with_window(&server.address, 40_000).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_fetch", &[]).await;
    let fetch = FetchRequest { key: "k".to_owned() };
    stream.send_data(prefixed(&fetch), true).unwrap();
    held(&server.handle, |bytes| (260_000..265_000).contains(&bytes)).await;
    // Reading opens the window.
    let answer = Answer::read(response).await;
    assert_eq!((answer.code(), answer.messages::<FetchReply>().len()), ("0", 1));
    held(&server.handle, |bytes| bytes == 0).await;
    drop((native, grpc));
    server.stop().await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The frames of a connection that opens all its windows, and fetches the value of `k` so often.
fn fetches(count: u32) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/demo.kv.v1.Kv/rpc_fetch"),
        (":authority", "test"),
        ("content-type", "application/grpc"),
    ] {
        // A literal that no table keeps.
        headers.extend([0, name.len() as u8]);
        headers.extend(name.bytes());
        headers.push(value.len() as u8);
        headers.extend(value.bytes());
    }
    let fetch = prefixed(&FetchRequest { key: "k".to_owned() });
    let window = 1u32 << 30;
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frames.extend(frame(4, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat()));
    frames.extend(frame(8, 0, 0, &window.to_be_bytes()));
    for stream in (0..count).map(|number| 2 * number + 1) {
        frames.extend(frame(1, 4, stream, &headers));
        frames.extend(frame(0, 1, stream, &fetch));
    }
    frames
}

#[tokio::test]
async fn replies_count_until_they_are_written_to_the_socket() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let native = server.native().await;
    // Less than h2 takes of a stream, whatever its peer reads.
    native.send_recv().update("k", vec![7; 200_000]).await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let address = server.address.trim_start_matches("tcp://").parse().unwrap();
    let mut socket = socket.connect(address).await.unwrap();
    // 12 MB, of which the OS takes 5 MB or less. Nothing of them is read.
    socket.write_all(&fetches(60)).await.unwrap();
    held(&server.handle, |bytes| bytes >= 5_000_000).await;
    until(|| server.handle.load().handler_tasks() == 0).await;
    // Nor does it become less by itself.
    sleep(Duration::from_millis(300)).await;
    held(&server.handle, |bytes| bytes >= 5_000_000).await;
    drop(socket);
    held(&server.handle, |bytes| bytes == 0).await;
    drop(native);
    server.stop().await;
}

#[tokio::test]
async fn a_long_frame_counts_before_it_is_whole() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let address = server.address.trim_start_matches("tcp://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    let data = frame(0, 0, 1, &[7; 60_000]);
    socket.write_all(&fetches(0)).await.unwrap();
    socket.write_all(&data[..40_009]).await.unwrap();
    held(&server.handle, |bytes| bytes == 40_000).await;
    drop(socket);
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_header_block_counts_before_it_is_whole() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let address = server.address.trim_start_matches("tcp://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&fetches(0)).await.unwrap();
    // The name of a header, of which 200,000 bytes are announced.
    let name = [&[0, 0x7f, 0xc1, 0x99, 0x0c][..], &[b'x'; 49_995]].concat();
    socket.write_all(&frame(1, 0, 1, &name)).await.unwrap();
    socket.write_all(&frame(9, 0, 1, &[b'x'; 20_000])).await.unwrap();
    held(&server.handle, |bytes| bytes == 70_000).await;
    drop(socket);
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_reply_counts_no_longer_when_its_caller_gives_it_up() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let native = server.native().await;
    native.send_recv().update("k", vec![7; 300_000]).await.unwrap();
    let grpc = Caller::connect_with_window(&server.address, 40_000).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_fetch", &[]).await;
    let fetch = FetchRequest { key: "k".to_owned() };
    stream.send_data(prefixed(&fetch), true).unwrap();
    held(&server.handle, |bytes| bytes >= 260_000).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    held(&server.handle, |bytes| bytes == 0).await;
    // The connection goes on.
    let pinged = grpc.call(IMPORT, &[], update(10)).await;
    assert_eq!(pinged.code(), "0");
    drop((native, grpc));
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
    held(&server.handle, |bytes| bytes >= before + 200_000 + (256 << 10)).await;
    drop(open);
    held(&server.handle, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_holds_its_part_is_refused_more_and_others_are_not() {
    let logged = Logged::here();
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
    let named = logged.picked("a limit refuses requests", &["limit"]);
    assert_eq!(named, ["ServerBuilder::max_buffered_bytes"]);
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
