//! WatchedStream: the byte stream of a connection, which notes how much its peer sends and whether it takes what is written.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use rpc_runtime::server::{HeldMemory, PeerCut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use crate::{
    begun_frame::{BegunFrame, LONGEST_BLOCK},
    pace::Pace,
};

/// A byte stream that notes its traffic. Writing fails if the peer takes too little of it.
#[derive(Debug)]
pub(crate) struct WatchedStream<S> {
    stream: S,
    traffic: Arc<Traffic>,
    write_stall: Duration,
    /// None while the OS takes all that is written.
    stall: Option<Box<Stall>>,
    /// None if the frames of the peer are not watched.
    frames: Option<Box<WatchedFrames>>,
}

/// A peer that does not take what is written, or does not go on with a frame.
#[derive(Debug)]
struct Stall {
    pace: Pace,
    timer: Pin<Box<Sleep>>,
}

/// The frames of a peer, of which h2 gathers long ones.
#[derive(Debug)]
struct WatchedFrames {
    begun: BegunFrame,
    held: HeldMemory,
    slow_frame: Duration,
    /// None while no long frame waits for its rest.
    stall: Option<Box<Stall>>,
}

/// What has gone over a connection.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes that were read.
    read: AtomicU64,
    /// What requests and answers were worth, in bytes.
    useful: AtomicU64,
    /// Why the peer is given up; none if it is not.
    cut: OnceLock<PeerCut>,
}

impl Traffic {
    /// How many bytes were read.
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Notes `bytes` of a request, or of an answer.
    pub(crate) fn add_useful(&self, bytes: usize) {
        self.useful.fetch_add(bytes as u64, Relaxed);
    }

    /// Why reading or writing has given the peer up; none if it has not.
    pub(crate) fn cut(&self) -> Option<PeerCut> {
        self.cut.get().copied()
    }

    /// Notes that the peer is given up. Returns the error of reading or writing.
    fn give_up(&self, cut: PeerCut, kind: io::ErrorKind, text: String) -> io::Error {
        // The first reason counts.
        let _ = self.cut.set(cut);
        io::Error::new(kind, text)
    }

    /// True if the peer floods: it has sent far more than its requests and their answers are worth, in the `age` of the connection.
    ///
    /// Frames that are not of a request (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown ones) make work, and HTTP/2 has no limit for
    /// them. Few are normal: some for each request, and some each second.
    pub(crate) fn is_flood(&self, age: Duration) -> bool {
        let useful = self.useful.load(Relaxed).saturating_mul(OVERHEAD);
        let normal = age.as_secs().saturating_mul(EACH_SECOND);
        self.read() > useful.saturating_add(normal).saturating_add(AT_ONCE)
    }
}

impl<S> WatchedStream<S> {
    /// Watches `stream`. The peer must take 64 KiB of what is written in `write_stall`.
    pub(crate) fn new(stream: S, write_stall: Duration) -> Self {
        Self {
            stream,
            traffic: Arc::default(),
            write_stall,
            stall: None,
            frames: None,
        }
    }

    /// Counts what h2 gathers of the peer's frames, which come behind `preface` bytes. `held` is what holds nothing yet. Reading fails if 64 KiB of a
    /// long frame, or its rest, do not come in `slow_frame`.
    pub(crate) fn watching_frames(mut self, preface: usize, held: HeldMemory, slow_frame: Duration) -> Self {
        self.frames = Some(Box::new(WatchedFrames {
            begun: BegunFrame::behind(preface),
            held,
            slow_frame,
            stall: None,
        }));
        self
    }

    /// What goes over it.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Fails if the peer has taken too little for too long.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let write_stall = self.write_stall;
        Stall::poll(&mut self.stall, write_stall, cx).map(|()| {
            let text = format!("peer took less than 64 KiB in {write_stall:?}: Limits::write_stall");
            Err(self
                .traffic
                .give_up(PeerCut::WriteStall, io::ErrorKind::TimedOut, text))
        })
    }

    /// Notes what became of a write.
    fn poll_written(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if let Some(stall) = &mut self.stall {
                    stall.pace.moved(bytes);
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_stall(cx).map_ok(|()| 0),
        }
    }
}

impl Stall {
    /// Ready when `stall`, which began at its first poll, has lasted for too long: `time` for each 64 KiB.
    fn poll(stall: &mut Option<Box<Self>>, time: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let stall = stall.get_or_insert_with(|| {
            let pace = Pace::new(time);
            let timer = Box::pin(sleep_until(pace.due()));
            Box::new(Self { pace, timer })
        });
        if stall.timer.deadline() != stall.pace.due() {
            stall.timer.as_mut().reset(stall.pace.due());
        }
        stall.timer.as_mut().poll(cx)
    }
}

