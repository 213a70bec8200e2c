//! Guest: another protocol on the listeners of a server.

mod ending;
mod held_memory;
mod peer_fault;

use std::{
    fmt,
    future::{Future, pending},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::sleep,
};

use self::{ending::Ending, held_memory::PeerAccount, peer_fault::PeerFaults};
pub use self::{
    held_memory::HeldMemory,
    peer_fault::{PeerCut, PeerFault},
};
use super::until::{unless, until};
use crate::{
    Client, ClientBuilder, Code, Error, Limits, Peer, Procedure, Status,
    api::server_limit::ServerLimit,
    base::ordered_wakes::Changes,
    client::acceptor::StreamAcceptor,
    conn::{Cut, Settings},
    driver::SharedConnection,
    inspect::{LimitInForce, StreamTraffic},
    metrics::{ProcedureCounts, Protocol, Shard, Side, Traffic},
    net::Stream,
    session::{CallValue, CallValues, lifecycle::Lifecycle},
    trace::{self, CallTrace, Method, Served, TraceContext},
};

/// Another protocol on the listeners of a server: gRPC over HTTP/2, for example.
///
/// [`ServerBuilder::guest`](crate::server::ServerBuilder::guest) adds it. A connection goes to it if
/// [`Guest::takes`] its first byte. That of our own protocol is 0. Over TLS a connection goes to it if ALPN has agreed on one of [`Guest::alpn`].
///
/// A guest makes calls of what it reads, by the [`Client`] of the [`GuestConnection`]: they are calls as any other, with
/// deadlines, cancellation, middleware, limits and drain. Their handlers see the guest's peer.
///
/// Connections of `mem:` addresses, of [`incoming`](crate::server::ServerBuilder::incoming) streams and of the simulator never go to a guest.
pub trait Guest: fmt::Debug + Send + Sync + 'static {
    /// Returns true for the first byte of a connection that is the guest's. It is asked about connections without TLS.
    fn takes(&self, first: u8) -> bool;

    /// Returns the ids of its protocols in ALPN, the best one first. Default: none, and no TLS connection goes to it.
    ///
    /// A TLS handshake offers them behind the id of our own protocol. A peer that has none of them is refused.
    fn alpn(&self) -> &'static [&'static [u8]] {
        &[]
    }

    /// Lists the limits that it has for a connection, for those who look into the process: `/debug/limits`, for example. Default: none.
    ///
    /// The [`Limits`] of the server are listed without it.
    fn limits(&self) -> Vec<LimitInForce> {
        Vec::new()
    }

    /// Serves a connection until it ends. The future is dropped at the end of a drain.
    ///
    /// When [`GuestServer::draining`] resolves, the guest tells its peer, finishes the open calls, and closes. What it holds for its
    /// peer counts by [`GuestServer::hold`].
    fn serve(&self, connection: GuestConnection) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A connection whose first bytes are not of our protocol.
pub struct GuestConnection {
    stream: GuestStream,
    server: GuestServer,
    handshake: GuestHandshake,
}

impl GuestConnection {
    /// Returns its byte stream, from the first byte on, the server that it came to, and its handshake.
    pub fn into_parts(self) -> (GuestStream, GuestServer, GuestHandshake) {
        (self.stream, self.server, self.handshake)
    }
}

impl fmt::Debug for GuestConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestConnection")
            .field("peer", &self.server.peer().address())
            .finish_non_exhaustive()
    }
}

/// The handshake of a guest's connection. Drop it when the peer has shown that it speaks the guest's protocol.
///
/// Until then the connection has a place in [`ServerBuilder::max_handshakes`](crate::server::ServerBuilder::max_handshakes). The server ends it
/// when the time of [`Limits::handshake_timeout`] is over, which began before the first byte, or when another peer needs the place.
#[derive(Debug)]
pub struct GuestHandshake {
    _end: oneshot::Sender<()>,
}

