//! Sockets that listen already: listeners of them, and handles of them for other processes.

use std::{io, os::unix::net, sync::Arc};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Handle,
};

use super::{Listener, Socket};
use crate::{
    Code, Error,
    driver::runtime::{transport_error, unless_panics},
    net::{
        Address,
        listening_socket::{ListeningSocket, SocketKind, unix_text},
        socket_file::SocketFile,
    },
};

impl Listener {
    /// Makes listeners of `sockets`, which listen already, all at the address that the program has written as `address`. Each runtime
    /// gets at least one, and no socket is left out.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT if a socket does not listen, or cannot be what the address says. FAILED_PRECONDITION if the runtime cannot do IO.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the sockets.
    pub(crate) async fn adopt(
        address: &Address,
        sockets: Vec<ListeningSocket>,
        runtimes: &[Handle],
    ) -> Result<Vec<(Handle, Self)>, Error> {
        unless_panics(async { Self::try_adopt(address, &sockets, runtimes) })
            .await
            .map_err(|panic| transport_error(&panic))?
            .map_err(|error| {
                let text = format!("the socket for {address} cannot be used");
                Error::local(Code::InvalidArgument, text).with_source(error)
            })
    }

    fn try_adopt(
        address: &Address,
        sockets: &[ListeningSocket],
        runtimes: &[Handle],
    ) -> io::Result<Vec<(Handle, Self)>> {
        let Some(first) = sockets.first() else {
            let text = "there is none: give at least one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let file = own_file(address, first.try_clone()?)?.map(Arc::new);
        let slots = sockets.len().max(runtimes.len());
        let each = (0..slots).map(|slot| {
            let runtime = &runtimes[slot % runtimes.len()];
            let socket = &sockets[slot % sockets.len()];
            let _entered = runtime.enter();
            let listener = Self::of_socket(address, socket.try_clone()?, file.clone())?;
            Ok((runtime.clone(), listener))
        });
        each.collect()
    }

    fn of_socket(
        address: &Address,
        socket: ListeningSocket,
        file: Option<Arc<SocketFile>>,
    ) -> io::Result<Self> {
        let is_kept_elsewhere = socket.is_kept_elsewhere();
        check_listens(&socket)?;
        let (bound, socket) = match (address, socket.into_kind()) {
            (Address::Tls(_), SocketKind::Unix(_)) => {
                let text = "it is a Unix socket, and tls:// needs one of TCP: write unix:";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            (_, SocketKind::Tcp(socket)) => {
                let host = socket.local_addr()?.to_string();
                let bound = match address {
                    Address::Tls(_) => Address::Tls(host),
                    _ => Address::Tcp(host),
                };
                socket.set_nonblocking(true)?;
                (bound, Socket::Tcp(TcpListener::from_std(socket)?))
            }
            (_, SocketKind::Unix(socket)) => {
                let bound = match address {
                    Address::Unix(_) if has_file(&socket)? => address.clone(),
                    _ => Address::Custom(unix_text(&socket)),
                };
                socket.set_nonblocking(true)?;
                let socket = UnixListener::from_std(socket)?;
                (bound, Socket::Unix { file, socket })
            }
        };
        let text = bound.to_string();
        let listener = Self::new(bound, text, socket);
        Ok(Self {
            is_kept_elsewhere,
            ..listener
        })
    }

    /// Makes a second handle of the socket, of the address that the program has written as `written`. None if no other process could
    /// use it.
    ///
    /// # Errors
    ///
    /// The OS's error, for example that no more files can be opened.
    pub(crate) fn copy(&self, written: &str) -> io::Result<Option<ListeningSocket>> {
        let copy = match &self.socket {
            Socket::Tcp(socket) => ListeningSocket::copy_tcp(socket, written)?,
            Socket::Unix { socket, .. } => ListeningSocket::copy_unix(socket, written)?,
            Socket::Memory(_) | Socket::Custom(_) => return Ok(None),
        };
        Ok(Some(match self.is_kept_elsewhere {
            true => copy.kept_elsewhere(),
            false => copy,
        }))
    }
}

/// The file of a Unix socket that listens already, if it is ours to remove.
///
/// It is at the path of `address`. The socket may have been bound to another name, as those of this library are.
fn own_file(address: &Address, socket: ListeningSocket) -> io::Result<Option<SocketFile>> {
    if socket.is_kept_elsewhere() {
        return Ok(None);
    }
    match (address, socket.into_kind()) {
        (Address::Unix(path), SocketKind::Unix(socket)) if has_file(&socket)? => {
            SocketFile::adopt(path).map(Some)
        }
        _ => Ok(None),
    }
}

/// True if a Unix socket was bound to a path, and not to a name without a file.
fn has_file(socket: &net::UnixListener) -> io::Result<bool> {
    Ok(socket.local_addr()?.as_pathname().is_some())
}

/// Checks that a socket listens: the OS accepts nothing by another one.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn check_listens(socket: &ListeningSocket) -> io::Result<()> {
    match SockRef::from(socket).is_listener()? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen")),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn check_listens(_: &ListeningSocket) -> io::Result<()> {
    Ok(())
}
