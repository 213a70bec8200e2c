//! One HTTP/2 connection: its requests, its drain and its end.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    RecvStream,
    server::{self, SendResponse},
};
use http::{Request, Response, StatusCode};
use rpc_runtime::{
    Client,
    server::{GuestConnection, GuestServer, GuestStream},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{grpc, http_guest::Settings, keep_alive::KeepAlive};

type Connection = server::Connection<GuestStream, Bytes>;

/// What the calls of a connection share.
pub(crate) struct Shared {
    pub(crate) server: GuestServer,
    pub(crate) client: Client,
    settings: Settings,
}

impl Shared {
    /// How many bytes a message may have.
    pub(crate) fn max_message(&self) -> usize {
        usize::try_from(self.server.max_message()).unwrap_or(usize::MAX)
    }

    /// True if handlers may add to the headers of their answers.
    pub(crate) fn has_initial_metadata(&self) -> bool {
        self.settings.initial_metadata
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(settings: Settings, connection: GuestConnection) {
    let (stream, server) = connection.into_parts();
    let peer = server.peer().address().to_owned();
    let handshake = timeout(HANDSHAKE, builder(&settings).handshake::<_, Bytes>(stream));
    let connection = tokio::select! {
        biased;
        shaken = handshake => match shaken {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(peer, %error, "no HTTP/2 handshake"),
            Err(_) => return tracing::debug!(peer, "no HTTP/2 handshake within {HANDSHAKE:?}"),
        },
        () = server.draining() => return tracing::debug!(peer, "the server drains before the HTTP/2 handshake"),
    };
    tracing::debug!(peer, "HTTP/2 connection opened");
    let shared = Arc::new(Shared {
        client: server.client(),
        server,
        settings,
    });
    match accept(&shared, connection).await {
        Ok(()) => tracing::debug!(peer, "HTTP/2 connection closed"),
        Err(error) => tracing::debug!(peer, %error, "HTTP/2 connection lost"),
    }
}

fn builder(settings: &Settings) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        // So that streams that are not read do not stop the others.
        .initial_connection_window_size(
            STREAM_WINDOW
                .saturating_mul(settings.max_streams)
                .clamp(STREAM_WINDOW, MOST_WINDOW),
        )
        .data_frame_budget(SHORT_FRAMES)
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(settings.max_header_list)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Accepts requests until the connection ends. When the server drains or the connection is old, it takes no further ones, and ends with the
/// last that is open.
async fn accept(shared: &Arc<Shared>, mut connection: Connection) -> Result<(), h2::Error> {
    let settings = &shared.settings;
    let mut keep_alive = connection
        .ping_pong()
        .map(|pings| KeepAlive::new(pings, settings.keep_alive, settings.keep_alive_timeout));
    let mut draining = pin!(shared.server.draining());
    let mut old = pin!(after(settings.max_age));
    let mut is_ending = false;
    let mut idle = pin!(sleep(IDLE));
    loop {
        let next = poll_fn(|cx| -> Poll<Option<Result<Exchange, h2::Error>>> {
            if !is_ending && (draining.as_mut().poll(cx).is_ready() || old.as_mut().poll(cx).is_ready()) {
                is_ending = true;
                connection.graceful_shutdown();
                idle.as_mut().reset(Instant::now() + IDLE);
            }
            if let Poll::Ready(request) = connection.poll_accept(cx) {
                return Poll::Ready(request);
            }
            if let Some(keep_alive) = &mut keep_alive {
                if keep_alive.poll_dead(cx).is_ready() {
                    tracing::debug!(
                        peer = shared.server.peer().address(),
                        "peer does not answer PINGs"
                    );
                    return Poll::Ready(None);
                }
            }
            while is_ending && idle.as_mut().poll(cx).is_ready() {
                // Each open request has a clone.
                if Arc::strong_count(shared) == 1 {
                    return Poll::Ready(None);
                }
                idle.as_mut().reset(Instant::now() + IDLE);
            }
            Poll::Pending
        });
        let Some(exchange) = next.await else {
            return Ok(());
        };
        let (request, respond) = exchange?;
        tokio::spawn(answer(Arc::clone(shared), request, respond));
    }
}

/// A request, and where its answer goes.
type Exchange = (Request<RecvStream>, SendResponse<Bytes>);

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

/// Gives a request to the protocol that it belongs to.
async fn answer(shared: Arc<Shared>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let refusal = match grpc::is_call(&request) {
        _ if !shared.settings.grpc => StatusCode::NOT_FOUND,
        Ok(()) => return grpc::answer(&shared, request, respond).await,
        Err(status) => status,
    };
    let mut response = Response::new(());
    *response.status_mut() = refusal;
    // The peer may be gone.
    let _ = respond.send_response(response, true);
}

/// The time that a peer has for the preface.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What a peer may send of one stream before it is read. Not measured.
const STREAM_WINDOW: u32 = 64 << 10;
/// What a peer may send of all streams before they are read.
const MOST_WINDOW: u32 = 16 << 20;
/// How much h2 may spend on short DATA frames that are not read. Its default ends connections that stream messages of a few bytes.
const SHORT_FRAMES: usize = 16 << 20;
/// How long a connection that is to end waits for the peer when no request is open.
const IDLE: Duration = Duration::from_secs(1);
/// What one stream may hold of its answer before its handler waits.
const SEND_BUFFER: usize = 256 << 10;
