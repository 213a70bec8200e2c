//! Sockets that listen already: listeners of them, and handles of them for other processes.

use std::{io, path::Path};

use tokio::{net::TcpListener, runtime::Handle};

use super::{Listener, Socket};
use crate::{
    Code, Error,
    driver::runtime::{transport_error, unless_panics},
    net::{
        Address,
        os::{
            ListeningSocket, LocalListener, SocketKind, StdLocalListener, copy_tcp, has_file, text_of_local,
        },
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
        let adopt = LocalListener::adopting(own_file(address, first.try_clone()?)?)?;
        let slots = sockets.len().max(runtimes.len());
        let each = (0..slots).map(|slot| {
            let runtime = &runtimes[slot % runtimes.len()];
            let socket = &sockets[slot % sockets.len()];
            let _entered = runtime.enter();
            let listener = Self::of_socket(address, socket.try_clone()?, &adopt)?;
            Ok((runtime.clone(), listener))
        });
        each.collect()
    }

    fn of_socket(
        address: &Address,
        socket: ListeningSocket,
        adopt: impl Fn(StdLocalListener) -> io::Result<LocalListener>,
    ) -> io::Result<Self> {
        let is_kept_elsewhere = socket.is_kept_elsewhere();
        socket.check_listens()?;
        let (bound, socket) = match (address, socket.into_kind()) {
            (Address::Tls(_), SocketKind::Local(_)) => {
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
            (_, SocketKind::Local(socket)) => {
                let bound = match address {
                    Address::Local(_) if has_file(&socket)? => address.clone(),
                    _ => Address::Custom(text_of_local(&socket)),
                };
                (bound, Socket::Local(adopt(socket)?))
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
            Socket::Tcp(socket) => SocketKind::Tcp(copy_tcp(socket)?),
            Socket::Local(socket) => match socket.copy()? {
                Some(copy) => SocketKind::Local(copy),
                None => return Ok(None),
            },
            Socket::Memory(_) | Socket::Custom(_) => return Ok(None),
        };
        let copy = ListeningSocket::copied(copy, written);
        Ok(Some(match self.is_kept_elsewhere {
            true => copy.kept_elsewhere(),
            false => copy,
        }))
    }
}

/// The path of a Unix socket that listens already, if its file is ours to remove.
///
/// It is the path of `address`. The socket may have been bound to another name, as those of this library are.
fn own_file(address: &Address, socket: ListeningSocket) -> io::Result<Option<&Path>> {
    if socket.is_kept_elsewhere() {
        return Ok(None);
    }
    Ok(match (address, socket.into_kind()) {
        (Address::Local(path), SocketKind::Local(socket)) if has_file(&socket)? => Some(path),
        _ => None,
    })
}
