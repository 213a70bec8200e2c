//! Net: byte streams over TCP, Unix sockets or named pipes, memory, a simulation, or a user's own transport.

mod address;
mod custom;
mod listener;
mod local_socket;
mod memory;
pub(crate) mod network;
pub(crate) mod os;
mod peer;
mod proxy_gate;
mod proxy_header;
mod resolve;
mod security;
#[cfg(test)]
mod system_calls;
mod terminate_key;
mod transport;
mod trusted_networks;
mod unix_servers;

use std::{
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use self::{
    custom::Custom,
    local_socket::LocalSocket,
    os::{set_stream_options, set_user_timeout},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};

use crate::driver::{self, ConnectionStream, SharedConnection};

pub(crate) use self::network::is_simulated;
pub(crate) use self::{
    address::{Address, Mistake, check_host},
    custom::{Connector, IncomingStreams},
    listener::{Listener, peer_has_left},
    os::{lacks_resources, own_user},
    proxy_gate::ProxyGate,
    proxy_header::ProxyFault,
    resolve::{name_of, resolve},
    security::{ClientSecurity, ServerSecurity, TlsFailure},
    terminate_key::{Challenge, KeyFile, read_key},
    trusted_networks::TrustedNetworks,
    unix_servers::{UnixServers, WrongUnixServer},
};
pub use self::{os::ListeningSocket, peer::Peer, transport::Transport};

/// One established byte stream of any transport.
#[derive(Debug)]
pub(crate) struct Stream {
    kind: StreamKind,
    /// True while reads ask the OS when tokio knows of no input.
    asks_socket: bool,
}

#[derive(Debug)]
enum StreamKind {
    Tcp(TcpStream),
    Local(LocalSocket),
    Memory(DuplexStream),
    /// Boxed, because the others are short.
    Connection(Box<ConnectionStream>),
    #[cfg(feature = "_tls")]
    Tls(Box<crate::tls::TlsStream>),
    Custom(Custom),
}

/// What tells who serves a stream: we, or a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The first byte of a stream of TCP or of the local transport.
    FirstByte(u8),
    /// ALPN has agreed on our protocol, or the stream is of a transport without guests.
    Ours,
    /// ALPN has agreed on a protocol of the guest.
    #[cfg_attr(not(feature = "_tls"), allow(dead_code, reason = "only TLS has ALPN"))]
    Guests,
}

/// One of the places that may answer at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// One of the socket addresses of a host.
    Socket(SocketAddr),
    /// The address itself: it has only one place.
    Whole,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Whole => f.write_str("the address"),
        }
    }
}

/// Finds the places that may answer at `address`, in the order to try them.
///
/// # Errors
///
/// The OS's error for the look-up of a host name.
///
/// # Cancel safety
///
/// Dropping the future abandons the look-up.
pub(crate) async fn find(address: &Address) -> io::Result<Vec<Spot>> {
    if is_simulated() {
        return Ok(vec![Spot::Whole]);
    }
    match address {
        Address::Tcp(host) | Address::Tls(host) => {
            let found = resolve(host).await?;
            Ok(found.into_iter().map(Spot::Socket).collect())
        }
        Address::Local(_) | Address::Memory(_) | Address::Custom(_) => Ok(vec![Spot::Whole]),
    }
}

