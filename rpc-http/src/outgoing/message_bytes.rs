//! MessageBytes: a message behind its five bytes, as HTTP/2 writes it.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::grpc::{encoding::Encoding, prefixed::PREFIX};

/// A message behind its five bytes, or a part of that. The message is not copied.
#[derive(Debug, Default)]
pub(super) struct MessageBytes {
    prefix: [u8; PREFIX],
    /// Which bytes of the prefix are left.
    start: usize,
    end: usize,
    message: Bytes,
}

impl MessageBytes {
    /// Makes one of `message`, which is compressed if `encoding` makes it shorter.
    pub(super) fn new(message: Bytes, encoding: Encoding) -> Self {
        let (flag, message) = match encoding.compress(&message) {
            Some(compressed) => (1, compressed),
            None => (0, message),
        };
        let [a, b, c, d] = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        Self {
            prefix: [flag, a, b, c, d],
            start: 0,
            end: PREFIX,
            message,
        }
    }

    /// Splits off the first `len` bytes; there must be as many.
    pub(super) fn split_to(&mut self, len: usize) -> Self {
        let end = self.end.min(self.start + len);
        let first = Self {
            prefix: self.prefix,
            start: self.start,
            end,
            message: self.message.split_to(len - (end - self.start)),
        };
        self.start = end;
        first
    }

    fn prefix(&self) -> &[u8] {
        &self.prefix[self.start..self.end]
    }
}

impl Buf for MessageBytes {
    fn remaining(&self) -> usize {
        self.prefix().len() + self.message.len()
    }

    fn chunk(&self) -> &[u8] {
        match self.prefix() {
            [] => &self.message,
            prefix => prefix,
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = [self.prefix(), &self.message[..]];
        let chunks = chunks.into_iter().filter(|chunk| !chunk.is_empty());
        let pairs = slices.iter_mut().zip(chunks);
        pairs.map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, count: usize) {
        let of_prefix = count.min(self.prefix().len());
        self.start += of_prefix;
        self.message.advance(count - of_prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> MessageBytes {
        MessageBytes::new(Bytes::from_static(b"abc"), Encoding::Identity)
    }

    #[test]
    fn a_message_can_be_split_anywhere() {
        let whole = [0, 0, 0, 0, 3, b'a', b'b', b'c'];
        for at in 0..=whole.len() {
            let mut rest = message();
            let mut first = rest.split_to(at);
            assert_eq!((first.remaining(), rest.remaining()), (at, whole.len() - at));
            assert_eq!(first.copy_to_bytes(at), whole[..at]);
            assert_eq!(rest.copy_to_bytes(whole.len() - at), whole[at..]);
        }
    }

    #[test]
    fn its_slices_are_what_is_left() {
        for (advanced, expected) in [
            (0, &[&[0, 0, 0, 0, 3][..], b"abc"][..]),
            (4, &[&[3], b"abc"]),
            (5, &[b"abc"]),
            (7, &[b"c"]),
            (8, &[]),
        ] {
            let mut message = message();
            message.advance(advanced);
            let mut slices = [IoSlice::new(&[]); 3];
            let count = message.chunks_vectored(&mut slices);
            let slices: Vec<&[u8]> = slices[..count].iter().map(|slice| &**slice).collect();
            assert_eq!(slices, expected);
            assert_eq!(message.chunk(), expected.first().copied().unwrap_or_default());
        }
        let mut one = [IoSlice::new(&[]); 1];
        assert_eq!(message().chunks_vectored(&mut one), 1);
    }
}