/// The byte stream of a guest's connection.
#[derive(Debug)]
pub struct GuestStream {
    stream: Stream,
    /// Counts its bytes in the metrics.
    counts: &'static Traffic,
    /// For those who look into the process.
    traffic: Arc<StreamTraffic>,
}

impl GuestStream {
    /// Notes what came of a write.
    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Ready(Ok(bytes)) => {
                self.counts.sent(*bytes);
                self.traffic.note_written(*bytes);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.traffic.note_stall(),
        }
        result
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        self.counts.received(bytes);
        self.traffic.note_read(bytes);
        read
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(result)
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

/// The server of a guest's connection, as the guest sees it.
#[derive(Clone)]
pub struct GuestServer {
    host: Arc<dyn Host>,
    peer: Peer,
    account: Arc<PeerAccount>,
    faults: Arc<PeerFaults>,
    ending: Arc<Ending>,
    values: Arc<CallValues>,
    /// Why the server or the guest has cut the peer off, if so.
    cut: Arc<OnceLock<Cut>>,
    traffic: Arc<StreamTraffic>,
}

/// The server of a guest.
pub(crate) trait Host: Send + Sync {
    /// The procedure of the user of this path.
    fn procedure(&self, path: &str) -> Option<&'static Procedure>;

    fn limits(&self) -> &Limits;

    /// The settings of each connection, with the memory and the counters of all of them.
    fn settings(&self) -> &Arc<Settings>;

    fn lifecycle(&self) -> &Lifecycle;

    /// The open connections of guests.
    fn guests(&self) -> &Arc<OpenTasks>;

    /// Counts and logs that `peer` was cut off.
    fn cut_off(&self, cut: Cut, peer: &str, text: &str);

    /// Logs, once in a while, that `limit` refuses requests of `peer`.
    fn note_limit(&self, limit: ServerLimit, peer: &str);

    /// Serves `stream` for `peer`, with `values` beside its calls; none if the drain has told all peers. `traffic` is that of the peer's own
    /// stream.
    fn accept(
        self: Arc<Self>,
        stream: Stream,
        peer: Peer,
        values: Arc<CallValues>,
        traffic: Arc<StreamTraffic>,
    ) -> Option<Arc<SharedConnection>>;
}

impl GuestServer {
    /// Returns the other end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the procedure of this path, such as `package.Service/Name`; none if the server has none.
    ///
    /// Of the built-in control service only `rpc.control.v1.Control/rpc_terminate` is there, and only if the program decides about each caller:
    /// see [`TerminatePolicy`](crate::server::TerminatePolicy).
    pub fn procedure(&self, path: &str) -> Option<&'static Procedure> {
        self.host.procedure(path)
    }

