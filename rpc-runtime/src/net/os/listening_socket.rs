//! ListeningSocket: a socket that something else has bound: systemd, a process before this one, the program itself.

#[cfg(windows)]
use std::os::windows::io::{AsSocket, BorrowedSocket, OwnedSocket};
#[cfg(unix)]
use std::os::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    unix::net::UnixListener,
};
use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
};

use super::system::StdLocalListener;
#[cfg(unix)]
use super::system::text_of_local;

/// A TCP or Unix socket that listens already (on Windows: a TCP socket), for [`Endpoint::sockets`](crate::server::Endpoint::sockets).
///
/// ```
/// use std::net::TcpListener;
/// use rpc_runtime::server::{Endpoint, ListeningSocket};
///
/// # fn main() -> std::io::Result<()> {
/// let socket = ListeningSocket::from(TcpListener::bind("127.0.0.1:0")?);
/// assert!(socket.address().starts_with("tcp://127.0.0.1:"));
/// let endpoint = Endpoint::sockets(socket.address().to_owned(), [socket]);
/// # Ok(())
/// # }
/// ```
pub struct ListeningSocket {
    address: String,
    kind: SocketKind,
    is_kept_elsewhere: bool,
}

/// The kind of a listening socket.
pub(crate) enum SocketKind {
    Tcp(TcpListener),
    Local(StdLocalListener),
}

impl ListeningSocket {
    /// Says that another process keeps the socket open and listens again when this server has ended, as systemd does.
    ///
    /// The server then leaves the connections that wait in it alone when it drains, and does not remove the file of a Unix socket.
    /// Otherwise it owns both, as it does for an address.
    pub fn kept_elsewhere(mut self) -> Self {
        self.is_kept_elsewhere = true;
        self
    }

    /// Returns whether [`ListeningSocket::kept_elsewhere`] was said.
    pub fn is_kept_elsewhere(&self) -> bool {
        self.is_kept_elsewhere
    }

    /// Returns the address: of a socket of [`ServerHandle::listening_sockets`] as the program has written it, such as
    /// `tcp://127.0.0.1:0`; otherwise that of the socket itself.
    ///
    /// [`ServerHandle::listening_sockets`]: crate::server::ServerHandle::listening_sockets
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Makes a second handle of the same socket.
    ///
    /// # Errors
    ///
    /// The OS's error, for example that no more files can be opened.
    pub fn try_clone(&self) -> io::Result<Self> {
        let kind = match &self.kind {
            SocketKind::Tcp(socket) => SocketKind::Tcp(socket.try_clone()?),
            SocketKind::Local(socket) => SocketKind::Local(socket.try_clone()?),
        };
        Ok(Self {
            address: self.address.clone(),
            kind,
            is_kept_elsewhere: self.is_kept_elsewhere,
        })
    }

    /// Checks that it listens: the OS accepts nothing by another one. It asks for SO_ACCEPTCONN, socket(7), on Linux only; elsewhere an
    /// accept fails.
    pub(crate) fn check_listens(&self) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !socket2::SockRef::from(self).is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
        }
        Ok(())
    }

    /// Takes `copy`, a second handle of a socket of the address that the program has written as `address`.
    pub(crate) fn copied(copy: SocketKind, address: &str) -> Self {
        Self::of(address.to_owned(), copy)
    }

    pub(crate) fn into_kind(self) -> SocketKind {
        self.kind
    }

    fn of(address: String, kind: SocketKind) -> Self {
        Self {
            address,
            kind,
            is_kept_elsewhere: false,
        }
    }
}

impl From<TcpListener> for ListeningSocket {
    fn from(socket: TcpListener) -> Self {
        let address = socket
            .local_addr()
            .map_or_else(|_| "tcp://?".to_owned(), tcp_text);
        Self::of(address, SocketKind::Tcp(socket))
    }
}

#[cfg(unix)]
impl From<UnixListener> for ListeningSocket {
    fn from(socket: UnixListener) -> Self {
        Self::of(text_of_local(&socket), SocketKind::Local(socket))
    }
}

#[cfg(unix)]
impl From<ListeningSocket> for OwnedFd {
    fn from(socket: ListeningSocket) -> Self {
        match socket.kind {
            SocketKind::Tcp(socket) => socket.into(),
            SocketKind::Local(socket) => socket.into(),
        }
    }
}

#[cfg(unix)]
impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            SocketKind::Tcp(socket) => socket.as_fd(),
            SocketKind::Local(socket) => socket.as_fd(),
        }
    }
}

#[cfg(windows)]
impl From<ListeningSocket> for OwnedSocket {
    fn from(socket: ListeningSocket) -> Self {
        match socket.kind {
            SocketKind::Tcp(socket) => socket.into(),
            SocketKind::Local(socket) => match socket {},
        }
    }
}

#[cfg(windows)]
impl AsSocket for ListeningSocket {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        match &self.kind {
            SocketKind::Tcp(socket) => socket.as_socket(),
            SocketKind::Local(socket) => match *socket {},
        }
    }
}

impl fmt::Debug for ListeningSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListeningSocket")
            .field("address", &self.address)
            .field("is_kept_elsewhere", &self.is_kept_elsewhere)
            .finish_non_exhaustive()
    }
}

fn tcp_text(address: SocketAddr) -> String {
    format!("tcp://{address}")
}
