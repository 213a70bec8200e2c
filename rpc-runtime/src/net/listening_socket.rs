//! ListeningSocket: a socket that something else has bound: systemd, a process before this one, the program itself.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
};

/// A TCP or Unix socket that listens already, for [`Endpoint::sockets`](crate::server::Endpoint::sockets).
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
pub(super) enum SocketKind {
    Tcp(TcpListener),
    Unix(UnixListener),
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
            SocketKind::Unix(socket) => SocketKind::Unix(socket.try_clone()?),
        };
        Ok(Self {
            address: self.address.clone(),
            kind,
            is_kept_elsewhere: self.is_kept_elsewhere,
        })
    }

    /// Makes a second handle of `socket`, which is of the address that the program has written as `address`.
    pub(super) fn copy_tcp(socket: impl AsFd, address: &str) -> io::Result<Self> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        Ok(Self::of(address.to_owned(), SocketKind::Tcp(copy.into())))
    }

    /// The same for a Unix socket.
    pub(super) fn copy_unix(socket: impl AsFd, address: &str) -> io::Result<Self> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        Ok(Self::of(address.to_owned(), SocketKind::Unix(copy.into())))
    }

    pub(super) fn into_kind(self) -> SocketKind {
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

impl From<UnixListener> for ListeningSocket {
    fn from(socket: UnixListener) -> Self {
        let address = unix_text(&socket);
        Self::of(address, SocketKind::Unix(socket))
    }
}

impl From<ListeningSocket> for OwnedFd {
    fn from(socket: ListeningSocket) -> Self {
        match socket.kind {
            SocketKind::Tcp(socket) => socket.into(),
            SocketKind::Unix(socket) => socket.into(),
        }
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            SocketKind::Tcp(socket) => socket.as_fd(),
            SocketKind::Unix(socket) => socket.as_fd(),
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

/// The address of a Unix socket: its path, or its name if it has no file.
pub(super) fn unix_text(socket: &UnixListener) -> String {
    let Ok(address) = socket.local_addr() else {
        return "unix:?".to_owned();
    };
    if let Some(path) = address.as_pathname() {
        return format!("unix:{}", path.display());
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::linux::net::SocketAddrExt;

        if let Some(name) = address.as_abstract_name() {
            return format!("unix:@{}", String::from_utf8_lossy(name));
        }
    }
    "unix:unnamed".to_owned()
}
