//! Compression, if both sides have turned it on.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rpc_runtime::{
    Client, Code, Compression, Context, Executed, Message, Requests,
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{lab::*, wire::*, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
};

const BOTH: [Compression; 2] = [Compression::Lz4, Compression::Zstd];

/// Counts the bytes between a client and its server, each way.
#[derive(Clone, Default)]
struct Relay {
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
}

impl Relay {
    /// Listens for one connection to `server`, and returns the address.
    async fn open(&self, server: &str) -> String {
        let server = server.strip_prefix("tcp://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let counts = self.clone();
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(server).await.unwrap();
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::join!(
                pass(from_client, to_server, &counts.up),
                pass(from_server, to_client, &counts.down)
            );
        });
        address
    }

    fn passed(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
}

async fn pass(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(len as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

/// One that is connected, so that the server's handshake is read.
async fn client(address: &str, compression: Option<Compression>) -> Client {
    let mut builder = Client::builder(address);
    if let Some(compression) = compression {
        builder = builder.compression(compression);
    }
    within(builder.connect()).await.unwrap()
}

async fn echo(client: &Client, text: &str) {
    let reply: String = within(client.call().send_recv(&ECHO, text.to_owned()))
        .await
        .unwrap();
    assert_eq!(reply, text);
}

/// A million bytes of text.
fn long() -> String {
    (0..)
        .map(|n: u32| format!("entry {n} of the log, "))
        .take(40_000)
        .collect()
}

#[tokio::test(crate = "test_support::gate")]
async fn requests_and_replies_are_compressed_when_both_sides_agree() {
    let text = long();
    for (theirs, ours) in [(BOTH[0], BOTH[0]), (BOTH[1], BOTH[1]), (BOTH[0], BOTH[1])] {
        let server = Lab::default()
            .serve_with("tcp://127.0.0.1:0", |server| server.compression(theirs))
            .await;
        let relay = Relay::default();
        let client = client(&relay.open(&server.address).await, Some(ours)).await;
        echo(&client, &text).await;
        let (up, down) = relay.passed();
        let limit = text.len() as u64 / 3;
        assert!(
            up < limit && down < limit,
            "{theirs} {ours}: {up} {down} of {}",
            text.len()
        );
        // A one-way request, too.
        within(client.call().send(&NOTE, text.clone())).await.unwrap();
        within(client.barrier()).await.unwrap();
        assert!(relay.passed().0 - up < limit);
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn nothing_is_compressed_unless_both_sides_agree() {
    let text = long();
    for (theirs, ours) in [(None, None), (Some(BOTH[0]), None), (None, Some(BOTH[1]))] {
        let configure = |server: rpc_runtime::server::ServerBuilder| match theirs {
            Some(compression) => server.compression(compression),
            None => server,
        };
        let server = Lab::default().serve_with("tcp://127.0.0.1:0", configure).await;
        let relay = Relay::default();
        let client = client(&relay.open(&server.address).await, ours).await;
        echo(&client, &text).await;
        let (up, down) = relay.passed();
        let len = text.len() as u64;
        assert!(
            up > len && down > len,
            "{theirs:?} {ours:?}: {up} {down} of {len}"
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn short_and_incompressible_messages_stay_uncompressed() {
    let server = Lab::default()
        .serve_with("tcp://127.0.0.1:0", |server| {
            server.compression(Compression::Zstd)
        })
        .await;
    let relay = Relay::default();
    let client = client(&relay.open(&server.address).await, Some(Compression::Zstd)).await;
    let before = relay.passed();
    let text = "x".repeat(1000);
    echo(&client, &text).await;
    let after = relay.passed();
    assert!(after.0 - before.0 >= 1000 && after.1 - before.1 >= 1000);
    // One byte more than 1 KiB, with the field's key and length.
    echo(&client, &"x".repeat(1022)).await;
    let last = relay.passed();
    assert!(
        last.0 - after.0 < 200 && last.1 - after.1 < 200,
        "{after:?} {last:?}"
    );
    // Noise, as text.
    let noise: String = std::iter::repeat_with(fastrand_char).take(2000).collect();
    echo(&client, &noise).await;
}

/// Characters of more bits than a byte's text usually has; whether they shrink does not matter, they must come through.
fn fastrand_char() -> char {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let seed = NEXT
        .load(Ordering::Relaxed)
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    NEXT.store(seed, Ordering::Relaxed);
    char::from_u32(0x100 + (seed >> 33) as u32 % 0x4000).unwrap_or('x')
}

#[tokio::test(crate = "test_support::gate")]
async fn a_request_that_cannot_be_decompressed_was_not_executed() {
    let lab = Lab::default();
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| {
            server.compression(Compression::Zstd)
        })
        .await;
    let mut peer = HandPeer::greeted(&server.address).await;
    let text = "x".repeat(3000);
    let right = ::lz4_flex::block::compress(&text.encode_to_vec());
    let frame = |id, length, payload: &[u8]| Frame {
        encoding: 2,
        length,
        payload: payload.to_vec(),
        ..call(id, &NOTE, &())
    };
    // Two wrong lengths, a payload that is cut short, noise, and an unknown encoding.
    let len = text.encoded_len() as u64;
    let wrong = [
        frame(1, len + 1, &right),
        frame(3, len - 1, &right),
        frame(5, len, &right[..right.len() - 1]),
        frame(7, len, b"noise"),
        Frame {
            encoding: 3,
            ..frame(9, len, &right)
        },
    ];
    for frame in wrong {
        peer.send(&frame).await;
        let reply = peer.until(REPLY).await;
        assert_eq!(reply.id, frame.id);
        assert_eq!(
            (Code::from_number(reply.code), reply.flags),
            (Code::Internal, NOT_EXECUTED),
            "{}",
            reply.message
        );
    }
    assert_eq!(lab.log(), Vec::<String>::new());
    peer.send(&frame(11, len, &right)).await;
    assert_eq!(peer.until(REPLY).await.code, 0);
    assert_eq!(lab.log(), [text]);
}

/// A server made by hand: its address, and its first connection with the first call that comes.
async fn by_hand() -> (String, impl Future<Output = (HandPeer, Frame)> + Send) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let called = async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = HandPeer::over(stream);
        peer.hello().await;
        let call = peer.until(CALL).await;
        (peer, call)
    };
    (address, called)
}

#[tokio::test(crate = "test_support::gate")]
async fn a_reply_that_cannot_be_decompressed_fails_its_call_which_was_executed() {
    let (address, called) = by_hand().await;
    let answering = tokio::spawn(async move {
        let (mut peer, call) = called.await;
        let reply = Frame {
            kind: REPLY,
            id: call.id,
            encoding: 1,
            length: 5000,
            payload: b"this is no frame of zstd".to_vec(),
            ..Frame::default()
        };
        peer.send(&reply).await;
        peer
    });
    let client = client(&address, Some(Compression::Zstd)).await;
    let error = within(client.call().send_recv::<_, String>(&ECHO, "x".to_owned()))
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes));
    assert_eq!(error.message(), "the reply cannot be decompressed");
    drop(answering.await.unwrap());
}

/// Counts the requests of a stream.
static COUNT: Procedure = Procedure::new("compression.v1.Counter/count", 71).with_request_stream();
/// Answers by a stream; only its caller is here.
static LIST: Procedure = Procedure::new("compression.v1.Counter/list", 72).with_reply_stream();

struct Counter;

impl Service for Counter {
    fn name(&self) -> &'static str {
        "compression.v1.Counter"
    }

    fn procedures(&self) -> &'static [Procedure] {
        std::slice::from_ref(&COUNT)
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle_request_stream(async |_: Context, mut requests: Requests<String>| {
            let mut count: u64 = 0;
            // Its error is not passed on: the call fails all the same.
            while let Ok(Some(_)) = requests.message().await {
                count += 1;
            }
            Ok(count)
        })
    }
}

