//! Connection: one HTTP/2 connection to a gRPC server.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use h2::{
    Ping, PingPong, Reason,
    client::{self, SendRequest},
};
use rpc_runtime::{
    Result,
    protocol::{CallFuture, OutgoingCall, ProtocolConnection, ProtocolStream, ProtocolTask},
};
use tokio::sync::{oneshot, watch};

use super::{
    Settings, call,
    driver::Driver,
    first_bytes::{FirstBytes, Noting},
    handed_calls::HandedCalls,
    message_bytes::MessageBytes,
    request::Target,
};
use crate::{grpc::encoding::Encoding, keep_alive::KeepAlive, watched_stream::WatchedStream};

pub(super) type Http2 = client::Connection<WatchedStream<Noting<ProtocolStream>>, MessageBytes>;

/// One HTTP/2 connection to a gRPC server. When it is dropped, the open calls end, and then the connection.
pub(super) struct Connection {
    requests: SendRequest<MessageBytes>,
    shared: Arc<Shared>,
    /// None once it was taken.
    driver: Mutex<Option<Driver>>,
    /// Tells the driver when it is dropped.
    _guard: oneshot::Sender<Infallible>,
}

/// What the calls of a connection share.
pub(super) struct Shared {
    pub(super) target: Target,
    /// How requests are compressed.
    pub(super) encoding: Encoding,
    /// How many bytes a reply may have.
    pub(super) max_message: usize,
    /// Why the connection takes no more calls; none if it takes some.
    closed: watch::Sender<Option<String>>,
    /// Each open call has a clone.
    calls: Arc<()>,
    pub(super) handed: HandedCalls,
}

impl Shared {
    /// Notes that the connection takes no more calls. Returns the first reason that was noted.
    pub(super) fn close(&self, why: impl Into<String>) -> String {
        self.closed.send_if_modified(|closed| {
            let is_first = closed.is_none();
            if is_first {
                *closed = Some(why.into());
            }
            is_first
        });
        self.closed.borrow().clone().unwrap_or_default()
    }

    /// Counts a call as open until the result is dropped.
    pub(super) fn enter(&self) -> Arc<()> {
        Arc::clone(&self.calls)
    }

    pub(super) fn has_calls(&self) -> bool {
        Arc::strong_count(&self.calls) > 1
    }
}

impl Connection {
    /// Makes a connection of a stream.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION if the server speaks something else; UNAVAILABLE if it does not answer.
    pub(super) async fn open(settings: &Settings, stream: ProtocolStream) -> Result<Self> {
        let shared = Arc::new(Shared {
            target: Target::new(settings.authority.as_deref(), stream.address())?,
            encoding: Encoding::of_requests(settings.gzip),
            max_message: usize::try_from(stream.max_message()).unwrap_or(usize::MAX),
            closed: watch::Sender::new(None),
            calls: Arc::default(),
            handed: HandedCalls::default(),
        });
        let (stream, first) = FirstBytes::note(stream);
        // Writes have no time limit: a server that reads nothing answers no PING, and keep-alive ends it.
        let stream = WatchedStream::new(stream, Duration::MAX);
        let traffic = Arc::clone(stream.traffic());
        let opened = shake_hands(stream).await;
        let (requests, connection, pings) = opened.map_err(|error| first.explain(&error))?;
        let keep_alive = settings
            .keep_alive
            .map(|interval| KeepAlive::new(pings, &traffic, interval, settings.keep_alive_timeout));
        let (guard, released) = oneshot::channel();
        let driver = Driver::new(
            connection,
            requests.clone(),
            keep_alive,
            released,
            Arc::clone(&shared),
        );
        Ok(Self {
            requests,
            shared,
            driver: Mutex::new(Some(driver)),
            _guard: guard,
        })
    }
}

impl ProtocolConnection for Connection {
    fn call(&self, call: OutgoingCall) -> CallFuture {
        let (requests, shared) = (self.requests.clone(), Arc::clone(&self.shared));
        Box::pin(call::make(requests, shared, call))
    }

    fn closed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        let mut closed = self.shared.closed.subscribe();
        Box::pin(async move {
            let why = closed.wait_for(Option::is_some).await;
            why.ok().and_then(|why| why.clone()).unwrap_or_default()
        })
    }

    fn take_driver(&self) -> Option<ProtocolTask> {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        driver.take().map(|driver| Box::pin(driver) as ProtocolTask)
    }

    /// Compressing takes long, and other calls are not to wait for it.
    fn takes_calls(&self) -> bool {
        self.shared.encoding == Encoding::Identity
    }

    fn take_call(&self, call: ProtocolTask) -> Option<ProtocolTask> {
        self.shared.handed.push(call)
    }
}

/// Begins to speak HTTP/2, and waits until the server has answered.
async fn shake_hands(
    stream: WatchedStream<Noting<ProtocolStream>>,
) -> Result<(SendRequest<MessageBytes>, Http2, PingPong), h2::Error> {
    let (requests, mut connection) = builder().handshake(stream).await?;
    // There is one, because nothing has taken it.
    let mut pings = connection.ping_pong().ok_or(Reason::INTERNAL_ERROR)?;
    {
        // The answer shows that the server speaks HTTP/2, and its SETTINGS come before.
        let mut pong = pin!(pings.ping(Ping::opaque()));
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(Err(Reason::NO_ERROR.into())),
            Poll::Pending => pong.as_mut().poll(cx).map_ok(drop),
        })
        .await?;
    }
    Ok((requests, connection, pings))
}

fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        // So that streams that are not read do not stop the others.
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .data_frame_budget(SHORT_FRAMES)
        .max_header_list_size(MAX_HEADERS)
        .max_concurrent_reset_streams(MAX_RESETS)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// How many bytes of one stream a server may send before they are read. With 256 KiB a server that streams short messages waits three
/// times as often.
const STREAM_WINDOW: u32 = 1 << 20;
/// How many bytes of all streams a server may send before they are read.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// How long a frame of the server may be: a message of 64 KiB comes in one, and needs no copy.
const MAX_FRAME: u32 = 128 << 10;
/// How much h2 may spend on short DATA frames that are not read. Its default ends connections that stream messages of a few bytes.
const SHORT_FRAMES: usize = 16 << 20;
/// How many bytes the headers or the trailers of an answer may have, as HTTP/2 counts them.
const MAX_HEADERS: u32 = 64 << 10;
/// How many cancelled calls h2 remembers, whose answers may still come.
const MAX_RESETS: usize = 1024;
/// What one stream may hold of its requests before their sender waits.
const SEND_BUFFER: usize = 256 << 10;
