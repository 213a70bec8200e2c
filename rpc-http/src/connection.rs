//! One HTTP/2 connection: its requests, its drain and its end.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use rpc_runtime::{
    Client,
    server::{GuestHandshake, GuestServer, GuestStream, PeerCut, PeerFault, Transport},
};
use tokio::time::{Instant, sleep, timeout};

#[cfg(feature = "routes")]
use crate::http_guest::RouteLimits;
use crate::{
    any_authority::AnyAuthority,
    gathered_stream::{GatheredStream, Gathering},
    grpc::{self, encoding::CallCompression},
    held_bytes::HeldBytes,
    http_guest::Settings,
    keep_alive::KeepAlive,
    open_answers::OpenAnswers,
    opening,
    preface::PREFACE,
    reset_budget::{CallEnd, ResetBudget},
    stream_window::{FIRST_WINDOW, StreamWindow},
    task_waker::TaskWaker,
    watched_stream::{Traffic, WatchedStream},
    whole_answer::send_whole,
};

type Connection = server::Connection<WatchedStream<GatheredStream<AnyAuthority<GuestStream>>>, HeldBytes>;

/// What the calls of a connection share.
pub(crate) struct Shared {
    pub(crate) server: GuestServer,
    pub(crate) client: Client,
    pub(crate) traffic: Arc<Traffic>,
    /// All bytes that h2 has not written have a clone.
    pub(crate) unwritten: Arc<()>,
    pub(crate) window: Arc<StreamWindow>,
    gathering: Arc<Gathering>,
    settings: Settings,
}

impl Shared {
    /// How many bytes a message may have.
    pub(crate) fn max_message(&self) -> usize {
        usize::try_from(self.server.max_message()).unwrap_or(usize::MAX)
    }

    /// What a request for the routes may bring.
    #[cfg(feature = "routes")]
    pub(crate) fn route_limits(&self) -> &RouteLimits {
        &self.settings.route_limits
    }

    /// True if handlers may add to the headers of their answers.
    pub(crate) fn has_initial_metadata(&self) -> bool {
        self.settings.initial_metadata
    }
}

/// Serves a connection until it ends. Its preface was read.
pub(crate) async fn serve(
    settings: Settings,
    stream: GuestStream,
    server: GuestServer,
    handshake: GuestHandshake,
) {
    // Boxed, because it takes much memory, and ends soon.
    let opened = Box::pin(open(settings, stream, server, handshake)).await;
    let Some((shared, connection)) = opened else {
        return;
    };
    match accept(&shared, connection).await {
        Ok(()) => tracing::debug!(peer = shared.server.peer().address(), "HTTP/2 connection closed"),
        Err(error) => note_failure(&shared, &error),
    }
}

/// Shakes hands with a peer, and connects a client for it. None if the connection is over.
///
/// The connection is boxed: it takes much memory, and each future that it passes through has room for it.
async fn open(
    settings: Settings,
    stream: GuestStream,
    server: GuestServer,
    handshake: GuestHandshake,
) -> Option<(Arc<Shared>, Box<Connection>)> {
    let peer = server.peer().address().to_owned();
    let (mut connection, traffic, gathering) = tokio::select! {
        biased;
        shaken = shake_hands(&settings, &server, stream) => shaken?,
        () = server.draining() => {
            opening::note_drain(&server);
            return None;
        }
    };
    drop(handshake);
    tracing::debug!(peer, "HTTP/2 connection opened");
    let client = match server.client().await {
        Ok(client) => client,
        Err(error) => {
            tracing::debug!(peer, %error, "the server drains");
            // It says that no call was taken.
            let _ = send_away(&mut connection, Reason::NO_ERROR).await;
            return None;
        }
    };
    let shared = Arc::new(Shared {
        client,
        server,
        traffic,
        unwritten: Arc::default(),
        window: Arc::new(StreamWindow::new()),
        gathering,
        settings,
    });
    Some((shared, connection))
}