impl WatchedFrames {
    /// Notes what was read, and counts what h2 gathers of it.
    fn read(&mut self, bytes: &[u8], traffic: &Traffic) -> io::Result<()> {
        self.begun.read(bytes).map_err(|_| {
            let text = format!("a header block has more than {LONGEST_BLOCK} bytes");
            traffic.give_up(PeerCut::Excess, io::ErrorKind::InvalidData, text)
        })?;
        match (self.begun.gathered(), &mut self.stall) {
            (..=SHORT, stall) => {
                *stall = None;
                self.held.note(0);
            }
            (gathered, stall) => {
                if let Some(stall) = stall {
                    stall.pace.moved(bytes.len());
                }
                self.held.note(gathered as u64);
            }
        }
        Ok(())
    }

    /// Fails if a long frame has waited for its rest for too long.
    fn poll_slow(&mut self, traffic: &Traffic, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.begun.gathered() <= SHORT {
            return Poll::Pending;
        }
        let slow_frame = self.slow_frame;
        Stall::poll(&mut self.stall, slow_frame, cx).map(|()| {
            let text = format!("less than 64 KiB of a frame came in {slow_frame:?}: Limits::slow_frame");
            Err(traffic.give_up(PeerCut::SlowFrame, io::ErrorKind::TimedOut, text))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.stream).poll_read(cx, buf);
        let read = &buf.filled()[before..];
        this.traffic.read.fetch_add(read.len() as u64, Relaxed);
        let Some(frames) = &mut this.frames else {
            return poll;
        };
        match poll {
            Poll::Ready(Ok(())) => Poll::Ready(frames.read(read, &this.traffic)),
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => frames.poll_slow(&this.traffic, cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.poll_written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.poll_written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => {
                self.stall = None;
                Poll::Ready(flushed)
            }
            Poll::Pending => self.poll_stall(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(cx) {
            Poll::Ready(shut) => Poll::Ready(shut),
            Poll::Pending => self.poll_stall(cx),
        }
    }
}

/// What h2 may gather and is not counted: a frame that is as long as HTTP/2 always allows.
const SHORT: usize = 16 << 10;
/// How many bytes may be read for each useful one: a message of one byte takes 15 with its prefix and its frame.
const OVERHEAD: u64 = 8;
/// How many bytes may be read beside that, each second: 60 PINGs.
const EACH_SECOND: u64 = 1 << 10;
/// How many bytes may be read beside that, at once: 15,000 PINGs.
const AT_ONCE: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_byte_a_second_is_given_up() {
        let (ours, mut theirs) = duplex(64);
        let mut stream = WatchedStream::new(ours, Duration::from_secs(30));
        let begun = Instant::now();
        let writing = async {
            let error = stream.write_all(&[7; 1000]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(stream.traffic().cut(), Some(PeerCut::WriteStall));
        };
        tokio::select! {
            () = writing => {}
            () = async { loop {
                let _: u8 = theirs.read_u8().await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            } } => {}
        }
        assert_eq!(begun.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_enough_may_take_its_time() {
        let (ours, mut theirs) = duplex(64 << 10);
        let mut stream = WatchedStream::new(ours, Duration::from_secs(30));
        let reading = tokio::spawn(async move {
            let mut bytes = vec![0; 64 << 10];
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                theirs.read_exact(&mut bytes).await.unwrap();
            }
        });
        stream.write_all(&[7; 640 << 10]).await.unwrap();
        stream.flush().await.unwrap();
        reading.await.unwrap();
        assert_eq!(stream.traffic().cut(), None);
    }

    #[test]
    fn a_flood_is_more_than_requests_and_time_explain() {
        let traffic = Traffic::default();
        traffic.read.store(AT_ONCE, Relaxed);
        assert!(!traffic.is_flood(Duration::ZERO));
        traffic.read.fetch_add(1, Relaxed);
        assert!(traffic.is_flood(Duration::ZERO));
        assert!(!traffic.is_flood(Duration::from_secs(1)));
        traffic.add_useful(1000);
        assert!(!traffic.is_flood(Duration::ZERO));
        traffic.read.fetch_add(8000, Relaxed);
        assert!(traffic.is_flood(Duration::ZERO));
    }
}