/// Connects to a place that [`find`] returned for `address`, and returns the stream and its peer. Over TLS, that includes the
/// handshake.
///
/// # Errors
///
/// The OS's error; `ConnectionRefused` if nothing listens on a memory name. Within it a `TlsError` if TLS fails, or a
/// [`WrongUnixServer`].
///
/// # Cancel safety
///
/// Dropping the future abandons the attempt.
pub(crate) async fn connect(
    address: &Address,
    spot: Spot,
    security: &ClientSecurity,
) -> io::Result<(Stream, Peer)> {
    if let Some(network) = network::current() {
        return network.connect(address).await;
    }
    match (address, spot) {
        (Address::Tls(host), Spot::Socket(socket)) => {
            let stream = TcpStream::connect(socket).await?;
            let peer = other_end(&stream)?;
            set_stream_options(&stream)?;
            security.shake_hands(stream, name_of(host), peer).await
        }
        (_, Spot::Socket(socket)) => {
            let stream = TcpStream::connect(socket).await?;
            let peer = other_end(&stream)?;
            Ok((Stream::tcp(stream)?, peer))
        }
        (Address::Local(path), _) => {
            let stream = os::connect_local(path).await?;
            let peer = Peer::local(address, os::credentials(&stream));
            security.check_local(peer.user())?;
            Ok((Stream::of(StreamKind::Local(stream.into())), peer))
        }
        (Address::Memory(name), _) => {
            let stream = memory::connect(name).await?;
            Ok((Stream::of(StreamKind::Memory(stream)), Peer::memory(address)))
        }
        // Nothing connects to a custom address by itself, and a host always becomes a socket address first.
        (Address::Custom(_) | Address::Tcp(_) | Address::Tls(_), _) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Returns the peer of a new outgoing connection.
///
/// # Errors
///
/// `ConnectionRefused` if the connection's other end is itself. If nothing listens on a port, the OS may give the
/// client that very port, and a server could not get it back then.
fn other_end(stream: &TcpStream) -> io::Result<Peer> {
    let peer = stream.peer_addr()?;
    if stream.local_addr()? == peer {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(Peer::tcp(peer))
}

/// Makes the two ends of a stream inside this process.
pub(crate) fn pair() -> (Stream, Stream) {
    let (one, other) = tokio::io::duplex(memory::BUFFER_LEN);
    (
        Stream::of(StreamKind::Memory(one)),
        Stream::of(StreamKind::Memory(other)),
    )
}

impl Stream {
    fn of(kind: StreamKind) -> Self {
        Self {
            kind,
            asks_socket: false,
        }
    }

    /// The stream of a connection in this process, which reads frames of at most `max_frame` bytes: see [`ConnectionStream`].
    pub(crate) fn of_connection(connection: Arc<SharedConnection>, max_frame: u32) -> Self {
        Self::of(StreamKind::Connection(Box::new(ConnectionStream::new(
            connection, max_frame,
        ))))
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        set_stream_options(&stream)?;
        Ok(Self::of(StreamKind::Tcp(stream)))
    }

    /// Waits for what tells who serves the stream, and takes nothing from it; none at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of the OS; within it a `TlsError` if the TLS handshake fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing. Reading or writing the stream then ends its TLS handshake, but not for a guest.
    pub(crate) async fn opening(&mut self) -> io::Result<Option<Opening>> {
        let mut first = [0; 1];
        let first = match &mut self.kind {
            StreamKind::Tcp(stream) => {
                let count = stream.peek(&mut first).await?;
                (count > 0).then_some(first[0])
            }
            StreamKind::Local(stream) => stream.first_byte().await?,
            #[cfg(feature = "_tls")]
            StreamKind::Tls(stream) => {
                return Ok(Some(match stream.is_ours().await? {
                    true => Opening::Ours,
                    false => Opening::Guests,
                }));
            }
            StreamKind::Memory(_) | StreamKind::Connection(_) | StreamKind::Custom(_) => {
                return Ok(Some(Opening::Ours));
            }
        };
        Ok(first.map(Opening::FirstByte))
    }

    /// Sets TCP_USER_TIMEOUT: the OS drops the stream if written bytes stay unacknowledged for `time`.
    ///
    /// The OS then frees its buffers even if nothing reads or writes here any more. TCP on Linux only; elsewhere only
    /// the connection's own timers detect this.
    pub(crate) fn give_up_after(&mut self, time: Duration) {
        match &mut self.kind {
            StreamKind::Tcp(stream) => set_user_timeout(stream, time),
            #[cfg(feature = "_tls")]
            StreamKind::Tls(stream) => stream.set_timeout(time, set_user_timeout),
            StreamKind::Local(_)
            | StreamKind::Memory(_)
            | StreamKind::Connection(_)
            | StreamKind::Custom(_) => {}
        }
    }
}

impl driver::ByteStream for Stream {
    fn is_buffering(&self) -> bool {
        match &self.kind {
            StreamKind::Tcp(_) | StreamKind::Local(_) | StreamKind::Memory(_) | StreamKind::Connection(_) => {
                false
            }
            // It takes plain bytes, and writes records of its own.
            #[cfg(feature = "_tls")]
            StreamKind::Tls(_) => true,
            StreamKind::Custom(custom) => custom.is_buffering,
        }
    }

    fn is_waking(&self) -> bool {
        matches!(self.kind, StreamKind::Connection(_))
    }

    fn is_drained(&self) -> bool {
        match &self.kind {
            StreamKind::Connection(stream) => stream.is_drained(),
            _ => false,
        }
    }

    fn is_socket(&self) -> bool {
        let is_socket = match &self.kind {
            StreamKind::Tcp(_) | StreamKind::Local(_) => true,
            #[cfg(feature = "_tls")]
            StreamKind::Tls(_) => true,
            StreamKind::Memory(_) | StreamKind::Connection(_) | StreamKind::Custom(_) => false,
        };
        is_socket && os::ASKS_SOCKETS
    }

    fn ask_socket(&mut self, asks: bool) {
        self.asks_socket = asks;
        #[cfg(feature = "_tls")]
        if let StreamKind::Tls(stream) = &mut self.kind {
            stream.ask_socket(asks);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = match &mut this.kind {
            StreamKind::Tcp(stream) => match Pin::new(&mut *stream).poll_read(cx, buf) {
                Poll::Pending if this.asks_socket => os::read_tcp_now(stream, buf),
                read => read,
            },
            StreamKind::Local(stream) => match Pin::new(&mut *stream).poll_read(cx, buf) {
                Poll::Pending if this.asks_socket => stream.read_now(buf),
                read => read,
            },
            StreamKind::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
            StreamKind::Connection(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            #[cfg(feature = "_tls")]
            StreamKind::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            StreamKind::Custom(custom) => Pin::new(&mut custom.stream).poll_read(cx, buf),
        };
        #[cfg(test)]
        system_calls::count(&read);
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            StreamKind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            StreamKind::Local(stream) => Pin::new(stream).poll_write(cx, buf),
            StreamKind::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
            StreamKind::Connection(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            #[cfg(feature = "_tls")]
            StreamKind::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            StreamKind::Custom(custom) => Pin::new(&mut custom.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.get_mut().kind {
            StreamKind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            StreamKind::Local(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            StreamKind::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            StreamKind::Connection(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
            #[cfg(feature = "_tls")]
            StreamKind::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
            StreamKind::Custom(custom) => Pin::new(&mut custom.stream).poll_write_vectored(cx, bufs),
        };
        #[cfg(test)]
        system_calls::count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            StreamKind::Tcp(stream) => stream.is_write_vectored(),
            StreamKind::Local(stream) => stream.is_write_vectored(),
            StreamKind::Memory(stream) => stream.is_write_vectored(),
            StreamKind::Connection(stream) => stream.is_write_vectored(),
            #[cfg(feature = "_tls")]
            StreamKind::Tls(stream) => stream.is_write_vectored(),
            StreamKind::Custom(custom) => custom.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            StreamKind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            StreamKind::Local(stream) => Pin::new(stream).poll_flush(cx),
            StreamKind::Memory(stream) => Pin::new(stream).poll_flush(cx),
            StreamKind::Connection(stream) => Pin::new(&mut **stream).poll_flush(cx),
            #[cfg(feature = "_tls")]
            StreamKind::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            StreamKind::Custom(custom) => Pin::new(&mut custom.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            StreamKind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            StreamKind::Local(stream) => Pin::new(stream).poll_shutdown(cx),
            StreamKind::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
            StreamKind::Connection(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            #[cfg(feature = "_tls")]
            StreamKind::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            StreamKind::Custom(custom) => Pin::new(&mut custom.stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn tcp_user_timeout_equals_the_write_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = Stream::tcp(stream).unwrap();
        let settings = crate::conn::Settings::new(
            &crate::Limits::default(),
            Duration::ZERO,
            bytes::Bytes::new(),
            fastrand::u32(..),
        );
        stream.give_up_after(settings.unacknowledged());
        let StreamKind::Tcp(stream) = &stream.kind else {
            unreachable!("it was made above")
        };
        let on_linux = std::env::consts::OS == "linux";
        assert_eq!(
            os::user_timeout(stream),
            on_linux.then_some(Duration::from_secs(30))
        );
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_refused() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        let refused = other_end(&stream).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        other_end(&stream).unwrap();
    }
}
