//! Decode: from the bytes of a message to the message, within the limits of its receiver.

use std::fmt;

use bytes::{Buf, Bytes};
use prost::{DecodeError, Message};

use super::growth::Budget;
use crate::wire::{
    compression::DecompressError,
    frame::{Encoded, Output, row::BadRow},
};

/// Why a message cannot be decoded.
#[derive(Debug)]
pub(crate) enum DecodeFailure {
    /// It cannot be decompressed.
    Compressed(DecompressError),
    /// It came in a row whose lengths do not match its payload.
    Row(BadRow),
    /// It is longer than this side takes.
    TooLong {
        /// How long it is.
        len: u64,
        /// How long it may be.
        max: u64,
    },
    /// It would take more memory than its budget allows.
    TooLarge(Budget),
    /// Its bytes are no message of the type, or messages are nested too deep in it.
    Malformed(DecodeError),
}

/// Decodes a message that arrived: decompresses it, checks its budget, and parses it.
///
/// The fields of a short message are copied, because a slice would keep the whole read buffer alive. A long message has a
/// buffer of its own, so its `bytes` fields are slices of that.
#[inline(always)]
pub(crate) fn decode<M: Message + Default>(payload: Encoded, budget: Budget) -> Result<M, DecodeFailure> {
    let is_plain = payload.encoding() == 0 && payload.len() < Output::BY_REFERENCE as u64;
    if is_plain && budget.admits(payload.bytes()) {
        M::decode(CopiedFields(payload.bytes())).map_err(DecodeFailure::Malformed)
    } else {
        decode_rare(payload, budget)
    }
}

/// Decodes a message of a row, whose fields are copied.
#[inline]
pub(crate) fn decode_part<M: Message + Default>(message: &[u8], budget: Budget) -> Result<M, DecodeFailure> {
    if !budget.admits(message) {
        return Err(DecodeFailure::TooLarge(budget));
    }
    // Not `decode`: that would move the message once more.
    let mut decoded = M::default();
    match decoded.merge(CopiedFields(message)) {
        Ok(()) => Ok(decoded),
        Err(error) => Err(DecodeFailure::Malformed(error)),
    }
}

/// Decodes a message that is compressed, long or too large.
#[cold]
fn decode_rare<M: Message + Default>(payload: Encoded, budget: Budget) -> Result<M, DecodeFailure> {
    let payload = payload.decompress().map_err(DecodeFailure::Compressed)?;
    if !budget.admits(&payload) {
        return Err(DecodeFailure::TooLarge(budget));
    }
    let message = if payload.len() < Output::BY_REFERENCE {
        M::decode(CopiedFields(&payload))
    } else {
        M::decode(payload)
    };
    message.map_err(DecodeFailure::Malformed)
}

/// The bytes of a message whose fields are copied.
///
/// A slice is one, too, but copies a `bytes` field by way of a buffer that can grow, which costs as much as the rest of a short
/// message.
struct CopiedFields<'a>(&'a [u8]);

impl Buf for CopiedFields<'_> {
    #[inline]
    fn remaining(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        self.0
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.0 = &self.0[count..];
    }

    #[inline]
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let (field, rest) = self.0.split_at(len);
        self.0 = rest;
        Bytes::copy_from_slice(field)
    }
}

/// Says what is wrong with the bytes; a caller that can name the message says more of one that is too large.
impl fmt::Display for DecodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compressed(error) => error.fmt(f),
            Self::Row(error) => error.fmt(f),
            Self::TooLong { len, max } => write!(f, "message of {len} bytes exceeds limit of {max}"),
            Self::TooLarge(budget) => f.write_str(&budget.excess("the message")),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(message: &impl Message) -> Encoded {
        Encoded::plain(Bytes::from(message.encode_to_vec()))
    }

    #[test]
    fn short_and_long_messages_are_decoded() {
        for len in [
            0,
            1,
            Output::BY_REFERENCE - 10,
            Output::BY_REFERENCE,
            3 * Output::BY_REFERENCE,
        ] {
            let sent = Bytes::from(vec![7; len]);
            let read: Bytes = decode(plain(&sent), Budget::new(None, 0)).unwrap();
            assert_eq!(read, sent);
        }
    }

    #[test]
    fn the_fields_of_a_short_message_are_copied_and_those_of_a_long_one_are_slices() {
        for (len, is_slice) in [(100, false), (2 * Output::BY_REFERENCE, true)] {
            let payload = plain(&Bytes::from(vec![7; len]));
            let buffer = payload.bytes().clone();
            let read: Bytes = decode(payload, Budget::new(None, 0)).unwrap();
            assert_eq!(buffer.as_ptr_range().contains(&read.as_ptr()), is_slice, "{len}");
        }
    }

    #[test]
    fn a_failure_says_what_is_wrong() {
        let malformed = Encoded::plain(Bytes::from_static(&[0x0a, 0xff]));
        let failure = decode::<String>(malformed, Budget::new(None, 0)).unwrap_err();
        assert!(matches!(failure, DecodeFailure::Malformed(_)), "{failure:?}");
    }
}
