//! Requests for the routes over HTTP/1: one connection.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH},
};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rpc_runtime::server::{GuestHandshake, GuestServer, GuestStream, PeerCut};
use tokio::time::Instant;

use super::{Routes, held_body::HeldBody};
use crate::{
    any_authority::AnyAuthority,
    http_guest::{RouteLimits, Settings},
    preface,
    watched_stream::{Traffic, WatchedStream},
};

/// Serves a connection of HTTP/1 until it ends. `begun` was read of it before. Settings without routes serve nothing.
///
/// When the server drains, an open request is answered, and a connection without one is closed at once.
pub(crate) async fn serve(
    settings: Settings,
    stream: GuestStream,
    begun: Bytes,
    server: GuestServer,
    handshake: GuestHandshake,
) {
    let Some(routes) = settings.routes else {
        return;
    };
    let stream = WatchedStream::new(AnyAuthority::behind(stream, &begun), server.write_stall());
    let talk = Arc::new(Talk {
        routes,
        limits: settings.route_limits,
        traffic: Arc::clone(stream.traffic()),
        server,
        handshake: Mutex::new(Some(handshake)),
        begun: Instant::now(),
        requests: AtomicU32::new(0),
    });
    tracing::debug!(peer = talk.peer(), "HTTP/1 connection opened");
    let max_header = usize::try_from(settings.max_header_list).unwrap_or(usize::MAX);
    let service = service_fn({
        let talk = Arc::clone(&talk);
        move |request| Arc::clone(&talk).boxed_answer(request)
    });
    let mut connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(talk.limits.header_timeout)
        .max_header_size(max_header)
        .max_buf_size(max_header.max(LEAST_BUFFER))
        // So that a body counts as held until it is written.
        .writev(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut draining = pin!(talk.server.draining());
    let mut is_ending = false;
    let ended = poll_fn(|cx| {
        if !is_ending && draining.as_mut().poll(cx).is_ready() {
            is_ending = true;
            // hyper would wait for the first request.
            if talk.requests.load(Relaxed) == 0 {
                return Poll::Ready(Ok(()));
            }
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx)
    })
    .await;
    let parts = connection.into_parts();
    match ended {
        Ok(()) => tracing::debug!(peer = talk.peer(), "HTTP/1 connection closed"),
        Err(error) => talk.note_failure(&error, !parts.read_buf.is_empty()),
    }
    preface::linger(&mut parts.io.into_inner()).await;
}

/// What the requests of a connection share.
struct Talk {
    routes: Routes,
    limits: RouteLimits,
    server: GuestServer,
    traffic: Arc<Traffic>,
    /// Until the first request has come.
    handshake: Mutex<Option<GuestHandshake>>,
    begun: Instant,
    /// How many requests have come.
    requests: AtomicU32,
}

type Answer = Response<HeldBody>;

impl Talk {
    fn peer(&self) -> &str {
        self.server.peer().address()
    }

    /// Boxed, because hyper has to move it.
    fn boxed_answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>> {
        Box::pin(async move { Ok(self.answer(request).await) })
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let requests = self.requests.fetch_add(1, Relaxed) + 1;
        // Its headers are there, so the peer has shown what it speaks.
        drop(
            self.handshake
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let answer = self.routes.answer(&self.limits, &self.server, request).await;
        let (mut head, body) = answer.into_parts();
        let body = HeldBody::new(body, &self.server).unwrap_or_else(|_| {
            head.status = StatusCode::SERVICE_UNAVAILABLE;
            head.headers.clear();
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            HeldBody::empty()
        });
        // A body that was not read stands before the next request.
        let is_unread = matches!(
            head.status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE
        );
        if is_unread || requests >= MOST_REQUESTS || self.begun.elapsed() >= MOST_AGE {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Response::from_parts(head, body)
    }

    /// Counts and logs the error that the connection ended with, if its peer is to blame. `has_begun` says that a part of a request is there.
    fn note_failure(&self, error: &hyper::Error, has_begun: bool) {
        let (cut, text) = match self.traffic.cut() {
            Some(cut) => (cut, error.to_string()),
            None if error.is_timeout() && has_begun => {
                let text = format!(
                    "the headers of a request did not come in {:?}: Http::header_timeout",
                    self.limits.header_timeout
                );
                (PeerCut::Silence, self.limits.text(&text).to_owned())
            }
            None if error.is_parse() => (PeerCut::Protocol, error.to_string()),
            None => return tracing::debug!(peer = self.peer(), %error, "HTTP/1 connection lost"),
        };
        self.server.note_cut(cut, &text);
    }
}

/// After so many requests a connection is closed, so that a load balancer finds new servers.
const MOST_REQUESTS: u32 = 1000;
/// After this time, too.
const MOST_AGE: Duration = Duration::from_secs(3600);
/// The least that hyper takes as its buffer.
const LEAST_BUFFER: usize = 8 << 10;
