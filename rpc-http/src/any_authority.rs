//! AnyAuthority: lets callers of a Unix socket send its path as `:authority`.
//!
//! The gRPC libraries of several languages do that, as `/run/kv.sock` or `%2Frun%2Fkv.sock`. It is no host, so h2 resets each such call. Nothing
//! here asks for the authority.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::header_block::replace_path;
use crate::{connection::MAX_FRAME, preface::PREFACE};

mod header_block;

/// An HTTP/2 stream whose peer may send the path of a socket as `:authority`. Its preface was read before, and is handed on first.
///
/// `/` and `%` become `-` on the way, in place, so no length and no table of HPACK changes.
#[derive(Debug)]
pub(crate) struct AnyAuthority<S> {
    stream: S,
    /// Finds the frames; none for a peer whose frames are left as they are.
    frames: Option<Frames>,
    /// Bytes that were read and not handed on.
    kept: Vec<u8>,
    /// How many of them may be handed on. The others begin a frame that is not complete.
    scanned: usize,
}

/// Where in the stream of frames the peer is.
#[derive(Debug)]
struct Frames {
    /// The bytes of the frame that has begun that are still to come.
    left: usize,
}

impl<S> AnyAuthority<S> {
    /// Changes the authority of a peer that sends a path.
    pub(crate) fn of_unix_peer(stream: S) -> Self {
        Self {
            frames: Some(Frames { left: 0 }),
            ..Self::unchanged(stream)
        }
    }

    /// Hands on all bytes as they are.
    pub(crate) fn unchanged(stream: S) -> Self {
        Self::behind(stream, PREFACE)
    }

    /// Hands on `read`, which was read before, and then all bytes as they are.
    pub(crate) fn behind(stream: S, read: &[u8]) -> Self {
        Self {
            stream,
            frames: None,
            kept: read.to_vec(),
            scanned: read.len(),
        }
    }
}

impl Frames {
    /// Looks through `bytes`, which follow those that it has seen. Returns how many of them are done; it has to see the others again, with more
    /// behind them.
    fn scan(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let skipped = self.left.min(bytes.len() - at);
            self.left -= skipped;
            at += skipped;
            let frame = &mut bytes[at..];
            let Some((head, payload)) = frame.split_at_mut_checked(HEAD_LEN) else {
                return at;
            };
            let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            // A frame that is too long is h2's to refuse.
            if head[3] == HEADERS && len <= LONGEST {
                let Some(payload) = payload.get_mut(..len) else {
                    return at;
                };
                replace_path(head[4], payload);
            }
            self.left = HEAD_LEN + len;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.scanned == 0 {
            let Some(frames) = &mut this.frames else {
                return Pin::new(&mut this.stream).poll_read(cx, buf);
            };
            if this.kept.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
                let new = &mut buf.filled_mut()[before..];
                let done = frames.scan(new);
                if done == new.len() {
                    return Poll::Ready(Ok(()));
                }
                this.kept = new[done..].to_vec();
                buf.set_filled(before + done);
                if done > 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            while this.scanned == 0 {
                let mut more = [0; 1024];
                let mut more = ReadBuf::new(&mut more);
                ready!(Pin::new(&mut this.stream).poll_read(cx, &mut more))?;
                this.kept.extend_from_slice(more.filled());
                this.scanned = match more.filled() {
                    // The end of the stream, within a frame.
                    [] => this.kept.len(),
                    _ => frames.scan(&mut this.kept),
                };
            }
        }
        let count = this.scanned.min(buf.remaining());
        buf.put_slice(&this.kept[..count]);
        this.kept.drain(..count);
        this.scanned -= count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The length of a frame's head: its length, type, flags and stream.
const HEAD_LEN: usize = 9;
/// The type of a HEADERS frame.
const HEADERS: u8 = 1;
/// The longest payload that a peer may send.
const LONGEST: usize = MAX_FRAME as usize;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::preface::{self, Spoken};

    /// A frame of stream 1.
    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let len = payload.len() as u32;
        [&len.to_be_bytes()[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    async fn read_preface(stream: &mut DuplexStream) {
        assert_eq!(preface::read(stream).await.unwrap(), Spoken::Http2);
    }

    /// A header block with `:authority: value`, and behind it `:method: POST`.
    fn block(value: &[u8]) -> Vec<u8> {
        [&[0x41, value.len() as u8][..], value, &[0x83]].concat()
    }

    fn stream(authority: &[u8]) -> Vec<u8> {
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, b""),
            frame(HEADERS, &block(authority)),
            // Its payload looks like a HEADERS frame.
            frame(0, &frame(HEADERS, &block(b"/run"))),
            frame(HEADERS, &block(authority)),
            // The last one is not complete.
            frame(HEADERS, &block(b"/run"))[..12].to_vec(),
        ]
        .concat()
    }

    #[tokio::test]
    async fn paths_are_replaced_wherever_reads_and_writes_are_cut() {
        let (sent, expected) = (stream(b"/run/%2Fkv.sock"), stream(b"-run--2Fkv.sock"));
        for len in 1..=sent.len() {
            let (mut peer, mut ours) = duplex(len);
            let bytes = sent.clone();
            let writing = tokio::spawn(async move { peer.write_all(&bytes).await });
            read_preface(&mut ours).await;
            let mut ours = AnyAuthority::of_unix_peer(ours);
            let mut read = Vec::new();
            // With a buffer that is shorter than what is kept, too.
            let mut buffer = vec![0; 1 + len % 40];
            loop {
                match ours.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => read.extend_from_slice(&buffer[..count]),
                }
            }
            writing.await.unwrap().unwrap();
            assert_eq!(
                read.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "{len}"
            );
        }
    }

    #[tokio::test]
    async fn other_streams_stay_as_they_are() {
        let sent = stream(b"/run/kv.sock");
        let (mut peer, mut ours) = duplex(sent.len());
        peer.write_all(&sent).await.unwrap();
        drop(peer);
        read_preface(&mut ours).await;
        let mut read = Vec::new();
        AnyAuthority::unchanged(ours)
            .read_to_end(&mut read)
            .await
            .unwrap();
        assert_eq!(read, sent);
    }
}
