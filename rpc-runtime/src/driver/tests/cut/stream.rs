//! Cut: a stream that is hit at a byte, and remembers all that went through it.

use std::sync::Mutex;

use super::*;

/// What happens to the stream where it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The peer is gone: reads end, writes fail.
    End,
    /// Reads and writes fail.
    Reset,
    /// Nothing moves any more, and nobody is told.
    Stall,
    /// Writes fail; what the peer has said and still says can be read.
    Broken,
    /// As broken, but the write that fails has passed on a part of what it was offered, as one through TLS may.
    Leak,
}

/// Where a stream is cut: after so many bytes written, or read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Written(usize),
    Read(usize),
    Nowhere,
}

/// How many bytes move at once.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// As many as there are, and in one write from several places.
    Plain,
    /// One.
    Single,
    /// One in the zones of the bytes written, and in those of the bytes read; otherwise up to the next zone.
    Zones([Arc<[Range<usize>]>; 2]),
}

impl Pace {
    fn at(&self, way: usize, moved: usize) -> usize {
        match self {
            Self::Plain => usize::MAX,
            Self::Single => 1,
            Self::Zones(zones) => match zones[way].iter().find(|zone| zone.end > moved) {
                Some(zone) if zone.start <= moved => 1,
                Some(zone) => zone.start - moved,
                None => usize::MAX,
            },
        }
    }
}

/// What went through one end of a stream.
#[derive(Default)]
pub(super) struct Log {
    /// What its writes have taken; all that it was offered, if a write failed.
    pub(super) counted: Vec<u8>,
    pub(super) read: Vec<u8>,
    /// How many bytes went on to the peer: if the end keeps what it takes, fewer than it has taken.
    written: usize,
}

impl Log {
    /// How many bytes were written, and read.
    pub(super) fn lens(&self) -> (usize, usize) {
        (self.written, self.read.len())
    }

    /// What went on to the peer.
    pub(super) fn passed(&self) -> &[u8] {
        &self.counted[..self.written]
    }
}

/// One end of a stream that is cut somewhere.
pub(super) struct Cut {
    inner: Option<DuplexStream>,
    place: Place,
    fault: Fault,
    pace: Pace,
    /// Whether a write has failed.
    failed: bool,
    /// What it has taken and keeps until it is flushed, if it is one that does.
    kept: Option<Vec<u8>>,
    /// Whether the next flush has to be asked for twice.
    hesitates: bool,
    log: Arc<Mutex<Log>>,
}

impl Cut {
    pub(super) fn new(
        inner: DuplexStream,
        place: Place,
        fault: Fault,
        pace: Pace,
        keeps: bool,
    ) -> (Self, Arc<Mutex<Log>>) {
        let log = Arc::default();
        let cut = Self {
            inner: Some(inner),
            place,
            fault,
            pace,
            failed: false,
            kept: keeps.then(Vec::new),
            hesitates: true,
            log: Arc::clone(&log),
        };
        (cut, log)
    }

    /// How many bytes may still be written, and read: at 0 the fault happens.
    fn left(&self) -> [usize; 2] {
        let (written, read) = self.log.lock().unwrap().lens();
        match self.place {
            Place::Written(limit) => [limit.saturating_sub(written), usize::MAX],
            Place::Read(limit) => [usize::MAX, limit.saturating_sub(read)],
            Place::Nowhere => [usize::MAX; 2],
        }
    }

    /// Whether reads are hit, too.
    fn is_cut(&self) -> bool {
        !matches!(self.fault, Fault::Broken | Fault::Leak) && self.left().contains(&0)
    }

    fn fail<T>(&mut self, at_end: io::Result<T>) -> Poll<io::Result<T>> {
        match self.fault {
            Fault::Stall => Poll::Pending,
            Fault::End => {
                self.inner = None;
                Poll::Ready(at_end)
            }
            Fault::Reset | Fault::Broken | Fault::Leak => {
                self.inner = None;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }

    fn fail_write(&mut self, offered: &[u8]) -> Poll<io::Result<usize>> {
        if self.fault != Fault::Stall && !self.failed && self.kept.is_none() {
            self.failed = true;
            self.log.lock().unwrap().counted.extend_from_slice(offered);
        }
        match self.fault {
            Fault::Broken | Fault::Leak => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            _ => self.fail(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Fails a write, and passes on a part of it all the same.
    fn leak(&mut self, cx: &mut Context<'_>, offered: &[u8]) -> Poll<io::Result<usize>> {
        let part = match self.pace {
            Pace::Plain => self.left()[0],
            Pace::Single | Pace::Zones(_) => 7,
        };
        if let Some(inner) = self.inner.as_mut().filter(|_| !self.failed) {
            // Whatever of it finds room.
            let _ = Pin::new(inner).poll_write(cx, &offered[..part.min(offered.len())]);
        }
        self.fail_write(offered)
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut() {
            return self.fail(Ok(()));
        }
        let moved = self.log.lock().unwrap().read.len();
        let len = self.left()[1].min(self.pace.at(1, moved)).min(buf.remaining());
        if len == 0 && buf.remaining() > 0 {
            return self.fail(Ok(()));
        }
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Ok(()));
        };
        let mut bytes = vec![0; len.min(16 * 1024)];
        let mut part = ReadBuf::new(&mut bytes);
        ready!(Pin::new(inner).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        self.log.lock().unwrap().read.extend_from_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl Cut {
    /// Writes to the peer.
    fn poll_pass(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let [left, _] = self.left();
        if self.is_cut() || left == 0 && self.fault != Fault::Leak || self.inner.is_none() {
            return self.fail_write(buf);
        }
        let moved = self.log.lock().unwrap().written;
        let len = self.pace.at(0, moved).min(buf.len());
        if self.fault == Fault::Leak && (left < len || left == 0) {
            return self.leak(cx, buf);
        }
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let Ok(written) = ready!(Pin::new(inner).poll_write(cx, &buf[..len.min(left)])) else {
            // The other end is gone.
            return self.fail_write(buf);
        };
        let mut log = self.log.lock().unwrap();
        if self.kept.is_none() {
            log.counted.extend_from_slice(&buf[..written]);
        }
        log.written += written;
        Poll::Ready(Ok(written))
    }

    /// Passes on what it keeps.
    fn poll_pass_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(kept) = self.kept.as_mut().filter(|kept| !kept.is_empty()) {
            let all = std::mem::take(kept);
            let passed = self.poll_pass(cx, &all);
            let gone = match passed {
                Poll::Ready(Ok(n)) => n,
                _ => 0,
            };
            self.kept = Some(all[gone..].to_vec());
            ready!(passed)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl ByteStream for Cut {
    fn is_buffering(&self) -> bool {
        self.kept.is_some()
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(kept) = &mut self.kept else {
            return self.poll_pass(cx, buf);
        };
        let taken = &buf[..buf.len().min(KEPT_MAX - kept.len())];
        if taken.is_empty() {
            // It makes room only when it is flushed.
            return Poll::Pending;
        }
        kept.extend_from_slice(taken);
        self.log.lock().unwrap().counted.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.pace, Pace::Plain)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.kept.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.hesitates = !self.hesitates;
        if !self.hesitates {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_pass_kept(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fault == Fault::Stall && self.is_cut() {
            return Poll::Pending;
        }
        assert!(
            self.kept.as_ref().is_none_or(Vec::is_empty),
            "a half-close comes before a flush"
        );
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// How much one keeps.
const KEPT_MAX: usize = 8000;
