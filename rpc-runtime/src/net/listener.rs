//! Listener: accepts streams on one address, and frees the address when it is dropped.

mod adopted;
mod overlap;

use std::{
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    sync::Arc,
};

use tokio::{
    io::DuplexStream,
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

use self::overlap::{is_apart, refused};
use super::{
    Address, IncomingStreams, Peer, ServerSecurity, Stream, StreamKind,
    memory::MemoryListener,
    os::{
        ACCEPT_QUEUE, LocalListener, LocalStream, credentials, lacks_resources, listen_each, new_socket,
        set_stream_options,
    },
    peer::is_loopback,
    proxy_gate::ProxyGate,
    resolve::resolve_to_bind,
    trusted_networks::TrustedNetworks,
};
use crate::{
    Error,
    driver::runtime::{transport_error, unless_panics},
};

/// Accepts streams on one address.
#[derive(Debug)]
pub(crate) struct Listener {
    address: Address,
    text: Arc<str>,
    socket: Socket,
    /// How the streams are secured, if the address begins with `tls://`.
    security: Option<ServerSecurity>,
    /// From where proxies may connect, if each stream has to begin with the header of one.
    proxies: Option<TrustedNetworks>,
    /// True if another process keeps the socket open.
    is_kept_elsewhere: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Local(LocalListener),
    Memory(MemoryListener),
    Custom(IncomingStreams),
}

impl Listener {
    /// Listens on `addresses[index]`; the other addresses are those of the same server.
    ///
    /// Port 0 takes a free port; [`Listener::address`] names it.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE, with the address and what to do, if the OS refuses. FAILED_PRECONDITION if the runtime cannot do
    /// IO.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn bind_one(addresses: &[Address], index: usize) -> Result<Self, Error> {
        unless_panics(Self::try_bind(addresses, index))
            .await
            .map_err(|panic| transport_error(&panic))?
            .map_err(|error| refused(addresses, index, error))
    }

    /// Listens on `address` alone.
    #[cfg(test)]
    pub(crate) async fn bind(address: &Address) -> Result<Self, Error> {
        Self::bind_one(std::slice::from_ref(address), 0).await
    }

    /// Listens like [`Listener::bind_one`], with one listener for each runtime. A memory name has only one.
    ///
    /// # Errors
    ///
    /// The errors of [`Listener::bind_one`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn bind_each(
        addresses: &[Address],
        index: usize,
        runtimes: &[Handle],
    ) -> Result<Vec<Self>, Error> {
        unless_panics(Self::try_bind_each(addresses, index, runtimes))
            .await
            .map_err(|panic| transport_error(&panic))?
            .map_err(|error| refused(addresses, index, error))
    }

    async fn try_bind_each(
        addresses: &[Address],
        index: usize,
        runtimes: &[Handle],
    ) -> io::Result<Vec<Self>> {
        // This also detects that another process has the address. Sockets that share a port would not detect it.
        let first = Self::try_bind(addresses, index).await?;
        let Self {
            address,
            text,
            socket,
            ..
        } = first;
        let sockets = match socket {
            Socket::Tcp(socket) => listen_each(socket, is_apart(addresses, index), runtimes)?
                .into_iter()
                .map(Socket::Tcp)
                .collect(),
            Socket::Local(socket) => socket
                .for_each(runtimes)?
                .into_iter()
                .map(Socket::Local)
                .collect(),
            socket @ (Socket::Memory(_) | Socket::Custom(_)) => vec![socket],
        };
        let of = |socket| Self::new(address.clone(), Arc::clone(&text), socket);
        Ok(sockets.into_iter().map(of).collect())
    }

    async fn try_bind(addresses: &[Address], index: usize) -> io::Result<Self> {
        let address = &addresses[index];
        if let Some(network) = super::network::current() {
            let (bound, incoming) = network.listen(address)?;
            let text = bound.to_string();
            return Ok(Self::new(bound, text, Socket::Custom(incoming)));
        }
        let (socket, bound) = match address {
            Address::Tcp(host) => {
                let socket = bind_tcp(host, is_apart(addresses, index)).await?;
                let bound = Address::Tcp(socket.local_addr()?.to_string());
                (Socket::Tcp(socket), bound)
            }
            Address::Tls(host) => {
                let socket = bind_tcp(host, is_apart(addresses, index)).await?;
                let bound = Address::Tls(socket.local_addr()?.to_string());
                (Socket::Tcp(socket), bound)
            }
            Address::Local(path) => (Socket::Local(LocalListener::bind(path)?), address.clone()),
            Address::Memory(name) => (Socket::Memory(MemoryListener::bind(name)?), address.clone()),
            // Only `Listener::incoming` makes such a listener.
            Address::Custom(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let text = bound.to_string();
        Ok(Self::new(bound, text, socket))
    }

    /// Makes a listener of streams that code outside of this crate accepts at `address`.
    pub(crate) fn incoming(address: &str, incoming: IncomingStreams) -> Self {
        let text = address.to_owned();
        Self::new(Address::Custom(text.clone()), text, Socket::Custom(incoming))
    }

    fn new(address: Address, text: impl Into<Arc<str>>, socket: Socket) -> Self {
        Self {
            address,
            text: text.into(),
            socket,
            security: None,
            proxies: None,
            is_kept_elsewhere: false,
        }
    }

    /// Secures the streams by `security`, if the address begins with `tls://`.
    pub(crate) fn secured(self, security: &ServerSecurity) -> Self {
        let is_secure = matches!(self.address, Address::Tls(_));
        Self {
            security: is_secure.then(|| security.clone()),
            ..self
        }
    }

    /// Asks for the header of a proxy from `proxies` at the beginning of each stream.
    pub(crate) fn behind(self, proxies: Option<TrustedNetworks>) -> Self {
        Self { proxies, ..self }
    }

    /// What a stream has to pass before it is served; none if it is served as it comes.
    pub(crate) fn gate(&self) -> Option<ProxyGate> {
        let proxies = self.proxies.clone()?;
        Some(ProxyGate::new(proxies, self.security.clone()))
    }

    /// The address that clients connect to, with the real port.
    pub(crate) fn address(&self) -> &str {
        &self.text
    }

    /// True if its streams are secured by TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.address, Address::Tls(_))
    }

    /// True if it listens for TCP, and only this machine can reach it, by no proxy.
    pub(crate) fn is_loopback(&self) -> bool {
        match &self.socket {
            Socket::Tcp(_) if self.proxies.is_some() => false,
            Socket::Tcp(socket) => socket.local_addr().is_ok_and(is_loopback),
            Socket::Local(_) | Socket::Memory(_) | Socket::Custom(_) => false,
        }
    }

    /// Waits for the next stream, and returns it with its peer.
    ///
    /// # Errors
    ///
    /// The OS's error, for example that no more files can be opened. The listener stays usable.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        let (stream, peer) = self.accept_one().await?;
        Ok((stream, peer.with_listener(&self.text)))
    }

    /// As [`Listener::accept`], for a peer that does not know the listener.
    async fn accept_one(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // Behind a proxy, TLS begins after its header.
                let security = self.security.as_ref().filter(|_| self.proxies.is_none());
                tcp_pair(stream, peer, socket.local_addr()?, security)
            }
            Socket::Local(socket) => Ok(local_pair(socket.accept().await?, &self.address)),
            Socket::Memory(socket) => {
                let stream = socket.accept().await?;
                Ok(memory_pair(stream, &self.address))
            }
            Socket::Custom(incoming) => match poll_fn(|cx| incoming.poll_accept(cx)).await {
                Some(accepted) => accepted,
                None => {
                    let address = self.address();
                    tracing::warn!(
                        address,
                        "the stream of incoming connections has ended: this address accepts no more peers"
                    );
                    pending().await
                }
            },
        }
    }

    /// Stops listening and returns the streams that are connected but not accepted.
    ///
    /// The OS would reset these streams when the listener closes. It returns at most [`ACCEPT_QUEUE`] streams, and
    /// skips any that it cannot take. If another process keeps the socket open, it leaves them all.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener and those streams.
    pub(crate) async fn close(self) -> Vec<(Stream, Peer)> {
        if self.is_kept_elsewhere {
            self.leave();
            return Vec::new();
        }
        let security = self.security.filter(|_| self.proxies.is_none());
        let address = self.address;
        match self.socket {
            Socket::Tcp(socket) => {
                // What tokio knows of the socket may be old; the OS knows whether a stream waits.
                let Ok(socket) = socket.into_std() else {
                    return Vec::new();
                };
                take_left(|| {
                    let (stream, peer) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    tcp_pair(
                        TcpStream::from_std(stream)?,
                        peer,
                        socket.local_addr()?,
                        security.as_ref(),
                    )
                })
            }
            Socket::Local(socket) => {
                let Ok(accept) = socket.close() else {
                    return Vec::new();
                };
                take_left(|| Ok(local_pair(accept()?, &address)))
            }
            Socket::Memory(socket) => {
                let left = socket.close().await;
                left.into_iter()
                    .map(|stream| memory_pair(stream, &address))
                    .collect()
            }
            Socket::Custom(incoming) => incoming.take_ready(ACCEPT_QUEUE),
        }
    }

    /// Stops listening, and leaves the streams that are not accepted and the file of the socket to another process that has the socket.
    pub(crate) fn leave(self) {
        if let Socket::Local(socket) = &self.socket {
            socket.leave();
        }
    }
}