/// Shakes hands with a peer. None if that failed, which is counted and logged.
async fn shake_hands(
    settings: &Settings,
    server: &GuestServer,
    stream: GuestStream,
) -> Option<(Box<Connection>, Arc<Traffic>, Arc<Gathering>)> {
    let stream = match server.peer().transport() {
        Transport::Unix | Transport::Pipe => AnyAuthority::of_unix_peer(stream),
        _ => AnyAuthority::unchanged(stream),
    };
    // It fails only if the server has no memory at all.
    let held = || {
        let held = server.hold(0);
        held.inspect_err(|status| opening::note_loss(server, status)).ok()
    };
    let stream = GatheredStream::new(stream, held()?);
    let gathering = Arc::clone(stream.gathering());
    let stream = WatchedStream::new(stream, server.write_stall()).watching_frames(
        PREFACE.len(),
        held()?,
        server.slow_frame(),
    );
    let traffic = Arc::clone(stream.traffic());
    match builder(settings, server).handshake(stream).await {
        Ok(connection) => Some((Box::new(connection), traffic, gathering)),
        Err(error) if error.is_io() => {
            opening::note_loss(server, &error);
            None
        }
        Err(error) => {
            server.note_cut(PeerCut::HandshakeRejected, &error.to_string());
            None
        }
    }
}

/// Counts and logs the error that a connection ended with, if its peer is to blame.
fn note_failure(shared: &Shared, error: &h2::Error) {
    let cut = match (shared.traffic.cut(), error.reason()) {
        (Some(cut), _) => cut,
        (None, Some(Reason::ENHANCE_YOUR_CALM)) if error.is_library() => PeerCut::Excess,
        (None, Some(_)) if error.is_library() => PeerCut::Protocol,
        _ => {
            let peer = shared.server.peer().address();
            return tracing::debug!(peer, %error, "HTTP/2 connection lost");
        }
    };
    shared.server.note_cut(cut, &error.to_string());
}

/// The limits that h2 keeps. What it has no setting for:
///
/// - A header block may have as many CONTINUATIONs as its list needs, and a quarter more, but at least 5.
/// - An empty DATA frame that is not the last one is allowed 100 times.
/// - The answers to PING and SETTINGS go out before more is read, so a peer that reads none of them is not read either. How many of
///   them may come is what [`Traffic::is_flood`] says.
fn builder(settings: &Settings, server: &GuestServer) -> server::Builder {
    let streams = usize::try_from(settings.max_streams).unwrap_or(usize::MAX);
    let faults = usize::try_from(server.max_faults()).unwrap_or(usize::MAX);
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(FIRST_WINDOW)
        .initial_connection_window_size(connection_window(FIRST_WINDOW, settings))
        .data_frame_budget(SHORT_FRAMES)
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(settings.max_header_list)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        // A caller may cancel all its calls at once, before one of them is accepted. Calls that are accepted before their reset are counted
        // by `ResetBudget`.
        .max_pending_accept_reset_streams(streams)
        // A drain may refuse all of them at once, while their bodies are on the way.
        .max_concurrent_reset_streams(streams)
        .reset_stream_duration(RESET_STREAMS)
        // Streams that h2 has to reset are faults of the peer.
        .max_local_error_reset_streams(Some(faults));
    builder
}

/// How much a peer may send of all streams before they are read, if it may send `window` of each: so much that streams that are not read do not
/// stop the others.
fn connection_window(window: u32, settings: &Settings) -> u32 {
    let most = MOST_WINDOWS * window;
    window.saturating_mul(settings.max_streams).clamp(window, most)
}

