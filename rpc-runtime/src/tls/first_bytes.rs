//! Keeps the first bytes that a peer sends, to name what it speaks if that is not TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::net::os;

/// The first bytes that a peer has sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FirstBytes {
    bytes: [u8; LEN],
    len: usize,
}

impl FirstBytes {
    pub(super) fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn add(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(LEN - self.len);
        self.bytes[self.len..][..count].copy_from_slice(&bytes[..count]);
        self.len += count;
    }
}

/// A byte stream that keeps the first bytes that are read.
#[derive(Debug)]
pub(super) struct Kept<S> {
    pub(super) stream: S,
    pub(super) first: FirstBytes,
    /// True while reads ask the OS when tokio knows of no input.
    pub(super) asks_socket: bool,
}

impl<S> Kept<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            first: FirstBytes::default(),
            asks_socket: false,
        }
    }
}

impl AsyncRead for Kept<TcpStream> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Pending if this.asks_socket => os::read_tcp_now(&this.stream, buf),
            read => read,
        };
        if this.first.len < LEN {
            this.first.add(&buf.filled()[before..]);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Kept<S> {
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

/// The number of bytes that are kept. The magic of a HELLO stands within them.
const LEN: usize = 32;