    /// Connects a client that calls the server for the peer of this connection, within this process.
    ///
    /// Its calls have no deadline, unless they set one. A reply may have any length: the peer has a limit of its own. What the client holds
    /// counts for the server's [`max_buffered_bytes`](crate::server::ServerBuilder::max_buffered_bytes). Its connection has the age and the
    /// idle time of the [`Limits`] of the server; when those end it, [`GuestServer::draining`] resolves.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE if the server is shutting down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub async fn client(&self) -> Result<Client, Error> {
        let acceptor = Arc::new(ForPeer(self.clone()));
        let builder = ClientBuilder::<Client>::to_acceptor(acceptor);
        // The accepting side ends the connection by its age, and then the guest learns of it.
        let limits = self.host.limits().clone().max_age(None).max_idle(None);
        builder
            .limits(limits.max_message(u32::MAX.into()))
            .memory(Arc::clone(&self.host.settings().memory))
            // The server counts and lists the calls of the peer.
            .invisible()
            .without_spans()
            .timeout(None)
            .fail_fast(true)
            .connect()
            .await
    }

    /// Puts `value` beside a call of a [client](GuestServer::client) of this peer: its middleware and its handler find the `T` by
    /// [`Context::get`](crate::Context::get).
    ///
    /// Make the call with [`CallValue::entry`] among its metadata, and keep the result until the call has ended.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use rpc_runtime::{Client, server::GuestServer};
    ///
    /// /// What handlers say to the peer beside their replies.
    /// #[derive(Default)]
    /// struct Notes(Mutex<Vec<String>>);
    ///
    /// fn call<'a>(server: &GuestServer, client: &'a Client) {
    ///     let notes = Arc::new(Notes::default());
    ///     let beside = server.put_beside(Arc::clone(&notes));
    ///     let (key, value) = beside.entry();
    ///     let call = client.call().metadata(key, value);
    ///     // A handler notes something by `cx.get::<Notes>()`.
    /// }
    /// ```
    pub fn put_beside<T: Send + Sync + 'static>(&self, value: Arc<T>) -> CallValue {
        self.values.put(value)
    }

    /// Notes that the guest holds `bytes` for its peer, until the result is dropped.
    ///
    /// They count for the server's [`max_buffered_bytes`](crate::server::ServerBuilder::max_buffered_bytes), with all that other peers
    /// make it hold.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED if the guest holds more than half of what is left of it for this peer, as for a connection of our own
    /// protocol. It counts as [`Counters::calls_refused`](crate::server::Counters::calls_refused).
    pub fn hold(&self, bytes: u64) -> Result<HeldMemory, Status> {
        self.account.hold(bytes)
    }

    /// Counts a fault of the peer.
    ///
    /// After [`Limits::max_faults`](crate::Limits::max_faults) of them the connection is to end: [`GuestServer::draining`] resolves.
    /// Ten good requests make up for one fault, see [`GuestServer::note_good_request`].
    pub fn note_fault(&self, fault: PeerFault) {
        let settings = self.host.settings();
        fault.count(&settings.counts).add();
        if fault == PeerFault::UnknownProcedure {
            let counts = ProcedureCounts::other().counts(Side::Server, Protocol::Grpc, Shard::default());
            counts.begin();
            counts.end(Code::Unimplemented, 0);
        }
        if self.faults.count() || !self.ending.begin() {
            return;
        }
        let text = format!(
            "{} faults (Limits::max_faults), the last one: {fault}",
            settings.max_faults
        );
        self.cut_off(Cut::Excess, &text);
    }

    /// Refuses a call of a procedure that the server does not have: counts it as [`PeerFault::UnknownProcedure`], and makes its
    /// [span](crate::trace), if a subscriber wants it. `trace` is what the call belongs to. Returns the status of the call.
    pub fn refuse_unknown(&self, path: &str, trace: Option<TraceContext>) -> Status {
        self.note_fault(PeerFault::UnknownProcedure);
        let status = Status::unimplemented(format!("no procedure {path}"));
        if trace::is_on() {
            let call = Served {
                method: Method::UnknownPath(path),
                id: None,
                peer: &self.peer,
                is_grpc: true,
                // A server that only hands calls on has no guests.
                is_hidden: false,
            };
            if let Some(trace) = CallTrace::begin(&call, trace) {
                trace.end(status.code(), status.message());
            }
        }
        status
    }

    /// Notes how long the peer took to answer a PING of the guest's protocol, for those who
    /// [look into the process](crate::inspect::ConnectionView::round_trip).
    pub fn note_round_trip(&self, time: Duration) {
        self.traffic.note_round_trip(time);
    }

    /// Notes that a request of the peer was in order.
    pub fn note_good_request(&self) {
        self.faults.note_good();
    }

    /// Counts and logs that the guest ends the connection because of its peer; `text` says what was wrong.
    pub fn note_cut(&self, cut: PeerCut, text: &str) {
        self.cut_off(cut.cut(), text);
    }

    fn cut_off(&self, cut: Cut, text: &str) {
        // The first reason counts.
        let _ = self.cut.set(cut);
        self.host.cut_off(cut, self.peer.address(), text);
    }

    /// Returns how many bytes a message may have: [`Limits::max_message`](crate::Limits::max_message).
    pub fn max_message(&self) -> u64 {
        self.host.limits().max_message
    }

    /// Returns how many faults end a connection: [`Limits::max_faults`](crate::Limits::max_faults).
    pub fn max_faults(&self) -> u32 {
        self.host.limits().max_faults
    }

    /// Returns the time in which 64 KiB of a message that has begun must arrive: [`Limits::slow_frame`](crate::Limits::slow_frame).
    pub fn slow_frame(&self) -> Duration {
        self.host.limits().slow_frame
    }

    /// Returns the time in which the peer must take 64 KiB: [`Limits::write_stall`](crate::Limits::write_stall).
    pub fn write_stall(&self) -> Duration {
        self.host.limits().write_stall
    }

    /// Waits until the guest is to accept no further calls, and to end the connection with its last open call.
    ///
    /// That is when the server drains, and when it ends the connection of a [client](GuestServer::client) of this peer:
    /// by [`Limits::max_age`](crate::Limits::max_age), [`max_idle`](crate::Limits::max_idle),
    /// [`max_denials`](crate::Limits::max_denials), [`max_faults`](crate::Limits::max_faults) or
    /// [`Context::drain_connection`](crate::Context::drain_connection). Open calls then have
    /// [`max_age_grace`](crate::Limits::max_age_grace), and the guest's future is dropped a little later.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn draining(&self) {
        until(self.host.lifecycle().draining(), self.ending.begun()).await;
    }

    /// Waits until the connection must be over, because the server has ended it. It waits for ever if the server drains: then the drain's
    /// own limit holds.
    async fn overdue(&self) {
        self.ending.begun().await;
        if self.host.lifecycle().is_draining() {
            pending::<()>().await;
        }
        let limits = self.host.limits();
        sleep(limits.max_age_grace.saturating_add(limits.linger)).await;
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
        let GuestServer {
            host,
            peer,
            ending,
            values,
            traffic,
            ..
        } = &self.0;
        match Arc::clone(host).accept(stream, peer.clone(), Arc::clone(values), Arc::clone(traffic)) {
            Some(connection) => {
                ending.follow(&connection);
                Ok(())
            }
            None => Err(Error::local(Code::Unavailable, "the server is shutting down")),
        }
    }
}

