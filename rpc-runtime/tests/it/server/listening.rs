//! Listeners: streams of the user's own, several addresses with one port, and accepts that fail.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use rpc_runtime::{Client, Executed, Server};
use test_support::{Running, gate, lab::*, within};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream, BufWriter, DuplexStream, ReadBuf,
        duplex,
    },
    sync::mpsc,
    time::Instant,
};

/// Keeps what it has taken until it is flushed, and hesitates before each flush.
struct Records {
    inner: DuplexStream,
    kept: Vec<u8>,
    hesitates: bool,
    /// How many more flushes succeed; then they fail.
    flushes: Arc<AtomicUsize>,
}

impl Records {
    fn new(inner: DuplexStream, flushes: &Arc<AtomicUsize>) -> Self {
        Self {
            inner,
            kept: Vec::new(),
            hesitates: false,
            flushes: Arc::clone(flushes),
        }
    }
}

impl AsyncRead for Records {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Records {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // It makes room only when it is flushed.
        let len = buf.len().min(16 * 1024 - self.kept.len());
        self.kept.extend_from_slice(&buf[..len]);
        if len == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.hesitates = !this.hesitates;
        if this.hesitates {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !this.kept.is_empty() {
            let left = this
                .flushes
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if left.is_err() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
        while !this.kept.is_empty() {
            let passed = ready!(Pin::new(&mut this.inner).poll_write(cx, &this.kept))?;
            this.kept.drain(..passed);
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        assert!(self.kept.is_empty(), "a half-close comes before the flush");
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Streams that a test accepts, and their errors.
struct Accepted<S>(mpsc::Receiver<io::Result<S>>);

impl<S> Stream for Accepted<S> {
    type Item = io::Result<S>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_recv(cx)
    }
}

/// A server and a client that connects to it by streams of `client` and `server`, made of the two ends of a pipe.
async fn over<C, S>(
    client: impl Fn(DuplexStream) -> C + Send + Sync + 'static,
    server: impl Fn(DuplexStream) -> S + Send + Sync + 'static,
) -> (Lab, Running, Client)
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connected, accepted) = mpsc::channel(10);
    let lab = Lab::default();
    let running = lab
        .serve_with("mem:listening-over", |builder| {
            builder
                .terminate_policy(rpc_runtime::server::TerminatePolicy::custom(|_| true))
                .incoming("test:pipe", Accepted(accepted))
        })
        .await;
    let connect = move |_: String| {
        let (ours, theirs) = duplex(8 * 1024);
        let theirs = server(theirs);
        let ours = client(ours);
        let connected = connected.clone();
        async move {
            let sent = connected.send(Ok(theirs)).await;
            sent.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(ours)
        }
    };
    let client = Client::builder("test:pipe").connector(connect);
    (lab, running, within(client.connect()).await.unwrap())
}

/// Everything that goes over a connection goes over this one, up to a terminate.
pub(crate) async fn carries_all(lab: Lab, server: Running, client: Client) {
    assert_eq!(text(&client, &ECHO, "short").await.unwrap(), "short");
    let long = "x".repeat(1_000_000);
    assert_eq!(text(&client, &ECHO, &long).await.unwrap(), long);

    send(&client, &NOTE, "noted").await;
    within(client.flush()).await.unwrap();
    lab.logged("noted").await;
    send(&client, &NOTE, "again").await;
    assert_eq!(within(client.barrier()).await.unwrap().received(), 2);

    let mut numbers = within(client.call().reply_stream(&COUNT, 5_000u64))
        .await
        .unwrap();
    let (read, end): (Vec<u64>, _) = all(&mut numbers).await;
    end.unwrap();
    assert_eq!(read, (0..5_000).collect::<Vec<_>>());
    let (mut words, mut echoed) = within(client.call().both_streams(&ECHO_STREAM)).await.unwrap();
    for word in ["ping", "pong"] {
        within(words.send(word.to_owned())).await.unwrap();
        let back: Option<String> = within(echoed.message()).await.unwrap();
        assert_eq!(back.unwrap(), word);
    }
    drop((words, echoed));

    // The GOAWAY comes, and the reply of a call that was open, and that of the terminate.
    let open = start(&client, &DRAINING, "open");
    lab.logged("open began, draining=false").await;
    let report = within(client.terminate()).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(within(open).await.unwrap().unwrap(), "open ended, draining=true");
    assert!(server.report().await.is_clean());
}

#[tokio::test(crate = "test_support::gate")]
async fn buffering_streams_carry_all_kinds_of_calls() {
    let (lab, server, client) = over(BufStream::new, BufStream::new).await;
    carries_all(lab, server, client).await;
    let (lab, server, client) = over(BufWriter::new, |stream| stream).await;
    carries_all(lab, server, client).await;
    let wide = |stream| BufWriter::with_capacity(1 << 20, stream);
    let (lab, server, client) = over(|stream| stream, wide).await;
    carries_all(lab, server, client).await;
    let flushes = Arc::new(AtomicUsize::new(usize::MAX));
    let records = move |stream| Records::new(stream, &flushes);
    let (lab, server, client) = over(records.clone(), records).await;
    carries_all(lab, server, client).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_call_whose_flush_fails_may_have_been_executed_and_a_flush_says_so() {
    let flushes = Arc::new(AtomicUsize::new(usize::MAX));
    let (lab, server, client) = over(
        {
            let flushes = Arc::clone(&flushes);
            move |stream| Records::new(stream, &flushes)
        },
        |stream| stream,
    )
    .await;
    let call = start(&client, &WAIT, "waits");
    lab.logged("waits began").await;
    flushes.store(0, Ordering::SeqCst);
    send(&client, &NOTE, "lost").await;
    let error = within(client.flush()).await.unwrap_err();
    let lost = error.lost_sends().unwrap();
    assert_eq!((lost.no(), lost.maybe()), (0, 1), "{error}");
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Maybe, "{error}");
    lab.release();
    drop(client);
    server.handle.drain();
    server.report().await;
}

/// Gives what is in a list, and then ends. `ends` counts how often it has said so.
struct List {
    next: Mutex<Vec<io::Result<DuplexStream>>>,
    ends: Arc<AtomicUsize>,
}

impl Stream for List {
    type Item = io::Result<DuplexStream>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.next.get_mut().unwrap().pop();
        self.ends.fetch_add(usize::from(next.is_none()), Ordering::SeqCst);
        Poll::Ready(next)
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn errors_of_other_peers_delay_no_call() {
    let (mut peer, theirs) = duplex(64 << 10);
    let mut all = vec![Ok(theirs)];
    all.extend((0..900).map(|n| {
        Err(match n % 3 {
            0 => io::Error::other("bad certificate"),
            1 => io::ErrorKind::ConnectionAborted.into(),
            _ => io::ErrorKind::PermissionDenied.into(),
        })
    }));
    let list = List {
        next: Mutex::new(all),
        ends: Arc::default(),
    };
    let server = Server::builder()
        .service(Lab::default())
        .incoming("test:list", list)
        .signals(false);
    let server = server.bind().await.unwrap();
    let handle = server.handle();
    let begun = Instant::now();
    gate::serve(server);
    // What is no HELLO is answered by one, and by a GOAWAY.
    peer.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    within(peer.read_exact(&mut [0; 4])).await.unwrap();
    assert_eq!(begun.elapsed().as_nanos(), 0, "no timer was waited for");
    assert_eq!(handle.counters().accepts_failed(), 900);
    assert_eq!(handle.counters().accept_errors(), 0);
}

/// Fails whenever it is asked.
struct Broken;

impl Stream for Broken {
    type Item = io::Result<DuplexStream>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Err(io::Error::other("broken"))))
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn incoming_that_always_fails_delays_neither_calls_nor_a_drain() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:listening-broken", |server| {
            server.incoming("test:broken", Broken)
        })
        .await;
    let client = server.client().await;
    while server.handle.counters().accepts_failed() < 3_000 {
        assert_eq!(text(&client, &ECHO, "x").await.unwrap(), "x");
    }
    server.handle.drain();
    assert!(server.report().await.is_clean());
}

