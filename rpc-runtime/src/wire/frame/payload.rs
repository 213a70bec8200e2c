//! Payload: a user's message in a frame, encoded in place or encoded already.

use std::fmt;

use bytes::{BufMut, Bytes};
use prost::Message;

use super::Output;

/// A user's message to send: one that is encoded in place, or one that is [`Encoded`] already.
pub(crate) trait Payload {
    /// The length of the message, before and after compression.
    fn size(&self) -> Size;

    /// Appends the bytes of the message as they travel: [`Size::sent`] bytes.
    fn put(&self, out: &mut impl BufMut);
}

/// The length of a message, before and after compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Length before compression, in bytes. Limits and credit count this length.
    pub(crate) len: usize,
    /// Length on the wire, in bytes.
    pub(crate) sent: usize,
    /// The compression; 0 means none.
    pub(crate) encoding: u32,
}

impl Size {
    /// The size of a message that is not compressed.
    pub(crate) const fn plain(len: usize) -> Self {
        Self {
            len,
            sent: len,
            encoding: 0,
        }
    }
}

impl<M: Message> Payload for M {
    #[inline]
    fn size(&self) -> Size {
        Size::plain(self.encoded_len())
    }

    #[inline]
    fn put(&self, out: &mut impl BufMut) {
        // Not `encode`: that would measure the message a second time.
        self.encode_raw(out);
    }
}

/// A message that is encoded already, and not compressed. Its bytes are copied.
#[derive(Clone, Copy)]
pub(crate) struct EncodedSlice<'a>(pub(crate) &'a [u8]);

impl Payload for EncodedSlice<'_> {
    #[inline]
    fn size(&self) -> Size {
        Size::plain(self.0.len())
    }

    #[inline]
    fn put(&self, out: &mut impl BufMut) {
        out.put_slice(self.0);
    }
}

/// A message as it travels: encoded, and perhaps compressed. Of a packed frame, it is the whole row of messages.
///
/// `Debug` shows its lengths, never its bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    bytes: Bytes,
    /// 0 means not compressed.
    encoding: u32,
    /// Length before compression, in bytes.
    len: u64,
    is_row: bool,
}

impl Encoded {
    /// A message that is not compressed.
    pub(crate) fn plain(bytes: Bytes) -> Self {
        Self {
            encoding: 0,
            len: bytes.len() as u64,
            bytes,
            is_row: false,
        }
    }

    /// Wraps a message of `len` bytes that is compressed into `bytes`. If `encoding` is 0, `bytes` is not compressed.
    pub(crate) fn new(bytes: Bytes, encoding: u32, len: u64) -> Self {
        if encoding == 0 {
            Self::plain(bytes)
        } else {
            Self {
                bytes,
                encoding,
                len,
                is_row: false,
            }
        }
    }

    /// Marks it as a row of messages.
    pub(crate) fn into_row(self) -> Self {
        Self { is_row: true, ..self }
    }

    /// True if it is a row of messages, and not one message.
    #[inline]
    pub(crate) fn is_row(&self) -> bool {
        self.is_row
    }

    /// Length before compression, in bytes. Limits and credit count this length.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The compression; 0 means none.
    pub(crate) fn encoding(&self) -> u32 {
        self.encoding
    }

    /// The bytes that travelled.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The message, or all messages of the row, which is not compressed.
    #[cfg(test)]
    pub(crate) fn messages(self) -> Vec<Bytes> {
        assert_eq!(self.encoding, 0, "it is not compressed");
        if !self.is_row {
            return vec![self.bytes];
        }
        let mut row = super::row::Row::new(self.bytes);
        std::iter::from_fn(|| row.take().expect("the row is whole")).collect()
    }

    /// The bytes that travelled.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Copies a short message, so that it no longer keeps the read buffer alive that its bytes may be a slice of.
    pub(crate) fn compact(self) -> Self {
        if self.bytes.len() < Output::BY_REFERENCE {
            Self {
                bytes: Bytes::copy_from_slice(&self.bytes),
                ..self
            }
        } else {
            self
        }
    }
}

impl Payload for Encoded {
    fn size(&self) -> Size {
        Size {
            // No overflow: the message was in memory before it was compressed.
            len: self.len as usize,
            sent: self.bytes.len(),
            encoding: self.encoding,
        }
    }

    fn put(&self, out: &mut impl BufMut) {
        out.put(self.bytes.clone());
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.encoding {
            0 => write!(f, "[{} bytes]", self.len),
            encoding => write!(
                f,
                "[{} bytes, {} in encoding {encoding}]",
                self.len,
                self.bytes.len()
            ),
        }
    }
}
