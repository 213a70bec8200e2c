//! The calls that a server refuses, the peers that it cuts off, and how it counts and logs both.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use rpc_runtime::{Client, Code, Executed, Limits, Server, Stream, server::ServerHandle};
use test_support::{
    Logged, gate,
    lab::*,
    wire::{Frame, HandPeer, call, encode, hello},
    within,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    time::{Instant, sleep},
};

/// A frame of an unknown kind, which a peer may ignore.
fn unknown() -> Frame {
    Frame {
        kind: 64,
        ..Frame::default()
    }
}

/// Waits until the server has counted what `counted` looks for.
async fn until(server: &ServerHandle, counted: impl Fn(rpc_runtime::server::Counters) -> bool) {
    within(async {
        while !counted(server.counters()) {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_flooding_peer_is_cut_counted_and_logged_once() {
    let logged = Logged::here();
    let server = Lab::default()
        .serve_with("tcp://127.0.0.1:0", |server| {
            server.limits(Limits::default().max_faults(10))
        })
        .await;
    let client = server.client().await;
    for _ in 0..3 {
        let mut peer = HandPeer::greeted(&server.address).await;
        for _ in 0..10 {
            peer.send(&unknown()).await;
        }
        assert_eq!(peer.goaway().await.reason, 4, "EXCESS");
    }
    until(&server.handle, |counters| counters.ended_by_excess() == 3).await;
    let counters = server.handle.counters();
    assert_eq!(counters.to_string(), "ignored_frames=30 ended_by_excess=3");
    assert_eq!(text(&client, &ECHO, "x").await.unwrap(), "x");
    let said = |logged: &Logged| logged.picked("connection cut off", &["reason", "text", "unsaid"]);
    within(async {
        while said(&logged).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let text = "protocol error: too many faults (Limits::max_faults), the last: frame of an unknown kind";
    assert_eq!(said(&logged), [format!("excess {text} 0")]);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_over_the_connection_limit_waits_and_is_counted() {
    let server = Lab::default()
        .serve_with("tcp://127.0.0.1:0", |server| server.max_connections(1))
        .await;
    let first = server.client().await;
    let second = Client::connect_lazy(&server.address);
    let waiting = start(&second, &ECHO, "x");
    until(&server.handle, |counters| counters.connections_delayed() == 1).await;
    assert_eq!(text(&first, &ECHO, "x").await.unwrap(), "x");
    drop(first);
    assert_eq!(within(waiting).await.unwrap().unwrap(), "x");
}

#[tokio::test(crate = "test_support::gate")]
async fn peers_without_a_handshake_are_counted() {
    let limits = Limits::default().handshake_timeout(Duration::from_millis(20));
    let server = Lab::default()
        .serve_with("tcp://127.0.0.1:0", |server| server.limits(limits))
        .await;
    let _mute = HandPeer::connect(&server.address).await;
    until(&server.handle, |counters| counters.handshakes_timed_out() == 1).await;
    let mut other = HandPeer::connect(&server.address).await;
    other.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    until(&server.handle, |counters| counters.handshakes_rejected() == 1).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_mute_peer_loses_its_place_to_a_newcomer_and_is_counted() {
    let server = Lab::default()
        .serve_with("tcp://127.0.0.1:0", |server| server.max_handshakes(2))
        .await;
    let _mute = [
        HandPeer::connect(&server.address).await,
        HandPeer::connect(&server.address).await,
    ];
    let client = server.client().await;
    assert_eq!(text(&client, &ECHO, "x").await.unwrap(), "x");
    assert_eq!(
        server.handle.counters().handshakes_evicted(),
        1,
        "only one place is needed"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_stalled_peer_is_sent_away() {
    let limits = Limits::default().slow_frame(Duration::from_millis(20));
    let server = Lab::default()
        .serve_with("tcp://127.0.0.1:0", |server| server.limits(limits))
        .await;
    let mut peer = HandPeer::greeted(&server.address).await;
    peer.write(&[0, 0, 1, 0, 8]).await;
    assert_eq!(peer.goaway().await.reason, 5, "TIMEOUT");
    until(&server.handle, |counters| counters.ended_by_slow_frame() == 1).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_full_server_refuses_calls_and_accepts_no_connections_until_there_is_room() {
    let lab = Lab::default();
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| server.max_buffered_bytes(1_000_000))
        .await;
    let (holder, other) = (server.client().await, server.client().await);
    // Beyond nine tenths only whole requests are taken: a long one first, and then one of a single frame.
    let more = server.client().await;
    let mut held = Vec::new();
    for (client, len, total) in [(&holder, 880_000, 880_000), (&more, 90_000, 970_000)] {
        held.push(start(client, &WAIT, &"w".repeat(len)));
        within(async {
            while server.handle.buffered_bytes() < total {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    assert_eq!(text(&other, &ECHO, "x").await.unwrap(), "x", "it holds little");
    let refused = text(&holder, &ECHO, "x").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.executed()),
        (Code::ResourceExhausted, Executed::No)
    );
    // The accept loop has one accept under way already; the second newcomer is not taken.
    let newcomers = [(); 2].map(|()| Client::connect_lazy(&server.address));
    let waiting = newcomers.each_ref().map(|client| start(client, &ECHO, "x"));
    until(&server.handle, |counters| counters.accepts_paused() == 1).await;
    lab.release();
    for held in held {
        assert!(within(held).await.unwrap().is_ok());
    }
    let ended: Vec<_> = {
        let mut ended = Vec::new();
        for call in waiting {
            ended.push(within(call).await.unwrap());
        }
        ended
    };
    assert!(ended[1].is_ok() || ended[0].is_ok(), "{ended:?}");
    assert_eq!(text(&other, &ECHO, "x").await.unwrap(), "x");
    within(async {
        while server.handle.buffered_bytes() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_without_refusals_counts_none() {
    let server = Lab::default().serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    for _ in 0..100 {
        text(&client, &ECHO, "x").await.unwrap();
    }
    let unknown = text(&client, &NOWHERE, "x").await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    assert_eq!(server.handle.counters().to_string(), "unknown_procedures=1");
}

/// Streams and errors, in this order, and then nothing more.
struct Accepted(VecDeque<io::Result<DuplexStream>>);

impl Stream for Accepted {
    type Item = io::Result<DuplexStream>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut().0.pop_front() {
            Some(next) => Poll::Ready(Some(next)),
            None => Poll::Pending,
        }
    }
}

/// A server in virtual time that accepts one peer, behind some errors.
async fn serve_one(errors: usize, limits: Limits) -> (ServerHandle, DuplexStream) {
    // WSAEMFILE on Windows.
    const EMFILE: i32 = if cfg!(windows) { 10024 } else { 24 };
    let (ours, theirs) = duplex(64 << 10);
    let mut accepted: VecDeque<_> = (0..errors)
        .map(|_| Err(io::Error::from_raw_os_error(EMFILE)))
        .collect();
    accepted.push_back(Ok(theirs));
    let server = Server::builder()
        .service(Lab::default())
        .incoming("test:one", Accepted(accepted))
        .limits(limits)
        .signals(false);
    let server = server.bind().await.unwrap();
    let handle = server.handle();
    gate::serve(server);
    (handle, ours)
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_server_without_file_descriptors_retries_with_growing_pauses() {
    let begun = Instant::now();
    let (server, mut peer) = serve_one(20, Limits::default()).await;
    // What is no HELLO is answered by one, and by a GOAWAY.
    peer.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut len = [0; 4];
    peer.read_exact(&mut len).await.unwrap();
    assert_eq!(server.counters().accept_errors(), 20);
    // Eight pauses grow from 5 ms to a second, the others are a second each: half of that to all of it.
    let all = Duration::from_millis(5 * 255 + 12_000);
    let taken = begun.elapsed();
    assert!(
        taken > all / 2 && taken < all + Duration::from_millis(50),
        "{taken:?}"
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_half_open_peer_is_found_by_its_server_and_counted() {
    let (server, mut peer) = serve_one(0, Limits::default()).await;
    peer.write_all(&encode(&hello())).await.unwrap();
    sleep(Duration::from_millis(139_900)).await;
    assert_eq!(server.counters().ended_by_silence(), 0);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(server.counters().to_string(), "ended_by_silence=1");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_peer_that_reads_no_replies_is_given_up_and_counted() {
    let (server, mut peer) = serve_one(0, Limits::default()).await;
    peer.write_all(&encode(&hello())).await.unwrap();
    for n in 0..10 {
        let call = call(2 * n + 1, &ECHO, &"x".repeat(50_000));
        peer.write_all(&encode(&call)).await.unwrap();
    }
    sleep(Duration::from_secs(29)).await;
    assert!(server.buffered_bytes() > 400_000, "replies wait");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.counters().to_string(), "ended_by_write_stall=1");
    assert_eq!(server.buffered_bytes(), 0);
}

/// A stream whose reader may stand still.
struct Standing {
    inner: DuplexStream,
    /// While it does, what wakes it when it goes on.
    still: Arc<Mutex<Option<Waker>>>,
}

impl AsyncRead for Standing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(waker) = &mut *self.still.lock().unwrap() {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Standing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_slow_reader_has_the_whole_drain_to_read_its_last_replies() {
    let (server, stream) = serve_one(0, Limits::default()).await;
    let still: Arc<Mutex<Option<Waker>>> = Arc::default();
    let stream = Mutex::new(Some(Standing {
        inner: stream,
        still: Arc::clone(&still),
    }));
    let client = Client::builder("test:one")
        .connector(move |_| {
            let stream = stream.lock().unwrap().take();
            async move { stream.ok_or_else(|| io::ErrorKind::ConnectionRefused.into()) }
        })
        .connect_lazy();
    text(&client, &ECHO, "x").await.unwrap();
    *still.lock().unwrap() = Some(Waker::noop().clone());
    // More than lies between the two.
    let long = "x".repeat(300_000);
    let reply = start(&client, &ECHO, &long);
    let sent = client.call().send(&NOTE, "noted".to_owned());
    within(sent).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    server.drain();
    // In virtual time: all that the server does by itself, it has done.
    sleep(Duration::from_secs(10)).await;
    let waker = still.lock().unwrap().take().unwrap();
    waker.wake();
    assert_eq!(within(reply).await.unwrap().unwrap(), long);
    let account = within(client.barrier()).await.unwrap();
    assert_eq!(account.handled(), 1, "{account}");
}
