//! Outgoing: a message on its way out, compressed if both sides agree to that.

use bytes::Bytes;
use prost::Message;

use super::Compression;
use crate::wire::frame::{Encoded, Output, Payload, Size};

/// A message on its way out: as it is, or compressed.
#[derive(Debug)]
pub(crate) enum Outgoing<'a, M> {
    Plain(&'a M),
    Packed(Encoded),
}

impl<'a, M: Message> Outgoing<'a, M> {
    /// `message`, compressed by `compression` if that makes it shorter.
    ///
    /// It takes its time: never call it under a connection's lock.
    #[inline]
    pub(crate) fn new(message: &'a M, compression: Option<Compression>) -> Self {
        compression
            .and_then(|compression| pack(message, compression))
            .map_or(Self::Plain(message), Self::Packed)
    }
}

/// A message compressed, if it is long enough and becomes shorter.
#[cold]
pub(crate) fn pack<M: Message>(message: &M, compression: Compression) -> Option<Encoded> {
    let len = message.encoded_len();
    if len < Compression::MIN_LEN {
        return None;
    }
    let packed = compression.pack(&message.encode_to_vec())?;
    Some(Encoded::new(
        Bytes::from(packed),
        compression.encoding(),
        len as u64,
    ))
}

impl<M: Message> Payload for Outgoing<'_, M> {
    fn size(&self) -> Size {
        match self {
            Self::Plain(message) => message.size(),
            Self::Packed(packed) => packed.size(),
        }
    }

    fn put(&self, out: &mut Output) {
        match self {
            Self::Plain(message) => message.put(out),
            Self::Packed(packed) => packed.put(out),
        }
    }
}
