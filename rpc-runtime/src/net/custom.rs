//! Custom: streams that are not TCP, Unix sockets or memory: a user's own, and those of a simulation.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream as Sequence;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Peer, Stream, StreamKind};

/// A byte stream of any type.
pub(super) struct Custom {
    pub(super) stream: Box<dyn Io>,
    /// True if the stream may hold written bytes back until it is flushed.
    pub(super) is_buffering: bool,
}

/// The traits that a byte stream needs.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Stream {
    /// Wraps a byte stream of any type, which may buffer what is written.
    pub(crate) fn custom(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::of(StreamKind::Custom(Custom {
            stream: Box::new(stream),
            is_buffering: true,
        }))
    }

    /// Wraps a byte stream that holds nothing back: flushing it does nothing.
    #[cfg(feature = "sim")]
    pub(crate) fn unbuffered(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::of(StreamKind::Custom(Custom {
            stream: Box::new(stream),
            is_buffering: false,
        }))
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custom")
    }
}

/// The function by which a client with the user's own transport connects.
#[derive(Clone)]
pub(crate) struct Connector(Arc<ConnectFn>);

type ConnectFn = dyn Fn(&str) -> UserConnecting + Send + Sync;
type UserConnecting = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

impl Connector {
    pub(crate) fn new<F, C, S>(connect: F) -> Self
    where
        F: Fn(String) -> C + Send + Sync + 'static,
        C: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self(Arc::new(move |address| {
            let connecting = connect(address.to_owned());
            Box::pin(async { Ok(Stream::custom(connecting.await?)) })
        }))
    }

    /// Connects to `address` by the user's function, which defines what an address means.
    ///
    /// # Errors
    ///
    /// The error of the user's function.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the future of the user's function.
    pub(crate) async fn connect(&self, address: &str) -> io::Result<(Stream, Peer)> {
        let stream = (self.0)(address).await?;
        Ok((stream, Peer::custom(address)))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// Streams that code outside of this crate accepts; `None` once they have ended.
pub(crate) struct IncomingStreams(Mutex<Option<Pin<Box<dyn Accepted>>>>);

trait Accepted: Sequence<Item = io::Result<(Stream, Peer)>> + Send {}

impl<T: Sequence<Item = io::Result<(Stream, Peer)>> + Send> Accepted for T {}

impl IncomingStreams {
    /// Wraps `streams`, all of which come from `address`.
    pub(crate) fn new<I, S>(address: &str, streams: I) -> Self
    where
        I: Sequence<Item = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let peer = Peer::custom(address).with_listener(&address.into());
        Self::of(Streams {
            streams: Box::pin(streams),
            peer,
        })
    }

    /// Wraps streams that come with their peers.
    #[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "only a simulation uses it"))]
    pub(crate) fn of(streams: impl Sequence<Item = io::Result<(Stream, Peer)>> + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::pin(streams))))
    }

    /// Ready with the next stream, then once with `None` when the streams have ended, and never again after that.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<(Stream, Peer)>>> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &mut *streams else {
            return Poll::Pending;
        };
        let next = open.as_mut().poll_next(cx);
        if let Poll::Ready(None) = next {
            *streams = None;
        }
        next
    }

    /// Takes the streams that are ready, at most `max`.
    pub(super) fn take_ready(self, max: usize) -> Vec<(Stream, Peer)> {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = || match self.poll_accept(&mut cx) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => None,
        };
        std::iter::from_fn(ready).take(max).flatten().collect()
    }
}

impl fmt::Debug for IncomingStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IncomingStreams")
    }
}

/// A user's streams, and the peer to report for them.
struct Streams<I> {
    streams: Pin<Box<I>>,
    peer: Peer,
}

impl<I, S> Sequence for Streams<I>
where
    I: Sequence<Item = io::Result<S>>,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Item = io::Result<(Stream, Peer)>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = this.streams.as_mut().poll_next(cx);
        next.map_ok(|stream| (Stream::custom(stream), this.peer.clone()))
    }
}