#[tokio::test(crate = "test_support::gate")]
async fn incoming_that_has_ended_is_not_asked_again() {
    let lab = Lab::default();
    let ends = Arc::new(AtomicUsize::new(0));
    let list = List {
        next: Mutex::default(),
        ends: Arc::clone(&ends),
    };
    let server = lab
        .serve_with("mem:listening-ended", |server| {
            server.incoming("test:ended", list)
        })
        .await;
    let client = server.client().await;
    assert_eq!(text(&client, &ECHO, "x").await.unwrap(), "x");
    server.handle.drain();
    assert!(server.report().await.is_clean());
    assert_eq!(ends.load(Ordering::SeqCst), 1);
}

/// A port that is free in both families, most likely.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("[::]:0").unwrap();
    socket.local_addr().unwrap().port()
}

async fn echoes_at(address: &str) {
    let client = within(Client::connect(address)).await.unwrap();
    assert_eq!(text(&client, &ECHO, address).await.unwrap(), address);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_port_is_listened_on_in_both_families_by_two_addresses() {
    for workers in [0, 2] {
        for [one, other] in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"], ["127.0.0.1", "[::]"]] {
            let port = free_port();
            let second = format!("tcp://{other}:{port}");
            let server = Lab::default()
                .serve_with(&format!("tcp://{one}:{port}"), |server| {
                    server.listener(second).workers(workers)
                })
                .await;
            for _ in 0..2 * workers + 1 {
                echoes_at(&format!("tcp://127.0.0.1:{port}")).await;
                echoes_at(&format!("tcp://[::1]:{port}")).await;
            }
            server.handle.drain();
            server.report().await;
        }
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn free_ports_are_taken_in_both_families() {
    for workers in [0, 2] {
        let server = Server::builder()
            .service(Lab::default())
            .listener("tcp://[::]:0")
            .listener("tcp://0.0.0.0:0")
            .workers(workers)
            .signals(false);
        let server = server.bind().await.unwrap();
        let [v6, v4] = [0, 1].map(|index| server.addresses()[index].clone());
        let handle = server.handle();
        let serving = gate::serve(server);
        echoes_at(&v6.replace("[::]", "[::1]")).await;
        echoes_at(&v4.replace("0.0.0.0", "127.0.0.1")).await;
        handle.drain();
        within(serving).await.unwrap().unwrap();
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn one_address_of_all_of_ipv6_stands_for_ipv4_as_well() {
    for workers in [0, 2] {
        let server = Lab::default()
            .serve_with("tcp://[::]:0", |server| server.workers(workers))
            .await;
        echoes_at(&server.address.replace("[::]", "127.0.0.1")).await;
        server.handle.drain();
        server.report().await;
    }
}
