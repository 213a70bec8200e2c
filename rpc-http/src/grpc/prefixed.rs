//! Prefixed: messages behind five bytes, as gRPC writes them into a body.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rpc_runtime::{Code, Status};

use super::encoding::Encoding;
use crate::longest_buffer::LONGEST;

/// The bytes of a body that are not read, as messages behind five bytes: whether it is compressed, and its length.
#[derive(Debug)]
pub(crate) struct Prefixed {
    unread: BytesMut,
    encoding: Encoding,
    max: usize,
}

impl Prefixed {
    /// Each message may have `max` bytes, before and after decompression, and at most [`LONGEST`].
    pub(crate) fn new(encoding: Encoding, max: usize) -> Self {
        Self {
            unread: BytesMut::new(),
            encoding,
            max: max.min(LONGEST),
        }
    }

    /// How many bytes wait for the rest of their message, or to be read.
    pub(crate) fn len(&self) -> usize {
        self.unread.len()
    }

    /// Adds a chunk of the body. Returns its message if it has one, whole and alone: that is not copied.
    ///
    /// # Errors
    ///
    /// As [`Prefixed::take`].
    pub(crate) fn push(&mut self, chunk: &Bytes) -> Result<Option<Bytes>, Status> {
        if self.unread.is_empty() {
            if let Some((is_compressed, len)) = self.prefix(chunk)? {
                if chunk.len() == PREFIX + len {
                    return self.decompress(is_compressed, chunk.slice(PREFIX..)).map(Some);
                }
                // So that the buffer of a message does not grow step by step. What is only announced may have little.
                self.unread.reserve((PREFIX + len).min(RESERVED));
            }
        }
        self.unread.extend_from_slice(chunk);
        Ok(None)
    }

    /// Takes the next message; none if it is not whole.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED if it is too long, INTERNAL if it is malformed.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, Status> {
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

    /// Gives the messages that are whole and not compressed to `take`. If that returns false, the last one that it was given stays. Each costs
    /// less than by [`Prefixed::take`], which has to come next: it also finds what is malformed.
    pub(crate) fn read_arrived(&mut self, take: impl FnOnce(&mut Arrived<'_>) -> bool) {
        let mut arrived = Arrived {
            unread: &self.unread,
            max: self.max,
            last: 0,
            end: 0,
        };
        let read = match take(&mut arrived) {
            true => arrived.end,
            false => arrived.last,
        };
        self.unread.advance(read);
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

/// The messages at the beginning of what is unread that are whole, not compressed and not too long.
pub(crate) struct Arrived<'a> {
    unread: &'a [u8],
    max: usize,
    /// Where the last one that was given begins, and where it ends.
    last: usize,
    end: usize,
}

impl<'a> Iterator for Arrived<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (prefix, rest) = self.unread[self.end..].split_first_chunk::<PREFIX>()?;
        let [0, len @ ..] = *prefix else {
            return None;
        };
        let len = usize::try_from(u32::from_be_bytes(len)).ok()?;
        let message = rest.get(..len).filter(|_| len <= self.max)?;
        (self.last, self.end) = (self.end, self.end + PREFIX + len);
        Some(message)
    }
}

/// Returns a message behind its five bytes, compressed if `encoding` makes it shorter.
pub(crate) fn prefixed(message: &[u8], encoding: Encoding) -> Bytes {
    let mut bytes = BytesMut::new();
    put_prefixed(message, encoding, &mut bytes);
    bytes.freeze()
}

/// Appends a message behind its five bytes to `bytes`, compressed if `encoding` makes it shorter.
pub(crate) fn put_prefixed(message: &[u8], encoding: Encoding, bytes: &mut BytesMut) {
    let compressed = encoding.compress(message);
    let (flag, message) = match &compressed {
        Some(compressed) => (1, &compressed[..]),
        None => (0, message),
    };
    bytes.reserve(PREFIX + message.len());
    bytes.put_slice(&prefix(flag, message.len()));
    bytes.put_slice(message);
}

/// The five bytes before a message of `len` bytes that is not compressed.
pub(crate) fn plain_prefix(len: usize) -> [u8; PREFIX] {
    prefix(0, len)
}

fn prefix(flag: u8, len: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [flag, a, b, c, d]
}

/// The status of a message that is longer than `max` bytes.
pub(crate) fn too_long(len: u64, max: usize) -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!("message of {len} bytes or more exceeds limit of {max}: the reader's Limits::max_message"),
    )
}

/// How much is reserved at most for a message of which only the beginning is here: what its caller may send at once. The OS gives memory
/// only to what has come.
const RESERVED: usize = 256 << 10;
/// How many bytes stand before each message.
pub(crate) const PREFIX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_at_most_as_long_as_a_buffer() {
        let mut unread = Prefixed::new(Encoding::Identity, usize::MAX);
        assert_eq!(unread.max, LONGEST);
        // Nothing overflows for the longest length that can be announced. On a system of 64 bits it is not too long.
        let announced = unread.push(&Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 7]));
        assert_eq!(announced.is_ok(), cfg!(target_pointer_width = "64"));
    }

    #[test]
    fn messages_that_have_arrived_are_given_until_one_needs_more() {
        // Behind three messages: one that is compressed, one that is too long, one that is malformed, and one that is cut.
        for (end, taken) in [
            (&[1, 0, 0, 0, 0][..], Err(Code::Internal)),
            (&[0, 0, 0, 0, 3, 7, 7, 7], Err(Code::ResourceExhausted)),
            (&[2, 0, 0, 0, 0], Err(Code::Internal)),
            (&[0, 0, 0, 0, 2, 7], Ok(None)),
            (&[0, 0, 0], Ok(None)),
        ] {
            let mut unread = Prefixed::new(Encoding::Identity, 2);
            let body = [&[0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0][..], end].concat();
            assert_eq!(unread.push(&body.into()).unwrap(), None);
            let mut given = Vec::new();
            // The second one is refused at first, and comes again.
            for (may_have, has) in [(1, 1), (9, 3)] {
                unread.read_arrived(|arrived| {
                    arrived.all(|message| {
                        let takes = given.len() < may_have;
                        if takes {
                            given.push(message.to_vec());
                        }
                        takes
                    })
                });
                assert_eq!(given.len(), has, "{end:?}");
            }
            assert_eq!(given, [vec![1], vec![2, 2], vec![]]);
            assert_eq!(unread.len(), end.len());
            assert_eq!(unread.take().map_err(|status| status.code()), taken, "{end:?}");
        }
    }
}
