//! GatheredStream: a byte stream that writes several long frames at once.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use rpc_runtime::server::HeldMemory;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that writes several long frames at once. h2 writes and flushes each frame of 16 KiB by itself, and each of these writes wakes the
/// peer.
#[derive(Debug)]
pub(crate) struct GatheredStream<S> {
    stream: S,
    gathering: Arc<Gathering>,
    /// What was gathered.
    unwritten: BytesMut,
    /// Counts that while the OS does not take it.
    held: HeldMemory,
    /// True if the OS did not take all that it was offered.
    is_blocked: bool,
}

/// Whether frames are gathered, for the task that drives the connection.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    is_on: AtomicBool,
    has_unwritten: AtomicBool,
}

impl Gathering {
    /// From now on a flush writes nothing, unless the peer has taken too little before.
    pub(crate) fn begin(&self) {
        self.is_on.store(true, Relaxed);
    }

    /// From now on a flush writes all. Returns true if it has to, and did not before.
    pub(crate) fn end(&self) -> bool {
        self.is_on.swap(false, Relaxed) && self.has_unwritten.load(Relaxed)
    }
}

impl<S> GatheredStream<S> {
    /// Gathers nothing before [`Gathering::begin`]. `held` is what holds nothing yet.
    pub(crate) fn new(stream: S, held: HeldMemory) -> Self {
        Self {
            stream,
            gathering: Arc::default(),
            unwritten: BytesMut::new(),
            held,
            is_blocked: false,
        }
    }

    /// Says when frames are gathered.
    pub(crate) fn gathering(&self) -> &Arc<Gathering> {
        &self.gathering
    }
}

impl<S: AsyncWrite + Unpin> GatheredStream<S> {
    /// Writes all that was gathered.
    fn poll_unwritten(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unwritten.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.unwritten.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.unwritten) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.unwritten.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.is_blocked = true;
                    self.held.note(self.unwritten.len() as u64);
                    return Poll::Pending;
                }
            }
        }
        // An idle connection has no buffer.
        self.unwritten = BytesMut::new();
        self.gathering.has_unwritten.store(false, Relaxed);
        if self.is_blocked {
            self.is_blocked = false;
            self.held.note(0);
        }
        Poll::Ready(Ok(()))
    }

    /// Gathers as much of `bufs` as there is room for. Returns how much that is.
    fn gather(&mut self, bufs: &[IoSlice<'_>]) -> usize {
        let before = self.unwritten.len();
        self.unwritten.reserve(MOST - before);
        for buf in bufs {
            let room = MOST - self.unwritten.len();
            self.unwritten.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        self.gathering.has_unwritten.store(true, Relaxed);
        self.unwritten.len() - before
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GatheredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GatheredStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        let is_gathered = this.gathering.is_on.load(Relaxed) && (LEAST..MOST / 2).contains(&len);
        if this.unwritten.is_empty() && !is_gathered {
            return Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        }
        if this.unwritten.len() == MOST {
            ready!(this.poll_unwritten(cx))?;
        }
        Poll::Ready(Ok(this.gather(bufs)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.gathering.is_on.load(Relaxed) && !this.is_blocked && !this.unwritten.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_unwritten(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unwritten(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// A shorter write is not gathered: its copy is not worth it, if no other follows.
const LEAST: usize = 8 << 10;
/// How much is written at once.
const MOST: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::future::Future;

    use demo_api::demo::kv::v1::KvServer;
    use demo_server::Store;
    use rpc_runtime::{
        Server,
        server::{Guest, GuestConnection, GuestServer},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        net::TcpStream,
        sync::mpsc,
    };

    use super::*;

    /// Hands out the server of a connection, and ends that.
    #[derive(Debug)]
    struct Handing(mpsc::Sender<GuestServer>);

    impl Guest for Handing {
        fn takes(&self, _: u8) -> bool {
            true
        }

        fn serve(&self, connection: GuestConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let (_, server, _) = connection.into_parts();
            self.0.try_send(server).unwrap();
            Box::pin(async {})
        }
    }

    fn is_ready<F: Future>(future: F) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut cx).is_ready()
    }

    #[tokio::test]
    async fn long_frames_go_together_in_order_and_count_while_the_peer_does_not_take_them() {
        let (sender, mut servers) = mpsc::channel(1);
        let server = Server::builder()
            .service(KvServer::new(Arc::<Store>::default()))
            .guest(Handing(sender))
            .listener("tcp://127.0.0.1:0")
            .signals(false);
        let server = server.bind().await.unwrap();
        let address = server.addresses()[0].replace("tcp://", "");
        let handle = server.handle();
        let serving = tokio::spawn(server.serve());
        TcpStream::connect(address)
            .await
            .unwrap()
            .write_all(b"x")
            .await
            .unwrap();
        let held = servers.recv().await.unwrap().hold(0).unwrap();

        let (ours, mut theirs) = duplex(20_000);
        let mut stream = GatheredStream::new(ours, held);
        let gathering = Arc::clone(stream.gathering());
        gathering.begin();
        let mut short = [0; 100];
        for (length, goes_at_once) in [(100, true), (16_000, false), (16_100, false), (15_900, false)] {
            stream.write_all(&vec![length as u8; length]).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(is_ready(theirs.read_exact(&mut short)), goes_at_once, "{length}");
        }
        assert!(gathering.end() && !gathering.end());
        assert_eq!(handle.buffered_bytes(), 0);
        assert!(!is_ready(stream.flush()));
        assert_eq!(handle.buffered_bytes(), 28_000);
        // What the peer did not take is offered again.
        gathering.begin();
        assert!(!is_ready(stream.flush()));
        let mut read = vec![0; 48_000];
        let (flushed, _) = tokio::join!(stream.flush(), theirs.read_exact(&mut read));
        flushed.unwrap();
        let [first, second, third] = [16_000, 16_100, 15_900].map(|length: usize| vec![length as u8; length]);
        assert_eq!(read, [first, second, third].concat());
        assert_eq!(handle.buffered_bytes(), 0);
        assert!(!gathering.end(), "nothing is left");

        // Nothing is lost at the end.
        gathering.begin();
        stream.write_all(&[7; 10_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        theirs.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [7; 10_000]);
        handle.drain();
        serving.await.unwrap().unwrap();
    }
}