/// Accepts requests until the connection ends. When the server drains or ends the connection, it takes no further ones, and ends with the
/// last that is open.
///
/// One task drives the connection and answers its requests: it has little to do but to hand them on. A call that may have to compress
/// has a task of its own.
async fn accept(shared: &Arc<Shared>, mut connection: Box<Connection>) -> Result<(), h2::Error> {
    let settings = &shared.settings;
    let begun = Instant::now();
    let mut keep_alive = connection.ping_pong().map(|pings| {
        KeepAlive::new(
            pings,
            &shared.traffic,
            settings.keep_alive,
            settings.keep_alive_timeout,
        )
    });
    let mut draining = pin!(shared.server.draining());
    let mut is_ending = false;
    let mut idle = pin!(sleep(IDLE));
    // The open requests, and how many looks in a row have found none.
    let (mut answers, mut quiet) = (OpenAnswers::new(), 0);
    let mut resets = ResetBudget::new(settings.max_streams);
    let waker = TaskWaker::new();
    let end = poll_fn(|cx| -> Poll<Result<End, h2::Error>> {
        waker.runs(cx);
        let age = begun.elapsed();
        // Once for each wake, since each of them wakes the task.
        if !is_ending && draining.as_mut().poll(cx).is_ready() {
            is_ending = true;
            connection.graceful_shutdown();
            idle.as_mut().reset(Instant::now() + IDLE);
        }
        if let Some(keep_alive) = &mut keep_alive {
            if keep_alive.poll_dead(cx).is_ready() {
                return Poll::Ready(Ok(End::Silence));
            }
            if let Some(time) = keep_alive.take_round_trip() {
                shared.server.note_round_trip(time);
            }
        }
        for _ in 0..LOOKS {
            shared.gathering.begin();
            loop {
                // Before h2 has its turn, which then writes what they give it.
                while let Some(end) = answers.next_ended(cx) {
                    resets.note(end, age);
                }
                // Before further calls are taken.
                if resets.is_exceeded() {
                    return Poll::Ready(Ok(End::Resets));
                }
                match connection.poll_accept(&mut Context::from_waker(waker.looks())) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        begin(shared, &mut answers, request, respond);
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(End::Closed)),
                    // Once more, to write what was gathered.
                    Poll::Pending if shared.gathering.end() => {}
                    Poll::Pending => break,
                }
            }
            widen(shared, &mut connection, answers.len());
            if shared.traffic.is_flood(age) {
                return Poll::Ready(Ok(End::Flood));
            }
            while is_ending && idle.as_mut().poll(cx).is_ready() {
                let is_quiet = answers.is_empty() && Arc::strong_count(&shared.unwritten) == 1;
                quiet = if is_quiet { quiet + 1 } else { 0 };
                // A request that ended after the last look may still have trailers to write, so one look is not enough.
                if quiet == 2 {
                    return Poll::Ready(Ok(End::Quiet));
                }
                idle.as_mut().reset(Instant::now() + IDLE);
            }
            // What h2 has read may be for open requests.
            if answers.sleep(cx) && waker.sleeps() {
                return Poll::Pending;
            }
        }
        // Other tasks have their turn, too.
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    let end = end.await?;
    // From here on all is written at once.
    shared.gathering.end();
    match end {
        End::Closed => Ok(()),
        // A peer whose PONG is late learns by this which of its calls were not taken.
        End::Quiet => send_away(&mut connection, Reason::NO_ERROR).await,
        End::Silence => {
            let text = format!(
                "nothing came in {:?} after a PING: Http::keep_alive_timeout",
                settings.keep_alive_timeout
            );
            shared.server.note_cut(PeerCut::Silence, settings.text(&text));
            Ok(())
        }
        End::Resets => {
            let text = "too many calls are given up at once: Http::max_streams";
            shared.server.note_cut(PeerCut::Excess, settings.text(text));
            send_away(&mut connection, Reason::ENHANCE_YOUR_CALM).await
        }
        End::Flood => {
            let text = format!("{} bytes for few requests", shared.traffic.read());
            shared.server.note_cut(PeerCut::Excess, &text);
            send_away(&mut connection, Reason::ENHANCE_YOUR_CALM).await
        }
    }
}

/// Begins to answer a request.
fn begin(
    shared: &Arc<Shared>,
    answers: &mut OpenAnswers<CallEnd>,
    request: Request<RecvStream>,
    respond: SendResponse<HeldBytes>,
) {
    let unread = unread_worth(shared.window.len());
    shared.traffic.add_useful(header_list(request.headers()) + unread);
    let compression = CallCompression::of(request.headers());
    let answer = answer(Arc::clone(shared), request, respond, compression);
    match compression.may_compute() {
        true => answers.spawn(answer),
        false => answers.add(answer),
    }
}

/// Makes the windows of streams wider, if they are to be; `open` requests are.
fn widen(shared: &Shared, connection: &mut Connection, open: usize) {
    // It fails while the peer has not acknowledged the settings before.
    let announce = |window| connection.set_initial_window_size(window).is_ok();
    if let Some(more) = shared.window.widen(announce) {
        shared.traffic.add_useful(unread_worth(more) * open);
        let window = connection_window(shared.window.len(), &shared.settings);
        connection.set_target_window_size(window);
    }
}

