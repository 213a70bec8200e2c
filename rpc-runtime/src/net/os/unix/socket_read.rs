//! Reads of a socket that do not wait for tokio to hear of input.

use std::{
    cell::RefCell,
    io::{self, Read},
    os::fd::AsFd,
    task::Poll,
};

use socket2::SockRef;
use tokio::{
    io::ReadBuf,
    net::{TcpStream, UnixStream},
};

/// Sockets can be asked for input.
pub(crate) const ASKS_SOCKETS: bool = true;

/// Reads what the OS holds for `stream`. If that is nothing, the task is not woken when it is something.
///
/// tokio hears of input from epoll or kqueue, which it asks when it has nothing else to do. What is read here is no longer there when tokio
/// hears of it, and the read that follows then finds nothing. Input that comes later is told anew, because tokio registers for edges:
/// epoll(7), kqueue(2) with EV_CLEAR.
pub(crate) fn read_tcp_now(stream: &TcpStream, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    read_now(stream, buf)
}

/// As [`read_tcp_now`].
pub(crate) fn read_local_now(stream: &UnixStream, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    read_now(stream, buf)
}

fn read_now(socket: &impl AsFd, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let socket = SockRef::from(socket);
    READ.with_borrow_mut(|bytes| {
        let most = bytes.len().min(buf.remaining());
        // tokio has made it non-blocking.
        match (&*socket).read(&mut bytes[..most]) {
            Ok(count) => {
                buf.put_slice(&bytes[..count]);
                Poll::Ready(Ok(()))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    })
}

thread_local! {
    /// Where the bytes of a read go first. Safe code cannot read into memory that was never written, and to clear it costs more than to
    /// copy what was read.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_LEN].into());
}

/// The most bytes of one read.
const READ_LEN: usize = 16 * 1024;
