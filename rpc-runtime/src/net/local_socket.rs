//! LocalSocket: a stream of the local transport whose first byte can be looked at.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::os::{self, LocalStream};

/// A stream of the local transport whose first byte can be looked at.
#[derive(Debug)]
pub(super) struct LocalSocket {
    stream: LocalStream,
    /// A byte that was looked at and not read yet. Neither the standard library nor tokio can peek at a Unix stream or a pipe.
    seen: Option<u8>,
}

impl From<LocalStream> for LocalSocket {
    fn from(stream: LocalStream) -> Self {
        Self { stream, seen: None }
    }
}

impl LocalSocket {
    /// Waits for the first byte; none at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        let mut first = [0; 1];
        if self.seen.is_none() && self.stream.read(&mut first).await? == 1 {
            self.seen = Some(first[0]);
        }
        Ok(self.seen)
    }

    /// Reads what the OS holds: see [`os::read_tcp_now`].
    pub(super) fn read_now(&self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        os::read_local_now(&self.stream, buf)
    }
}

impl AsyncRead for LocalSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.seen.take_if(|_| buf.remaining() > 0) {
            None => Pin::new(&mut self.stream).poll_read(cx, buf),
            Some(byte) => {
                buf.put_slice(&[byte]);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for LocalSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
