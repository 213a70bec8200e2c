//! Bridge: a server in this process that carries the calls of a client to a server of another protocol.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
};

use super::{
    listen::serve::serve_stream,
    router::{LaterRoutes, Router},
    state::{ServerOptions, ServerState},
};
use crate::{
    ClientBuilder, Error, Incoming, Peer, Procedure, Result, Service, Status, Transport,
    client::acceptor::{self, BridgeSettings, BridgeWay, JoinFailure, Joining, StreamAcceptor},
    driver::runtime::unless_panics,
    metrics::{self, Shard, Side, Traffic},
    net::{Stream, TlsFailure},
    session::{Handler, ProtocolConnection, Threads},
};

/// Another protocol by which clients call servers: gRPC, for example.
///
/// [`ClientBuilder::protocol`] adds it to a client. The client makes the byte streams, with everything that belongs to that: looking up
/// names, racing addresses, TLS, coming back after a loss. The protocol makes a connection of each, and carries calls.
pub trait Protocol: fmt::Debug + Send + Sync + 'static {
    /// Returns the transport by which the addresses of `scheme` are reached; none if the scheme is not the protocol's.
    ///
    /// An address by [`Transport::Tcp`] and [`Transport::Tls`] is `scheme://host:port`, and by [`Transport::Unix`] `scheme:/path`. There are
    /// no addresses for other transports.
    fn transport(&self, scheme: &str) -> Option<Transport>;

    /// Returns the id of the protocol in ALPN, which both sides of a TLS connection must agree on.
    fn alpn(&self) -> &'static [u8];

    /// Makes a connection of a byte stream. The client limits the time.
    ///
    /// # Errors
    ///
    /// Why the server does not speak the protocol: FAILED_PRECONDITION if another attempt would fail in the same way, and UNAVAILABLE if it
    /// may succeed.
    fn connect(&self, stream: ProtocolStream) -> Connecting;
}

/// A connection that is being made by [`Protocol::connect`].
pub type Connecting = Pin<Box<dyn Future<Output = Result<Arc<dyn ProtocolConnection>>> + Send>>;

/// The byte stream of a connection that speaks another protocol.
#[derive(Debug)]
pub struct ProtocolStream {
    stream: Stream,
    peer: Peer,
    address: Arc<str>,
    max_message: u64,
    /// How TLS failed under the protocol, which knows only that it cannot read.
    tls_failure: Arc<OnceLock<io::Error>>,
    /// Counts its bytes.
    traffic: &'static Traffic,
}

impl ProtocolStream {
    /// Returns the address of the server as the user wrote it, with its scheme.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the server, as far as the transport knows it.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns how many bytes a reply may have: the client's [`Limits::max_message`](crate::Limits::max_message).
    pub fn max_message(&self) -> u64 {
        self.max_message
    }
}

impl ProtocolStream {
    /// Counts what was written.
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.traffic.sent(bytes);
        }
        written
    }
}

impl AsyncRead for ProtocolStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let had = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.traffic.received(buf.filled().len() - had);
        if let Some(failure) = read.as_ref().err().and_then(TlsFailure::copy) {
            // The first one counts.
            let _ = self.tls_failure.set(failure);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for ProtocolStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(written)
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

/// Other protocols.
impl<C> ClientBuilder<C> {
    /// Adds a protocol for the addresses of its schemes, such as `grpc://host:port` for `Grpc` of the crate rpc-http.
    ///
    /// Calls, streams, deadlines, cancellation, middleware, limits and reconnection are as at a server of this library. These are not there:
    /// [`Client::terminate`](crate::Client::terminate), [`Client::ping`](crate::Client::ping), callbacks, and `compression` of this
    /// library's protocol. [`Client::barrier`](crate::Client::barrier) says how one-way calls differ.
    pub fn protocol(mut self, protocol: impl Protocol) -> Self {
        self.add_bridge(Arc::new(Bridge(Arc::new(protocol))));
        self
    }
}

/// Makes a server in this process for each connection that speaks the protocol.
#[derive(Debug)]
struct Bridge(Arc<dyn Protocol>);

impl acceptor::Bridge for Bridge {
    fn way(&self, scheme: &str) -> Option<BridgeWay> {
        Some(BridgeWay {
            transport: self.0.transport(scheme)?,
            alpn: self.0.alpn(),
        })
    }

    fn join(&self, stream: Stream, peer: Peer, address: Arc<str>, settings: BridgeSettings) -> Joining {
        let protocol = Arc::clone(&self.0);
        Box::pin(async move {
            let tls_failure = Arc::default();
            let stream = ProtocolStream {
                stream,
                peer,
                address,
                max_message: settings.limits.max_message,
                tls_failure: Arc::clone(&tls_failure),
                traffic: Traffic::of(Side::Client, metrics::Protocol::Grpc, Shard::next()),
            };
            let connection = unless_panics(async { protocol.connect(stream).await }).await;
            let connection =
                connection.map_err(|panic| Status::internal(format!("the protocol panicked: {panic}")))?;
            let connection =
                connection.map_err(|status| match tls_failure.get().and_then(TlsFailure::copy) {
                    Some(error) => JoinFailure::Tls(error),
                    None => JoinFailure::Protocol(status),
                })?;
            match BridgeServer::new(connection, settings) {
                Ok(server) => Ok(Arc::new(server) as Arc<dyn StreamAcceptor>),
                Err(error) => Err(Status::internal(error.message()).into()),
            }
        })
    }
}

/// A server that hands the calls of a client on to a connection of another protocol.
struct BridgeServer {
    server: Arc<ServerState>,
    connection: Weak<dyn ProtocolConnection>,
}

impl BridgeServer {
    /// Makes the server of `connection`, in this runtime.
    fn new(connection: Arc<dyn ProtocolConnection>, settings: BridgeSettings) -> Result<Self, Error> {
        let BridgeSettings { limits, procedures } = settings;
        let options = ServerOptions {
            limits,
            // The client's own limits bound its calls.
            max_waiting_handlers: usize::MAX,
            ..ServerOptions::default()
        };
        let weak = Arc::downgrade(&connection);
        let relay = Arc::new(Relay(Arc::clone(&connection)));
        let router = Router::of_bridge(LaterRoutes::new(procedures, relay, connection))?;
        Ok(Self {
            server: ServerState::new(Handle::current(), router, options, Vec::new(), Threads::here()),
            connection: weak,
        })
    }
}

impl StreamAcceptor for BridgeServer {
    /// Serves `stream` until it ends, or `connection` takes no more calls.
    fn accept(&self, stream: Stream) -> Result<(), Error> {
        let runtime = self.server.runtime();
        serve_stream(&self.server, stream, Peer::in_process(), None, runtime);
        // The router has it as long as there is a server.
        let Some(closed) = self.connection.upgrade().map(|connection| connection.closed()) else {
            return Ok(());
        };
        let server = Arc::downgrade(&self.server);
        runtime.spawn(async move {
            let why = closed.await;
            if let Some(server) = server.upgrade() {
                server.connections().all().iter().for_each(|one| one.retire(&why));
            }
        });
        Ok(())
    }
}

impl fmt::Debug for BridgeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BridgeServer")
    }
}

/// Hands each call on.
struct Relay(Arc<dyn ProtocolConnection>);

impl Service for Relay {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &[]
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.relay(Arc::clone(&self.0))
    }
}
