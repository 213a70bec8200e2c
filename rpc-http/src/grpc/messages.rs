//! Messages: reads the messages of a body.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use rpc_runtime::{Code, Status, codec::RawMessage};

use super::encoding::Encoding;

/// The messages of a body, each behind five bytes: whether it is compressed, and its length.
///
/// What is read gives the peer room for more at once, so at most one message and one window are held.
pub(crate) struct Messages {
    body: RecvStream,
    unread: BytesMut,
    encoding: Encoding,
    max: usize,
}

impl Messages {
    /// Each message may have `max` bytes, before and after decompression.
    pub(crate) fn new(body: RecvStream, encoding: Encoding, max: usize) -> Self {
        Self {
            body,
            unread: BytesMut::new(),
            encoding,
            max,
        }
    }

    /// Waits for the next message; none at the end.
    ///
    /// # Errors
    ///
    /// `Broken::Peer` if the peer has given up, or its connection is lost. `Broken::Body` with what is wrong with the body.
    pub(crate) async fn next(&mut self) -> Result<Option<RawMessage>, Broken> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(RawMessage(message)));
            }
            match self.body.data().await {
                Some(chunk) => {
                    let chunk = chunk.map_err(Broken::Peer)?;
                    // The stream is open, so there is no error.
                    let _ = self.body.flow_control().release_capacity(chunk.len());
                    if self.unread.is_empty() {
                        if let Some(message) = self.whole(&chunk)? {
                            return Ok(Some(RawMessage(message)));
                        }
                    }
                    self.unread.extend_from_slice(&chunk);
                }
                None if self.unread.is_empty() => return Ok(None),
                None => return Err(Status::internal("the body ends within a message").into()),
            }
        }
    }

    /// Reads the only message of a call without a stream of requests.
    ///
    /// # Errors
    ///
    /// As [`Messages::next`]; UNIMPLEMENTED if there is none, or more than one.
    pub(crate) async fn only(&mut self) -> Result<RawMessage, Broken> {
        let message = self.next().await?;
        let message =
            message.ok_or_else(|| Status::unimplemented("the call has no message, and takes one"))?;
        if !self.unread.is_empty() || self.has_more().await? {
            return Err(Status::unimplemented("the call has several messages, and takes one").into());
        }
        Ok(message)
    }

    /// Waits for the trailers behind the last message; none if there are none.
    ///
    /// # Errors
    ///
    /// `Broken::Peer`.
    pub(crate) async fn trailers(&mut self) -> Result<Option<HeaderMap>, Broken> {
        self.body.trailers().await.map_err(Broken::Peer)
    }

    /// True if the body has further bytes.
    async fn has_more(&mut self) -> Result<bool, Broken> {
        while let Some(chunk) = self.body.data().await {
            if !chunk.map_err(Broken::Peer)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The message of a chunk that has one message and nothing else: without a copy.
    fn whole(&self, chunk: &Bytes) -> Result<Option<Bytes>, Status> {
        match self.prefix(chunk)? {
            Some((is_compressed, len)) if chunk.len() == PREFIX + len => {
                self.decompress(is_compressed, chunk.slice(PREFIX..)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The next message of what was read before.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((is_compressed, len)) = self.prefix(&self.unread)? else {
            return Ok(None);
        };
        if self.unread.len() < PREFIX + len {
            return Ok(None);
        }
        self.unread.advance(PREFIX);
        let message = self.unread.split_to(len).freeze();
        self.decompress(is_compressed, message).map(Some)
    }

    /// Reads the five bytes before a message, if they are all there.
    fn prefix(&self, bytes: &[u8]) -> Result<Option<(bool, usize)>, Status> {
        let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let is_compressed = match prefix[0] {
            0 => false,
            1 => true,
            other => {
                return Err(Status::internal(format!(
                    "a message begins with {other}, not with 0 or 1"
                )));
            }
        };
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
        match usize::try_from(len) {
            Ok(len) if len <= self.max => Ok(Some((is_compressed, len))),
            _ => Err(too_long(len.into(), self.max)),
        }
    }

    fn decompress(&self, is_compressed: bool, message: Bytes) -> Result<Bytes, Status> {
        match is_compressed {
            true => self.encoding.decompress(&message, self.max),
            false => Ok(message),
        }
    }
}

/// Why a body ends before its end.
pub(crate) enum Broken {
    /// The peer has given up, or its connection is lost.
    Peer(h2::Error),
    /// What is wrong with the body.
    Body(Status),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Body(status)
    }
}

/// The status of a message that is longer than `max` bytes.
pub(crate) fn too_long(len: u64, max: usize) -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!("message of {len} bytes or more exceeds limit of {max}: Limits::max_message"),
    )
}

/// A message with the five bytes before it, compressed as `encoding` says.
pub(crate) fn prefixed(message: &[u8], encoding: Encoding) -> Bytes {
    let compressed = encoding.compress(message);
    let (flag, message) = match &compressed {
        Some(compressed) => (1, &compressed[..]),
        None => (0, message),
    };
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    bytes.put_u8(flag);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

/// How many bytes stand before each message.
const PREFIX: usize = 5;
