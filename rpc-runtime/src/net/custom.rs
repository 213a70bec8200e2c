//! Streams that are neither TCP nor Unix sockets nor memory: the user's own, and those of a simulation.

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

use super::{Kind, Peer, Stream};

/// A byte stream of any type.
pub(super) struct Custom {
    pub(super) stream: Box<dyn Io>,
    /// Whether it may keep what was written until it is flushed.
    pub(super) is_buffering: bool,
}

/// What a byte stream has to be.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Stream {
    /// A byte stream of any type, which may buffer what is written.
    pub(crate) fn custom(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Kind::Custom(Custom {
            stream: Box::new(stream),
            is_buffering: true,
        }))
    }

    /// A byte stream that keeps nothing back: a flush of it does nothing.
    #[cfg(feature = "sim")]
    pub(crate) fn unbuffered(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Kind::Custom(Custom {
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

/// How a client of the user's own transport connects.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Connect>);

type Connect = dyn Fn(&str) -> Connecting + Send + Sync;
type Connecting = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

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

    /// Connects to `address`, whatever that means.
    ///
    /// # Errors
    ///
    /// What the user's function says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the user's.
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

/// Streams that somebody else accepts; none any more when they have ended.
pub(crate) struct Incoming(Mutex<Option<Pin<Box<dyn Accepted>>>>);

trait Accepted: Sequence<Item = io::Result<(Stream, Peer)>> + Send {}

impl<T: Sequence<Item = io::Result<(Stream, Peer)>> + Send> Accepted for T {}

impl Incoming {
    /// Those of `streams`, all of which come from `address`.
    pub(crate) fn new<I, S>(address: &str, streams: I) -> Self
    where
        I: Sequence<Item = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let peer = Peer::custom(address);
        Self::of(Streams {
            streams: Box::pin(streams),
            peer,
        })
    }

    /// Those that come with their peers.
    #[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "only a simulation has such"))]
    pub(crate) fn of(streams: impl Sequence<Item = io::Result<(Stream, Peer)>> + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::pin(streams))))
    }

    /// Ready with the next stream, or once with none when there will be no more; after that never.
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

    /// Those that are there already, at most `max`.
    pub(super) fn take_ready(self, max: usize) -> Vec<(Stream, Peer)> {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = || match self.poll_accept(&mut cx) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => None,
        };
        std::iter::from_fn(ready).take(max).flatten().collect()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incoming")
    }
}

/// The streams of a user, and who is at their other ends.
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