/// Listens on the first address of `host` that can be had, for IPv6 only if `is_apart`.
async fn bind_tcp(host: &str, is_apart: bool) -> io::Result<TcpListener> {
    let listen = |address| {
        let socket = new_socket(address, is_apart)?;
        socket.bind(address)?;
        socket.listen(ACCEPT_QUEUE as u32)
    };
    if let Ok(address) = host.parse() {
        return listen(address);
    }
    let mut failure = None;
    for address in resolve_to_bind(host).await? {
        match listen(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the host has no address")))
}

/// Accepts until no stream is left or the OS lacks resources for the next one.
fn take_left(accept: impl Fn() -> io::Result<(Stream, Peer)>) -> Vec<(Stream, Peer)> {
    let mut left = Vec::new();
    for _ in 0..ACCEPT_QUEUE {
        match accept() {
            Ok(one) => left.push(one),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if lacks_resources(&error) => {
                tracing::warn!(%error, "cannot accept the peers that still wait: the OS resets them");
                break;
            }
            Err(_) => {}
        }
    }
    left
}

/// True if an accept failed only because its peer has left.
pub(crate) fn peer_has_left(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | InvalidInput | NotConnected
    )
}

fn tcp_pair(
    stream: TcpStream,
    peer: SocketAddr,
    bound: SocketAddr,
    security: Option<&ServerSecurity>,
) -> io::Result<(Stream, Peer)> {
    let peer = Peer::accepted(peer, bound);
    match security {
        None => Ok((Stream::tcp(stream)?, peer)),
        Some(security) => {
            set_stream_options(&stream)?;
            security.accept(stream, peer)
        }
    }
}

fn local_pair(stream: LocalStream, address: &Address) -> (Stream, Peer) {
    let peer = Peer::local(address, credentials(&stream));
    (Stream::of(StreamKind::Local(stream.into())), peer)
}

fn memory_pair(stream: DuplexStream, address: &Address) -> (Stream, Peer) {
    (Stream::of(StreamKind::Memory(stream)), Peer::memory(address))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::net::{
        self,
        os::{HAS_PIPES, local_address},
    };

    /// Connects to the first place of an address.
    async fn connect(address: &Address) -> io::Result<(Stream, Peer)> {
        net::connect(
            address,
            net::find(address).await?[0],
            &net::ClientSecurity::default(),
        )
        .await
    }

    async fn greets(address: &Address) {
        let listener = Listener::bind(address).await.unwrap();
        let address = Address::parse(listener.address()).unwrap();
        let (mut client, _) = connect(&address).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        server.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"hello");
    }

    #[tokio::test]
    async fn every_transport_carries_bytes() {
        greets(&Address::parse("tcp://127.0.0.1:0").unwrap()).await;
        greets(&Address::parse(&local_address("greets")).unwrap()).await;
        greets(&Address::parse("mem:listener-test-greets").unwrap()).await;
    }

    async fn keeps_those_who_wait(address: &Address) {
        let listener = Listener::bind(address).await.unwrap();
        let address = Address::parse(listener.address()).unwrap();
        // Of a pipe one client can wait to be accepted. Others wait until they can connect.
        let is_pipe = matches!(address, Address::Local(_)) && HAS_PIPES;
        let count = if is_pipe { 1 } else { 3 };
        let mut clients = Vec::new();
        for _ in 0..count {
            let (mut client, _) = connect(&address).await.unwrap();
            client.write_all(b"hello").await.unwrap();
            clients.push(client);
        }
        let left = listener.close().await;
        assert_eq!(left.len(), count, "{address}");
        for (mut server, peer) in left {
            assert!(address.to_string().starts_with("tcp") || address.to_string() == peer.address());
            let mut buf = [0; 5];
            server.read_exact(&mut buf).await.unwrap();
            server.shutdown().await.unwrap();
        }
        for mut client in clients {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "{address}");
        }
        let refused = connect(&address).await.unwrap_err();
        assert!(
            matches!(
                refused.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn closing_a_listener_resets_no_waiting_peer() {
        keeps_those_who_wait(&Address::parse("tcp://127.0.0.1:0").unwrap()).await;
        keeps_those_who_wait(&Address::parse(&local_address("waiting")).unwrap()).await;
        keeps_those_who_wait(&Address::parse("mem:listener-test-waiting").unwrap()).await;
    }

    #[tokio::test]
    async fn a_taken_port_is_one_clear_line() {
        let first = Listener::bind(&Address::parse("tcp://127.0.0.1:0").unwrap())
            .await
            .unwrap();
        let error = Listener::bind(&Address::parse(first.address()).unwrap())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(first.address()) && text.contains("another server listens there"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn an_address_in_use_is_an_error_that_names_its_owner_if_known() {
        let told = |texts: &[&str]| {
            let addresses: Vec<_> = texts.iter().map(|text| Address::parse(text).unwrap()).collect();
            let error = refused(&addresses, texts.len() - 1, io::ErrorKind::AddrInUse.into());
            error.message().to_owned()
        };
        for (texts, hint) in [
            (
                &["tcp://127.0.0.1:5005"][..],
                "another server listens there: stop",
            ),
            (
                &["tcp://[::1]:5005", "tcp://127.0.0.1:5005"],
                "another server listens there: stop",
            ),
            (
                &["tcp://127.0.0.1:5006", "tcp://127.0.0.1:5005"],
                "another server listens there: stop",
            ),
            (&["tcp://[::]:5005"], "perhaps only for IPv4"),
            (
                &["tcp://0.0.0.0:5005", "tcp://127.0.0.1:5005"],
                "this server already listens on tcp://0.0.0.0:5005",
            ),
            (
                &["tcp://[::1]:5005", "tcp://[::]:5005"],
                "this server already listens on tcp://[::1]:5005",
            ),
            (&["mem:x", "mem:x"], "this server already listens on mem:x"),
            (
                &["tcp://localhost:5005", "tcp://[::1]:5005"],
                "or this server itself by tcp://localhost:5005",
            ),
        ] {
            let text = told(texts);
            assert!(text.contains(hint), "{texts:?}: {text}");
        }
        let text = told(&[&*local_address("x")]);
        assert!(
            text.contains("is in use: stop its owner, or choose another"),
            "{text}"
        );
    }
}
