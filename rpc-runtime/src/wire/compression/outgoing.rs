//! Outgoing: a message on its way out, compressed if both sides agree to that.

use bytes::{BufMut, Bytes};
use prost::Message;

use super::Compression;
use crate::wire::frame::{Encoded, Payload, Size};

/// A message on its way out: as it is, or compressed. It is measured once, when this is made.
#[derive(Debug)]
pub(crate) struct Outgoing<'a, M> {
    form: OutgoingForm<'a, M>,
    size: Size,
}

#[derive(Debug)]
enum OutgoingForm<'a, M> {
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
            .map_or_else(|| Self::plain(message), Self::compressed)
    }

    /// `message` as it is.
    #[inline]
    pub(crate) fn plain(message: &'a M) -> Self {
        Self {
            form: OutgoingForm::Plain(message),
            size: message.size(),
        }
    }

    /// A message that is compressed.
    pub(crate) fn compressed(compressed: Encoded) -> Self {
        Self {
            size: compressed.size(),
            form: OutgoingForm::Compressed(compressed),
        }
    }
}

/// True if `message` goes as it is, though `compression` is in use: it is short.
#[inline]
pub(crate) fn stays_plain<M: Message>(message: &M, compression: Option<Compression>) -> bool {
    compression.is_none() || message.encoded_len() < Compression::MIN_LEN
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
    #[inline]
    fn size(&self) -> Size {
        self.size
    }

    #[inline]
    fn put(&self, out: &mut impl BufMut) {
        match &self.form {
            OutgoingForm::Plain(message) => message.put(out),
            OutgoingForm::Compressed(compressed) => compressed.put(out),
        }
    }
}