/// Serves the connection of a guest until it ends or the server is closed. Returns why the peer was cut off, if it was.
///
/// # Errors
///
/// The result of `limit` if that is ready before the handshake is over. The connection has then ended.
pub(super) async fn serve<E>(
    host: Arc<dyn Host>,
    guest: Arc<dyn Guest>,
    stream: Stream,
    peer: Peer,
    limit: impl Future<Output = E>,
) -> Result<Option<Cut>, E> {
    let _open = host.guests().enter();
    let (end, has_ended) = oneshot::channel();
    let traffic = Arc::<StreamTraffic>::default();
    let refused = {
        let (host, peer) = (Arc::clone(&host), peer.address_arc());
        move || host.note_limit(ServerLimit::MaxBufferedBytes, &peer)
    };
    let server = GuestServer {
        account: Arc::new(PeerAccount::new(host.settings(), Box::new(refused))),
        faults: Arc::new(PeerFaults::new(host.limits().max_faults)),
        ending: Arc::default(),
        values: Arc::default(),
        cut: Arc::default(),
        traffic: Arc::clone(&traffic),
        host: Arc::clone(&host),
        peer,
    };
    let cut = Arc::clone(&server.cut);
    let connection = GuestConnection {
        stream: GuestStream {
            stream,
            counts: Traffic::of(Side::Server, Protocol::Grpc, Shard::next()),
            traffic,
        },
        server: server.clone(),
        handshake: GuestHandshake { _end: end },
    };
    // Boxed, because `until` and `unless` keep room for it twice.
    let (limit, overdue) = (Box::pin(limit), Box::pin(server.overdue()));
    let serving = until(overdue, guest.serve(connection));
    let mut serving = pin!(until(host.lifecycle().closed(), serving));
    match unless(unless(limit, has_ended), serving.as_mut()).await {
        Ok(_) => {}
        Err(Ok(_)) => {
            serving.await;
        }
        Err(Err(limit)) => return Err(limit),
    }
    Ok(cut.get().copied())
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
