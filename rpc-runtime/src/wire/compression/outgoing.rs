//! Outgoing: a message on its way out, compressed if both sides agree to that.

use bytes::Bytes;
use prost::Message;

use super::Compression;
use crate::wire::frame::{Encoded, Output, Payload, Size};

/// A message on its way out: as it is, or compressed.
#[derive(Debug)]
pub(crate) enum Outgoing<'a, M> {
    Plain(&'a M),
    Compressed(Encoded),
}

impl<'a, M: Message> Outgoing<'a, M> {
    /// `message`, compressed by `compression` if that makes it shorter.
    ///
    /// It takes its time: never call it under a connection's lock.
    #[inline]
    pub(crate) fn new(message: &'a M, compression: Option<Compression>) -> Self {
        compression
            .and_then(|compression| compress(message, compression))
            .map_or(Self::Plain(message), Self::Compressed)
    }
}

/// A message compressed, if it is long enough and becomes shorter.
#[cold]
pub(crate) fn compress<M: Message>(message: &M, compression: Compression) -> Option<Encoded> {
    let len = message.encoded_len();
    if len < Compression::MIN_LEN {
        return None;
    }
    let compressed = compression.compress(&message.encode_to_vec())?;
    Some(Encoded::new(
        Bytes::from(compressed),
        compression.encoding(),
        len as u64,
    ))
}

impl<M: Message> Payload for Outgoing<'_, M> {
    fn size(&self) -> Size {
        match self {
            Self::Plain(message) => message.size(),
            Self::Compressed(compressed) => compressed.size(),
        }
    }

    fn put(&self, out: &mut Output) {
        match self {
            Self::Plain(message) => message.put(out),
            Self::Compressed(compressed) => compressed.put(out),
        }
    }
}
