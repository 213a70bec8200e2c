//! Messages: reads the messages of an answer's body.

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use rpc_runtime::{Status, codec::RawMessage};

use crate::grpc::{encoding::Encoding, prefixed::Prefixed};

/// The messages of an answer's body. At most one message and one window are held.
pub(super) struct Messages {
    body: RecvStream,
    unread: Prefixed,
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
        }
    }

    /// Waits for the next message; none at the end.
    ///
    /// # Errors
    ///
    /// `Broken::Peer` if the server has given up, or its connection is lost. `Broken::Body` with what is wrong with the body.
    pub(super) async fn next(&mut self) -> Result<Option<RawMessage>, Broken> {
        loop {
            if let Some(message) = self.unread.take().map_err(Broken::Body)? {
                return Ok(Some(RawMessage(message)));
            }
            let Some(chunk) = self.chunk().await? else {
                return match self.unread.len() {
                    0 => Ok(None),
                    _ => Err(Broken::Body(Status::internal("the body ends within a message"))),
                };
            };
            if let Some(message) = self.unread.push(&chunk).map_err(Broken::Body)? {
                return Ok(Some(RawMessage(message)));
            }
        }
    }

    /// Gives the messages that have arrived and are not compressed to `take`, until it returns false: then that one is the next.
    pub(super) fn read_arrived(&mut self, take: impl FnMut(&[u8]) -> bool) {
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

    async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        let chunk = self.body.data().await.transpose().map_err(Broken::Peer)?;
        if let Some(chunk) = &chunk {
            // The stream is open, so there is no error.
            let _ = self.body.flow_control().release_capacity(chunk.len());
        }
        Ok(chunk)
    }
}
