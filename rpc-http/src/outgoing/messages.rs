//! Messages: reads the messages of an answer's body.

use std::mem;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use rpc_runtime::{Status, codec::RawMessage};

use crate::grpc::{
    encoding::Encoding,
    prefixed::{Arrived, Prefixed},
};

/// The messages of an answer's body. At most one message and one window are held.
pub(super) struct Messages {
    body: RecvStream,
    unread: Prefixed,
    encoding: Encoding,
}

/// Why a body ends before its end.
pub(super) enum Broken {
    /// The server has given up, or its connection is lost.
    Peer(h2::Error),
    /// What is wrong with the body.
    Body(Status),
}

impl Messages {
    /// The messages of `body`, of at most `max` bytes.
    pub(super) fn new(body: RecvStream, encoding: Encoding, max: usize) -> Self {
        Self {
            body,
            unread: Prefixed::new(encoding, max),
            encoding,
        }
    }

    /// Waits for the next message; none at the end.
    ///
    /// # Errors
    ///
    /// `Broken::Peer` if the server has given up, or its connection is lost. `Broken::Body` with what is wrong with the body.
    pub(super) async fn next(&mut self) -> Result<Option<RawMessage>, Broken> {
        loop {
            if self.unread.len() > 0 {
                if let Some(message) = self.read(Prefixed::take).await? {
                    return Ok(Some(RawMessage(message)));
                }
            }
            let Some(chunk) = self.chunk().await? else {
                return match self.unread.len() {
                    0 => Ok(None),
                    _ => Err(Broken::Body(Status::internal("the body ends within a message"))),
                };
            };
            if let Some(message) = self.read(move |unread| unread.push(&chunk)).await? {
                return Ok(Some(RawMessage(message)));
            }
        }
    }

    /// Gives the messages that have arrived and are not compressed to `take`. If that returns false, the last one that it was given is the next.
    pub(super) fn read_arrived(&mut self, take: impl FnOnce(&mut Arrived<'_>) -> bool) {
        self.unread.read_arrived(take);
    }

    /// Waits for the trailers behind the last message; none if there are none.
    ///
    /// # Errors
    ///
    /// `Broken::Peer`.
    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>, Broken> {
        self.body.trailers().await.map_err(Broken::Peer)
    }

    /// Reads a message of what is unread. If messages may be compressed, a task of its own does so: it may take long, and other calls of the
    /// connection are not to wait for it.
    async fn read(
        &mut self,
        read: impl FnOnce(&mut Prefixed) -> Result<Option<Bytes>, Status> + Send + 'static,
    ) -> Result<Option<Bytes>, Broken> {
        if self.encoding == Encoding::Identity {
            return read(&mut self.unread).map_err(Broken::Body);
        }
        let mut unread = mem::replace(&mut self.unread, Prefixed::new(self.encoding, 0));
        let task = tokio::spawn(async move {
            let message = read(&mut unread);
            (unread, message)
        });
        let lost = |_| Broken::Body(Status::internal("decompressing a reply panicked"));
        let (unread, message) = task.await.map_err(lost)?;
        self.unread = unread;
        message.map_err(Broken::Body)
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        let chunk = self.body.data().await.transpose().map_err(Broken::Peer)?;
        if let Some(chunk) = &chunk {
            // The stream is open, so there is no error.
            let _ = self.body.flow_control().release_capacity(chunk.len());
        }
        Ok(chunk)
    }
}
