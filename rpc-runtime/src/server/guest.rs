//! Guest: another protocol on the listeners of a server.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::until::until;
use crate::{
    Client, ClientBuilder, Code, Error, Limits, Peer, Procedure, base::ordered_wakes::Changes,
    client::acceptor::StreamAcceptor, net::Stream, session::lifecycle::Lifecycle,
};

/// Another protocol on the listeners of a server: gRPC over HTTP/2, for example.
///
/// [`ServerBuilder::guest`](crate::server::ServerBuilder::guest) adds it. A connection goes to it if
/// [`Guest::takes`] its first byte. That of our own protocol is 0. A guest makes calls of what it reads, by the [`Client`] of the [`GuestConnection`]: they are calls as any other, with
/// deadlines, cancellation, middleware, limits and drain. Their handlers see the guest's peer.
///
/// Connections of `mem:` addresses, of [`incoming`](crate::server::ServerBuilder::incoming) streams and of the simulator never go to a guest.
pub trait Guest: fmt::Debug + Send + Sync + 'static {
    /// Returns true for the first byte of a connection that is the guest's.
    fn takes(&self, first: u8) -> bool;

    /// Serves a connection until it ends. The future is dropped at the end of a drain.
    ///
    /// When [`GuestServer::draining`] resolves, the guest tells its peer, finishes the open calls, and closes.
    fn serve(&self, connection: GuestConnection) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A connection whose first bytes are not of our protocol.
pub struct GuestConnection {
    stream: GuestStream,
    server: GuestServer,
}

impl GuestConnection {
    /// Returns its byte stream, from the first byte on, and the server that it came to.
    pub fn into_parts(self) -> (GuestStream, GuestServer) {
        (self.stream, self.server)
    }
}

impl fmt::Debug for GuestConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestConnection")
            .field("peer", &self.server.peer().address())
            .finish_non_exhaustive()
    }
}

/// The byte stream of a guest's connection.
#[derive(Debug)]
pub struct GuestStream(Stream);

impl AsyncRead for GuestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The server of a guest's connection, as the guest sees it.
#[derive(Clone)]
pub struct GuestServer {
    host: Arc<dyn Host>,
    peer: Peer,
}

/// The server of a guest.
pub(crate) trait Host: Send + Sync {
    /// The procedure of the user of this path.
    fn procedure(&self, path: &str) -> Option<&'static Procedure>;

    fn limits(&self) -> &Limits;

    fn lifecycle(&self) -> &Lifecycle;

    /// The open connections of guests.
    fn guests(&self) -> &Arc<OpenTasks>;

    /// Serves `stream` for `peer`; false if the drain has told all peers.
    fn accept(self: Arc<Self>, stream: Stream, peer: Peer) -> bool;
}

impl GuestServer {
    /// Returns the other end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the procedure of this path, such as `package.Service/Name`; none if the server has none.
    ///
    /// The procedures of the built-in control service, such as `terminate`, are not there: a guest cannot call them.
    pub fn procedure(&self, path: &str) -> Option<&'static Procedure> {
        self.host.procedure(path)
    }

    /// Makes a client that calls the server for the peer of this connection, within this process.
    ///
    /// Its calls have no deadline, unless they set one. A reply may have any length: the peer has a limit of its own. It connects at its first call.
    pub fn client(&self) -> Client {
        let acceptor = Arc::new(ForPeer(self.clone()));
        let builder = ClientBuilder::<Client>::to_acceptor(acceptor);
        builder
            .limits(self.host.limits().clone().max_message(u32::MAX.into()))
            .timeout(None)
            .fail_fast(true)
            .connect_lazy()
    }

    /// Returns how many bytes a message may have: [`Limits::max_message`](crate::Limits::max_message).
    pub fn max_message(&self) -> u64 {
        self.host.limits().max_message
    }

    /// Waits until the server drains: then the guest accepts no further calls.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn draining(&self) {
        self.host.lifecycle().draining().await;
    }
}

impl fmt::Debug for GuestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestServer")
            .field("peer", &self.peer.address())
            .finish_non_exhaustive()
    }
}

/// Serves the streams of a guest's client for its peer.
#[derive(Debug)]
struct ForPeer(GuestServer);

impl StreamAcceptor for ForPeer {
    fn accept(&self, stream: Stream) -> Result<(), Error> {
        let GuestServer { host, peer } = &self.0;
        match Arc::clone(host).accept(stream, peer.clone()) {
            true => Ok(()),
            false => Err(Error::local(Code::Unavailable, "the server is shutting down")),
        }
    }
}

/// Serves the connection of a guest until it ends or the server is closed.
pub(super) async fn serve(host: Arc<dyn Host>, guest: Arc<dyn Guest>, stream: Stream, peer: Peer) {
    let _open = host.guests().enter();
    let connection = GuestConnection {
        stream: GuestStream(stream),
        server: GuestServer {
            host: Arc::clone(&host),
            peer,
        },
    };
    until(host.lifecycle().closed(), guest.serve(connection)).await;
}

/// How many tasks of one kind are open.
#[derive(Debug, Default)]
pub(crate) struct OpenTasks {
    open: AtomicUsize,
    changes: Changes,
}

impl OpenTasks {
    /// Counts one more until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> OpenTask {
        self.open.fetch_add(1, SeqCst);
        OpenTask(Arc::clone(self))
    }

    /// Waits until none is open.
    pub(super) async fn none_left(&self) {
        self.changes
            .wait_for(|| (self.open.load(SeqCst) == 0).then_some(()))
            .await;
    }
}

/// One that is open.
pub(super) struct OpenTask(Arc<OpenTasks>);

impl Drop for OpenTask {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, SeqCst) == 1 {
            self.0.changes.tell();
        }
    }
}
