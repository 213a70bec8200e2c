//! Stream: a connection of the relay, over TCP or a Unix socket. The bytes of TLS are as good as others.

use std::{io, net::Shutdown, time::Duration};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A listener of the relay.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens, and returns the real address.
    pub(super) async fn bind(address: &str) -> io::Result<(Self, String)> {
        match place(address)? {
            Place::Tcp(host) => {
                let listener = TcpListener::bind(host).await?;
                let scheme = address.trim_end_matches(host);
                let address = format!("{scheme}{}", listener.local_addr()?);
                Ok((Self::Tcp(listener), address))
            }
            Place::Unix(path) => Ok((Self::Unix(UnixListener::bind(path)?), address.to_owned())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => Stream::tcp(listener.accept().await?.0),
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) async fn connect(address: &str) -> io::Result<Self> {
        match place(address)? {
            Place::Tcp(host) => Self::tcp(TcpStream::connect(host).await?),
            Place::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Reads some bytes; returns 0 at the end.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
                Self::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match written {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the direction towards this peer.
    pub(super) fn shutdown(&self) {
        // An error means that the peer has ended it already.
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Turns its close into a reset.
    pub(super) fn reset_on_close(&self) {
        // A Unix socket has no reset, and closes.
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        }
    }
}

enum Place<'a> {
    Tcp(&'a str),
    Unix(&'a str),
}

fn place(address: &str) -> io::Result<Place<'_>> {
    for scheme in ["tcp://", "tls://"] {
        if let Some(host) = address.strip_prefix(scheme) {
            return Ok(Place::Tcp(host));
        }
    }
    if let Some(path) = address.strip_prefix("unix:") {
        return Ok(Place::Unix(path));
    }
    let text = format!("{address} is neither tcp:// nor tls:// nor unix:");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}