/// A message of a stream that says it is 5000 bytes in zstd.
fn garbage(id: u64) -> Frame {
    Frame {
        kind: DATA,
        id,
        encoding: 1,
        length: 5000,
        payload: b"this is no frame of zstd".to_vec(),
        ..Frame::default()
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_malformed_compressed_request_of_a_stream_fails_its_call() {
    let server = Lab::default()
        .serve_with("tcp://127.0.0.1:0", |server| {
            server.service(Counter).compression(Compression::Zstd)
        })
        .await;
    let mut peer = HandPeer::greeted(&server.address).await;
    let opening = Frame {
        kind: CALL,
        id: 1,
        procedure: COUNT.id(),
        ..Frame::default()
    };
    peer.send(&opening).await;
    peer.send(&garbage(1)).await;
    let reply = peer.until(REPLY).await;
    assert_eq!((Code::from_number(reply.code), reply.flags), (Code::Internal, 0));
    assert!(
        reply.message.contains("cannot be decompressed"),
        "{}",
        reply.message
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_malformed_compressed_reply_of_a_stream_cancels_its_call() {
    let (address, called) = by_hand().await;
    let answering = tokio::spawn(async move {
        let (mut peer, call) = called.await;
        peer.send(&garbage(call.id)).await;
        assert_eq!(peer.until(CANCEL).await.id, call.id);
    });
    let client = client(&address, Some(Compression::Zstd)).await;
    let mut list = within(client.call().reply_stream::<_, String>(&LIST, ()))
        .await
        .unwrap();
    let error = within(list.message()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Internal, Executed::Maybe)
    );
    assert_eq!(within(list.message()).await.unwrap(), None);
    answering.await.unwrap();
}

/// A message of a stream, in a frame of its own.
fn single<M: Message>(id: u64, message: &M) -> Frame {
    Frame {
        payload: message.encode_to_vec(),
        ..Frame::new(DATA, id)
    }
}

/// Several messages of a stream in one frame, in LZ4.
fn compressed_row<M: Message>(id: u64, messages: impl IntoIterator<Item = M>) -> Frame {
    let messages = messages.into_iter();
    let row: Vec<u8> = messages
        .flat_map(|message| message.encode_length_delimited_to_vec())
        .collect();
    let payload = ::lz4_flex::block::compress(&row);
    assert!(payload.len() < row.len(), "it does not become shorter");
    Frame {
        flags: PACKED,
        encoding: 2,
        length: row.len() as u64,
        payload,
        ..Frame::new(DATA, id)
    }
}

/// 200 empty messages of a stream in one frame, in Zstandard: one block that repeats a zero.
fn empty_row(id: u64) -> Frame {
    Frame {
        flags: PACKED,
        encoding: 1,
        length: 200,
        // The magic, 200 bytes in one segment, the header of the last block, and the byte that it repeats.
        payload: vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, 200, 0x43, 0x06, 0x00, 0],
        ..Frame::new(DATA, id)
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_reads_the_requests_in_compressed_rows() {
    let server = Lab::default()
        .serve_with("tcp://127.0.0.1:0", |server| server.compression(Compression::Lz4))
        .await;
    let mut peer = HandPeer::greeted(&server.address).await;
    let opening = Frame {
        procedure: SUM.id(),
        ..Frame::new(CALL, 1)
    };
    let end = Frame {
        flags: END,
        ..Frame::new(DATA, 1)
    };
    let numbers = [
        compressed_row(1, (0..500u64).map(|n| n % 10)),
        single(1, &7u64),
        empty_row(1),
        compressed_row(1, (0..300u64).map(|n| n % 10)),
    ];
    peer.send(&opening).await;
    for frame in numbers.iter().chain([&end]) {
        peer.send(frame).await;
    }
    let reply = peer.until(REPLY).await;
    assert_eq!((reply.code, reply.message.as_str()), (0, ""));
    assert_eq!(u64::decode(&reply.payload[..]), Ok(80 * 45 + 7));
}

#[tokio::test(crate = "test_support::gate")]
async fn a_caller_reads_the_replies_in_compressed_rows_in_their_order() {
    let (address, called) = by_hand().await;
    let texts = |range: std::ops::Range<u32>| range.map(|n| format!("line {n} of the log"));
    let answering = tokio::spawn(async move {
        let (mut peer, Frame { id, .. }) = called.await;
        for frame in [
            compressed_row(id, texts(0..500)),
            empty_row(id),
            single(id, &"between".to_owned()),
            compressed_row(id, texts(500..600)),
            Frame::new(REPLY, id),
        ] {
            peer.send(&frame).await;
        }
        peer
    });
    let client = client(&address, Some(Compression::Zstd)).await;
    let mut list = within(client.call().reply_stream::<_, String>(&LIST, ()))
        .await
        .unwrap();
    let (read, end) = all(&mut list).await;
    end.unwrap();
    let empty = std::iter::repeat_n(String::new(), 200);
    let expected = texts(0..500).chain(empty).chain(["between".to_owned()]);
    assert!(read.into_iter().eq(expected.chain(texts(500..600))));
    drop(answering.await.unwrap());
}

#[tokio::test(crate = "test_support::gate")]
async fn short_and_compressed_messages_of_a_stream_come_in_their_order() {
    for compression in BOTH {
        let server = Lab::default()
            .serve_with("tcp://127.0.0.1:0", |server| server.compression(compression))
            .await;
        let relay = Relay::default();
        let client = client(&relay.open(&server.address).await, Some(compression)).await;
        // Every fifth one is long enough to be compressed.
        let messages = || (0..500).map(|n| format!("{n} ").repeat(if n % 5 == 4 { 2000 } else { 3 }));
        let streams = client.call().both_streams::<String, String>(&ECHO_STREAM);
        let (mut sender, mut replies) = within(streams).await.unwrap();
        let sending = tokio::spawn(async move {
            for message in messages() {
                sender.send(message).await.unwrap();
            }
            sender.finish();
        });
        let (read, end) = all(&mut replies).await;
        end.unwrap();
        within(sending).await.unwrap();
        assert!(read.into_iter().eq(messages()));
        let len = messages().map(|message| message.len() as u64).sum::<u64>();
        let (up, down) = relay.passed();
        assert!(
            up < len / 4 && down < len / 4,
            "{compression}: {up} {down} of {len}"
        );
    }
}