/// What a request is worth beside its headers, if its peer may send `window` of it before it is read: an eighth. [`Traffic::is_flood`] multiplies it
/// by 8, so a refused request whose body is not read counts as no flood.
fn unread_worth(window: u32) -> usize {
    window as usize / 8
}

/// Ends a connection with a GOAWAY, which a peer that reads nothing does not get.
async fn send_away(connection: &mut Connection, reason: Reason) -> Result<(), h2::Error> {
    connection.abrupt_shutdown(reason);
    let closed = poll_fn(|cx| connection.poll_closed(cx));
    timeout(IDLE, closed).await.unwrap_or(Ok(()))
}

/// Why a connection ends.
enum End {
    /// Its peer has ended it well.
    Closed,
    /// It is to end, and nothing is open.
    Quiet,
    /// The peer is dead.
    Silence,
    /// The peer sends too much that is of no request.
    Flood,
    /// The peer makes calls only to give them up.
    Resets,
}

/// How long the headers are, as HTTP/2 counts them.
pub(crate) fn header_list(headers: &HeaderMap) -> usize {
    let entry = |name: usize, value: usize| name + value + HEADER;
    let entries = headers
        .iter()
        .map(|(name, value)| entry(name.as_str().len(), value.len()));
    entries.sum()
}

/// Gives a request to the protocol that it belongs to.
async fn answer(
    shared: Arc<Shared>,
    request: Request<RecvStream>,
    respond: SendResponse<HeldBytes>,
    compression: CallCompression,
) -> CallEnd {
    let is_call = grpc::is_call(&request);
    #[cfg(feature = "routes")]
    if let Some(routes) = &shared.settings.routes {
        // All that names no content type of gRPC is for the routes.
        if !shared.settings.grpc || is_call == Err(StatusCode::UNSUPPORTED_MEDIA_TYPE) {
            return routes.answer_http2(&shared, request, respond).await;
        }
    }
    let refusal = match is_call {
        _ if !shared.settings.grpc => StatusCode::NOT_FOUND,
        Ok(()) => return grpc::answer(&shared, request, respond, compression).await,
        Err(status) => status,
    };
    shared.server.note_fault(PeerFault::Other);
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = refusal;
    if refusal == StatusCode::UNSUPPORTED_MEDIA_TYPE && request.method() != Method::HEAD {
        *response.body_mut() = Bytes::from_static(WHAT_IS_SPOKEN.as_bytes());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(CONTENT_LENGTH, WHAT_IS_SPOKEN.len().into());
    }
    // Its body is not read.
    drop(request);
    // Boxed, so that the future of a call is short.
    Box::pin(send_whole(&shared, respond, response)).await;
    CallEnd::Other
}

/// The text for a caller that does not speak gRPC, such as curl.
const WHAT_IS_SPOKEN: &str =
    "this port speaks gRPC: the content-type of a request is application/grpc or application/grpc+proto\n";

/// What HTTP/2 adds to the name and the value of a header.
pub(crate) const HEADER: usize = 32;
/// How many windows of streams a peer may fill before they are read, at most.
const MOST_WINDOWS: u32 = 256;
/// The longest frame: a message of 64 KiB fits in, so it is not copied, and takes a quarter of the reads. h2 gathers a frame before it hands it
/// on; [`BegunFrame`](crate::begun_frame::BegunFrame) counts that.
pub(crate) const MAX_FRAME: u32 = 72 << 10;
/// How much h2 may spend on short DATA frames that are not read. Its default ends connections that stream messages of a few bytes.
const SHORT_FRAMES: usize = 16 << 20;
/// How long a stream that this side has reset is remembered, for what the peer sent before it knew.
const RESET_STREAMS: Duration = Duration::from_secs(1);
/// How often a connection looks at what there is to do before other tasks have their turn.
const LOOKS: usize = 8;
/// How long a connection that is to end waits for the peer when no request is open.
const IDLE: Duration = Duration::from_secs(1);
/// What one stream may hold of its answer before its handler waits.
const SEND_BUFFER: usize = 256 << 10;
