//! Two drivers, each with its connection, over streams that are slow, short or broken.

mod cut;
mod flush;
mod look;

use std::{
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering},
    task::{Poll, ready},
};

use bytes::Bytes;
use tokio::io::{DuplexStream, ReadBuf, duplex};

use super::*;
use crate::{
    Executed, Limits,
    api::limits::CLIENT_KEEP_ALIVE,
    conn::{Arrived, CallFailure, CallId, Cause, ReceivedReply, Request, Side, Ticket},
};

/// A stream that takes and gives at most `step` bytes at a time, and hesitates before each.
struct Trickle {
    inner: DuplexStream,
    step: usize,
    hesitate: [bool; 2],
    /// How many bytes may still be written before every write fails.
    break_after: Option<usize>,
}

impl Trickle {
    fn new(inner: DuplexStream, step: usize) -> Self {
        Self {
            inner,
            step,
            hesitate: [true; 2],
            break_after: None,
        }
    }

    fn hesitates(&mut self, way: usize, cx: &Context<'_>) -> bool {
        self.hesitate[way] = !self.hesitate[way];
        if self.hesitate[way] {
            return false;
        }
        cx.waker().wake_by_ref();
        true
    }
}

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.hesitates(0, cx) {
            return Poll::Pending;
        }
        let mut bytes = vec![0; self.step.min(buf.remaining())];
        let mut part = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.break_after == Some(0) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.hesitates(1, cx) {
            return Poll::Pending;
        }
        let len = buf
            .len()
            .min(self.step)
            .min(self.break_after.unwrap_or(usize::MAX));
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &buf[..len]))?;
        if let Some(left) = &mut self.break_after {
            *left -= written;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// None of these keeps what it takes.
macro_rules! unbuffered {
    ($($stream:ty),*) => {$(
        impl ByteStream for $stream {
            fn is_buffering(&self) -> bool {
                false
            }
        }
    )*};
}

unbuffered!(DuplexStream, Trickle, Gone, Asleep);

const MAX_FRAME: u32 = 144 * 1024;

fn shared(side: Side) -> Arc<SharedConnection> {
    let settings = crate::conn::Settings::new(
        &Limits::default(),
        Duration::from_secs(30),
        Bytes::from_static(b"driver-test"),
        fastrand::u32(..),
    );
    SharedConnection::new(Connection::new(side, settings))
}

async fn call(shared: &SharedConnection, message: &Bytes) -> Result<ReceivedReply, CallFailure> {
    let id = start(shared, message).await?;
    poll_fn(|cx| shared.with(|conn, _| conn.poll_reply(id, cx))).await
}

async fn start(shared: &SharedConnection, message: &Bytes) -> Result<CallId, CallFailure> {
    let request = Request {
        procedure: 7,
        ..Request::default()
    };
    let mut ticket = Ticket::default();
    poll_fn(|cx| shared.with(|conn, now| conn.poll_call(&mut ticket, &request, message, now, cx))).await
}

async fn next(shared: &SharedConnection) -> Option<Arrived> {
    poll_fn(|cx| shared.with(|conn, _| conn.poll_request(cx))).await
}

/// Answers every request with its own payload, until no more can come.
async fn echo(shared: Arc<SharedConnection>) {
    while let Some(arrived) = next(&shared).await {
        shared.with(|conn, now| {
            conn.started(arrived.id, now).unwrap();
            let payload = <Bytes as prost::Message>::decode(arrived.payload.into_bytes()).unwrap();
            conn.reply(arrived.id, &payload, now);
        });
    }
}

async fn closed(shared: &SharedConnection) -> Cause {
    poll_fn(|cx| shared.with(|conn, _| conn.poll_closed(cx))).await
}

#[tokio::test(start_paused = true)]
async fn calls_survive_a_stream_of_a_few_bytes_at_a_time() {
    for step in [1, 7, 4096] {
        let (one, other) = duplex(64 * 1024);
        let (client, server) = (shared(Side::Connector), shared(Side::Acceptor));
        let driving = [
            tokio::spawn(drive(Trickle::new(one, step), Arc::clone(&client), MAX_FRAME)),
            tokio::spawn(drive(Trickle::new(other, step), Arc::clone(&server), MAX_FRAME)),
        ];
        let serving = tokio::spawn(echo(Arc::clone(&server)));
        for len in [0, 1, 100, 70_000] {
            let message = Bytes::from(vec![b'x'; len]);
            let reply = call(&client, &message).await.unwrap();
            let echoed = <Bytes as prost::Message>::decode(reply.payload.into_bytes()).unwrap();
            assert_eq!(echoed, message, "{len} bytes in steps of {step}");
        }
        client.with(|conn, now| conn.close(now));
        for task in driving {
            task.await.unwrap();
        }
        serving.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_many_frames_arrives_whole() {
    let (one, other) = duplex(64 * 1024);
    let (client, server) = (shared(Side::Connector), shared(Side::Acceptor));
    tokio::spawn(drive(one, Arc::clone(&client), MAX_FRAME));
    tokio::spawn(drive(other, Arc::clone(&server), MAX_FRAME));
    tokio::spawn(echo(server));
    let message = Bytes::from((0..3_000_000u32).map(|n| n as u8).collect::<Vec<_>>());
    let reply = call(&client, &message).await.unwrap();
    assert!(<Bytes as prost::Message>::decode(reply.payload.into_bytes()).unwrap() == message);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_driver_leaves_no_call_pending() {
    let (one, other) = duplex(64 * 1024);
    let client = shared(Side::Connector);
    let driving = tokio::spawn(drive(one, Arc::clone(&client), MAX_FRAME));
    let id = start(&client, &Bytes::new()).await.unwrap();
    yield_now().await;
    driving.abort();
    let failure = poll_fn(|cx| client.with(|conn, _| conn.poll_reply(id, cx)))
        .await
        .unwrap_err();
    assert!(matches!(failure.cause, Cause::Lost { .. }), "{failure:?}");
    assert!(matches!(closed(&client).await, Cause::Lost { .. }));
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_counts_as_having_taken_all_it_was_offered() {
    // The HELLO and the call are offered together: whatever part was taken, the call may have arrived.
    let (one, _other) = duplex(64 * 1024);
    let client = shared(Side::Connector);
    let mut stream = Trickle::new(one, 4096);
    stream.break_after = Some(0);
    let id = start(&client, &Bytes::new()).await.unwrap();
    tokio::spawn(drive(stream, Arc::clone(&client), MAX_FRAME));
    let failure = poll_fn(|cx| client.with(|conn, _| conn.poll_reply(id, cx)))
        .await
        .unwrap_err();
    assert_eq!(failure.executed, Executed::Maybe, "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_up_ends_both_sides() {
    let (one, other) = duplex(64 * 1024);
    let client = shared(Side::Connector);
    let driving = tokio::spawn(drive(one, Arc::clone(&client), MAX_FRAME));
    drop(other);
    driving.await.unwrap();
    assert!(matches!(closed(&client).await, Cause::Lost { .. }));
}

/// A stream of single bytes that gives nothing from some moment on until a write has failed.
struct Gone {
    inner: DuplexStream,
    gone: Arc<AtomicBool>,
    failed: bool,
}

impl AsyncRead for Gone {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gone.load(Ordering::SeqCst) && !self.failed {
            return Poll::Pending;
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gone {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.gone.load(Ordering::SeqCst) {
            self.failed = true;
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn the_peers_last_frames_are_read_although_a_write_fails() {
    let (one, other) = duplex(64 * 1024);
    let (client, server) = (shared(Side::Connector), shared(Side::Acceptor));
    let gone = Arc::new(AtomicBool::new(false));
    let stream = Gone {
        inner: one,
        gone: Arc::clone(&gone),
        failed: false,
    };
    let driving = tokio::spawn(drive(stream, Arc::clone(&client), MAX_FRAME));
    tokio::spawn(drive(other, Arc::clone(&server), MAX_FRAME));
    let answered = start(&client, &Bytes::from_static(b"x")).await.unwrap();
    let arrived = next(&server).await.unwrap();
    gone.store(true, Ordering::SeqCst);
    server.with(|conn, now| {
        conn.started(arrived.id, now).unwrap();
        conn.reply(arrived.id, &Bytes::from_static(b"y"), now);
    });
    yield_now().await;
    let late = start(&client, &Bytes::new()).await.unwrap();
    let reply = poll_fn(|cx| client.with(|conn, _| conn.poll_reply(answered, cx))).await;
    assert!(reply.is_ok(), "{reply:?}");
    let failure = poll_fn(|cx| client.with(|conn, _| conn.poll_reply(late, cx)))
        .await
        .unwrap_err();
    assert_eq!(failure.executed, Executed::Maybe, "{failure:?}");
    assert!(
        matches!(&failure.cause, Cause::Lost { text, .. } if text == "write failed"),
        "{failure:?}"
    );
    driving.await.unwrap();
}

/// A stream that gives nothing while its reader sleeps.
struct Asleep {
    inner: DuplexStream,
    asleep: Arc<AtomicBool>,
}

impl AsyncRead for Asleep {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.asleep.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

/// Streams that write as their inner stream does.
macro_rules! writes_to_inner {
    ($($stream:ty),*) => {$(
        impl AsyncWrite for $stream {
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
    )*};
}

writes_to_inner!(Asleep, look::Unheard);

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_slept_reads_what_has_come_before_it_gives_its_peer_up() {
    // The OS may tell of what there is to read at once, or only after the timers.
    for told_late in [false, true] {
        let (one, other) = duplex(64 * 1024);
        let (client, server) = (shared(Side::Connector), shared(Side::Acceptor));
        let asleep = Arc::new(AtomicBool::new(false));
        let stream = Asleep {
            inner: one,
            asleep: Arc::clone(&asleep),
        };
        tokio::spawn(drive(stream, Arc::clone(&client), MAX_FRAME));
        tokio::spawn(drive(other, Arc::clone(&server), MAX_FRAME));
        let id = start(&client, &Bytes::from_static(b"x")).await.unwrap();
        let arrived = next(&server).await.unwrap();
        asleep.store(true, Ordering::SeqCst);
        // A ping goes out, and its answer waits to be read for a minute.
        tokio::time::advance(CLIENT_KEEP_ALIVE).await;
        settle().await;
        asleep.store(told_late, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(60)).await;
        settle().await;
        asleep.store(false, Ordering::SeqCst);
        client.wake_driver();
        settle().await;
        tokio::time::advance(Duration::from_secs(5)).await;
        settle().await;
        assert!(!client.with(|conn, _| conn.is_closed()), "told late: {told_late}");
        server.with(|conn, now| {
            conn.started(arrived.id, now).unwrap();
            conn.reply(arrived.id, &Bytes::from_static(b"y"), now);
        });
        let reply = poll_fn(|cx| client.with(|conn, _| conn.poll_reply(id, cx))).await;
        assert!(reply.is_ok(), "{reply:?}");
    }
}
