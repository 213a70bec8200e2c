//! Streams that keep what they have taken until they are flushed.

use std::sync::Mutex;

use tokio::io::{BufStream, BufWriter};

use super::*;
use crate::conn::Flush;

impl<S: ByteStream> ByteStream for BufStream<S> {
    fn is_buffering(&self) -> bool {
        true
    }
}

impl<S: ByteStream> ByteStream for BufWriter<S> {
    fn is_buffering(&self) -> bool {
        true
    }
}

/// What a test lets the flushes of a [`Held`] do.
#[derive(Default)]
struct Gate {
    /// How many bytes they may still pass on; after that they are pending.
    budget: usize,
    /// Whether they fail.
    fails: bool,
    /// How many bytes the stream keeps.
    kept: usize,
    waker: Option<Waker>,
}

/// Takes all that it is given, and passes it on while it is flushed, as far as the test lets it.
struct Held {
    inner: DuplexStream,
    kept: Vec<u8>,
    gate: Arc<Mutex<Gate>>,
}

impl Held {
    fn new(inner: DuplexStream, budget: usize) -> (Self, Arc<Mutex<Gate>>) {
        let gate = Gate {
            budget,
            ..Gate::default()
        };
        let gate = Arc::new(Mutex::new(gate));
        let held = Self {
            inner,
            kept: Vec::new(),
            gate: Arc::clone(&gate),
        };
        (held, gate)
    }
}

/// Lets flushes pass on `bytes` more.
fn allow(gate: &Mutex<Gate>, bytes: usize) {
    let mut gate = gate.lock().unwrap();
    gate.budget = gate.budget.saturating_add(bytes);
    gate.waker.take().into_iter().for_each(Waker::wake);
}

/// Lets all flushes fail.
fn fail(gate: &Mutex<Gate>) {
    let mut gate = gate.lock().unwrap();
    gate.fails = true;
    gate.waker.take().into_iter().for_each(Waker::wake);
}

