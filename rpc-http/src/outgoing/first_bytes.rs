//! FirstBytes: what a server sent first, which tells what it speaks if that is not HTTP/2.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use rpc_runtime::Status;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a server sent first.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstBytes(Arc<Mutex<Vec<u8>>>);

/// A stream that notes the first bytes that are read.
pub(super) struct Noting<S> {
    stream: S,
    first: FirstBytes,
    /// How many bytes are still to be noted.
    left: usize,
}

impl FirstBytes {
    /// Makes a stream that notes its first bytes, and returns both.
    pub(super) fn note<S>(stream: S) -> (Noting<S>, Self) {
        let first = Self::default();
        let noting = Noting {
            stream,
            first: first.clone(),
            left: NOTED,
        };
        (noting, first)
    }

    /// Says why a handshake failed with `error`.
    pub(super) fn explain(&self, error: &h2::Error) -> Status {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match what(&first) {
            Some(what) => Status::failed_precondition(format!(
                "the server does not speak HTTP/2, and so no gRPC: {what}"
            )),
            None if first.is_empty() => {
                Status::unavailable(format!("the server left before it answered: {error}"))
            }
            None => Status::unavailable(format!("the HTTP/2 handshake failed: {error}")),
        }
    }
}

/// Says what a server speaks that begins with these bytes; none if it is HTTP/2, or if it has said nothing.
fn what(first: &[u8]) -> Option<String> {
    let shown = || first[..first.len().min(SHOWN)].escape_ascii();
    match first {
        // SETTINGS: a length, the type 4, flags, and the stream 0.
        [] | [0] | [0, _] | [0, _, _] | [0, _, _, 4, ..] if !is_ours(first) => None,
        [0x15 | 0x16, 3, ..] => Some("it speaks TLS: connect by grpcs://".to_owned()),
        _ if first.starts_with(b"HTTP/") => {
            let end = first.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let line = &first[..end.unwrap_or(first.len())];
            Some(format!("it answered \"{}\"", line.escape_ascii()))
        }
        _ if is_ours(first) => Some(
            "it speaks the protocol of rpc-runtime alone: connect by tcp://, or give the server a guest, \
             .guest(rpc_http::Http::new().grpc())"
                .to_owned(),
        ),
        _ => Some(format!("its first bytes are \"{}\"", shown())),
    }
}

/// True for the magic of rpc-runtime's own protocol.
fn is_ours(first: &[u8]) -> bool {
    first.windows(OURS.len()).any(|part| part == OURS)
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.left > 0 {
            let read = &buf.filled()[before..];
            let noted = &read[..read.len().min(self.left)];
            let mut first = self.first.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.extend_from_slice(noted);
            drop(first);
            self.left -= noted.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
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

/// How many bytes are noted.
const NOTED: usize = 64;
/// How many bytes of something unknown are shown.
const SHOWN: usize = 16;
/// Stands in the first frame of rpc-runtime's own protocol.
const OURS: &[u8] = b"rustrpc";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_http2_is_named() {
        for (first, says) in [
            (&b""[..], None),
            (&b"\0\0\x12\x04\0\0\0\0\0"[..], None),
            (
                &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"[..],
                Some("it answered \"HTTP/1.1 400 Bad Request\""),
            ),
            (
                &b"\x15\x03\x03\0\x02"[..],
                Some("it speaks TLS: connect by grpcs://"),
            ),
            (
                &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
                Some("its first bytes are \"SSH-2.0-OpenSSH_\""),
            ),
        ] {
            assert_eq!(what(first).as_deref(), says);
        }
        let ours = what(b"\0\0\0\x47\x08\x01\x7a\x43\x09rustrpc\x01").unwrap();
        assert!(
            ours.starts_with("it speaks the protocol of rpc-runtime"),
            "{ours}"
        );
    }
}
