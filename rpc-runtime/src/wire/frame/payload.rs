//! Payload: what a frame carries for a user, encoded in place or ready to travel.

use std::fmt;

use bytes::{BufMut, Bytes};
use prost::Message;

use super::Output;

/// A message of a user on its way out: one that is encoded in place, or one that is [`Encoded`] already.
pub(crate) trait Payload {
    /// How long it is, before and after compression.
    fn size(&self) -> Size;

    /// Appends what travels: as many bytes as [`Size::packed`] says.
    fn put(&self, out: &mut Output);
}

/// How long a message is, and how it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// How long it is before compression: what limits and credit count.
    pub(crate) len: usize,
    /// How many bytes travel.
    pub(crate) packed: usize,
    /// How they are compressed; 0 is not at all.
    pub(crate) encoding: u32,
}

impl Size {
    /// The size of a message that is not compressed.
    pub(crate) const fn plain(len: usize) -> Self {
        Self {
            len,
            packed: len,
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
    fn put(&self, out: &mut Output) {
        // Not `encode`: that would measure the message a second time.
        self.encode_raw(out);
    }
}

/// A message as it travels: encoded, and perhaps compressed.
///
/// `Debug` shows its lengths, never its bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    bytes: Bytes,
    /// 0 is not compressed.
    encoding: u32,
    /// Before compression.
    len: u64,
}

impl Encoded {
    /// A message that is not compressed.
    pub(crate) fn plain(bytes: Bytes) -> Self {
        Self {
            encoding: 0,
            len: bytes.len() as u64,
            bytes,
        }
    }

    /// A message of `len` bytes that is compressed into `bytes`; or one that is not, if `encoding` is 0.
    pub(crate) fn new(bytes: Bytes, encoding: u32, len: u64) -> Self {
        if encoding == 0 {
            Self::plain(bytes)
        } else {
            Self { bytes, encoding, len }
        }
    }

    /// How long the message is before compression: what limits and credit count.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// How it is compressed; 0 is not at all.
    pub(crate) fn encoding(&self) -> u32 {
        self.encoding
    }

    /// What has travelled.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What has travelled.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The same message, without the read buffer that its bytes may be a slice of.
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
            // What is sent was in memory before it was compressed.
            len: self.len as usize,
            packed: self.bytes.len(),
            encoding: self.encoding,
        }
    }

    fn put(&self, out: &mut Output) {
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