impl ByteStream for Held {
    fn is_buffering(&self) -> bool {
        true
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.kept.extend_from_slice(buf);
        self.gate.lock().unwrap().kept = self.kept.len();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut gate = this.gate.lock().unwrap();
        while !this.kept.is_empty() {
            if gate.fails {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let len = this.kept.len().min(gate.budget);
            if len == 0 {
                gate.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let passed = ready!(Pin::new(&mut this.inner).poll_write(cx, &this.kept[..len]))?;
            this.kept.drain(..passed);
            gate.budget -= passed;
            gate.kept = this.kept.len();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        assert!(self.kept.is_empty(), "a half-close comes before the flush");
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

async fn flushed(shared: &SharedConnection, flush: &Flush) -> Result<(), Cause> {
    poll_fn(|cx| shared.with(|conn, _| conn.poll_flush(flush, cx))).await
}

fn is_pending(shared: &SharedConnection, flush: &Flush) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    shared
        .with(|conn, _| conn.poll_flush(flush, &mut cx))
        .is_pending()
}

/// Calls over `one` and `other`, the ends of a stream, and then closes it.
async fn echoes(one: impl ByteStream + Send + 'static, other: impl ByteStream + Send + 'static) {
    let (client, server) = (shared(Side::Connector), shared(Side::Acceptor));
    let driving = [
        tokio::spawn(drive(one, Arc::clone(&client), MAX_FRAME)),
        tokio::spawn(drive(other, Arc::clone(&server), MAX_FRAME)),
    ];
    let serving = tokio::spawn(echo(Arc::clone(&server)));
    for len in [0, 100, 70_000, 3_000_000] {
        let message = Bytes::from(vec![b'x'; len]);
        let reply = call(&client, &message).await.unwrap();
        let echoed = <Bytes as prost::Message>::decode(reply.payload.into_bytes()).unwrap();
        assert!(echoed == message, "{len} bytes");
    }
    client.with(|conn, now| conn.close(now));
    for task in driving {
        task.await.unwrap();
    }
    let text = closed(&server).await.to_string();
    assert!(
        text.contains("at the end of its drain"),
        "the GOAWAY came: {text}"
    );
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_end_over_streams_that_buffer() {
    let pair = || duplex(64 * 1024);
    let (one, other) = pair();
    echoes(BufStream::new(one), BufStream::new(other)).await;
    let (one, other) = pair();
    echoes(BufWriter::with_capacity(1 << 20, one), other).await;
    let (one, other) = pair();
    echoes(one, BufWriter::with_capacity(10, other)).await;
    let (one, other) = pair();
    echoes(
        BufWriter::new(Trickle::new(one, 4096)),
        BufWriter::new(Trickle::new(other, 1000)),
    )
    .await;
    let (one, other) = pair();
    echoes(Held::new(one, usize::MAX).0, Held::new(other, usize::MAX).0).await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_with_the_flush_of_its_stream() {
    let (one, other) = duplex(64 * 1024);
    let (client, server) = (shared(Side::Connector), shared(Side::Acceptor));
    let (one, gate) = Held::new(one, 0);
    tokio::spawn(drive(one, Arc::clone(&client), MAX_FRAME));
    tokio::spawn(drive(other, Arc::clone(&server), MAX_FRAME));
    let _id = start(&client, &Bytes::from_static(b"x")).await.unwrap();
    let flush = client.with(|conn, _| conn.start_flush());
    settle().await;
    let kept = gate.lock().unwrap().kept;
    assert!(kept > 0, "the stream has taken all");
    assert!(is_pending(&client, &flush));
    allow(&gate, kept - 1);
    settle().await;
    assert!(is_pending(&client, &flush), "one byte is left");
    allow(&gate, 1);
    flushed(&client, &flush).await.unwrap();
    next(&server).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_flush_leaves_only_the_bytes_taken_in_doubt() {
    let (client, _server, gate) = open(10_000).await;
    // Together they are more than the stream is given before a flush is done.
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(start(&client, &Bytes::from(vec![b'x'; 20_000])).await.unwrap());
    }
    let flush = client.with(|conn, _| conn.start_flush());
    settle().await;
    fail(&gate);
    let mut executed = Vec::new();
    for id in ids {
        let failure = poll_fn(|cx| client.with(|conn, _| conn.poll_reply(id, cx)))
            .await
            .unwrap_err();
        assert!(
            matches!(&failure.cause, Cause::Lost { text, .. } if text == "write failed"),
            "{failure:?}"
        );
        executed.push(failure.executed);
    }
    // Of the second, some bytes were never offered to a write.
    assert_eq!(executed, [Executed::Maybe, Executed::No]);
    flushed(&client, &flush).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn bytes_taken_by_a_stream_are_in_doubt_after_any_end() {
    for how in [
        "the peer hangs up",
        "the driver is dropped",
        "the peer takes nothing",
    ] {
        let (one, other) = duplex(64 * 1024);
        let client = shared(Side::Connector);
        let (one, _gate) = Held::new(one, 0);
        let id = start(&client, &Bytes::from_static(b"x")).await.unwrap();
        let flush = client.with(|conn, _| conn.start_flush());
        let driving = tokio::spawn(drive(one, Arc::clone(&client), MAX_FRAME));
        settle().await;
        let _other = match how {
            "the peer hangs up" => None,
            "the driver is dropped" => {
                driving.abort();
                Some(other)
            }
            _ => Some(other),
        };
        let failure = poll_fn(|cx| client.with(|conn, _| conn.poll_reply(id, cx)))
            .await
            .unwrap_err();
        assert_eq!(failure.executed, Executed::Maybe, "{how}: {failure:?}");
        assert!(flushed(&client, &flush).await.is_err(), "{how}");
    }
}

/// A client whose stream takes all and passes on `budget` bytes, some of which were for the handshake; and its server.
async fn open(budget: usize) -> (Arc<SharedConnection>, Arc<SharedConnection>, Arc<Mutex<Gate>>) {
    let (one, other) = duplex(64 * 1024);
    let (client, server) = (shared(Side::Connector), shared(Side::Acceptor));
    let (one, gate) = Held::new(one, budget);
    tokio::spawn(drive(one, Arc::clone(&client), MAX_FRAME));
    tokio::spawn(drive(other, Arc::clone(&server), MAX_FRAME));
    poll_fn(|cx| client.with(|conn, _| conn.poll_ready(cx)))
        .await
        .unwrap();
    (client, server, gate)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_cut_behind_any_buffering_stream() {
    let (client, _server, _gate) = open(10_000).await;
    start(&client, &Bytes::from(vec![b'x'; 300_000])).await.unwrap();
    let text = closed(&client).await.to_string();
    assert!(
        text.contains("peer took less than 65536 bytes in 30s: Limits::write_stall"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_is_not_cut_behind_any_buffering_stream() {
    let (client, server, gate) = open(10_000).await;
    start(&client, &Bytes::from(vec![b'x'; 300_000])).await.unwrap();
    settle().await;
    while gate.lock().unwrap().kept > 0 {
        assert!(gate.lock().unwrap().kept <= UNFLUSHED_MAX);
        tokio::time::sleep(Duration::from_secs(1)).await;
        // So much in 30 s is what it has to take.
        allow(&gate, 64 * 1024 / 29);
        settle().await;
        assert!(!client.with(|conn, _| conn.is_closed()));
    }
    next(&server).await.unwrap();
}
