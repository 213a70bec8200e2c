//! Reads of a socket that do not wait for tokio to hear of input: not on Windows, where they were not tried.

use std::{io, task::Poll};

use tokio::{io::ReadBuf, net::TcpStream};

use super::LocalStream;

/// Sockets cannot be asked for input.
pub(crate) const ASKS_SOCKETS: bool = false;

/// Reads nothing.
pub(crate) fn read_tcp_now(_: &TcpStream, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    Poll::Pending
}

/// Reads nothing.
pub(crate) fn read_local_now(_: &LocalStream, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    Poll::Pending
}
