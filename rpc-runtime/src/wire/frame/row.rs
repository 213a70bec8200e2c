//! Row: several messages in one payload, each behind its length.
//!
//! The payload of a frame with [`Flags::PACKED`](super::Flags::PACKED) is a row.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};

use super::Output;

/// The longest row that a peer may send, in bytes before compression. A frame within the floor can carry it.
pub(crate) const MAX_ROW: usize = 64 * 1024;

/// The messages of a row, one by one.
///
/// `Debug` shows its length, never its bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Row(Bytes);

impl Row {
    /// The messages in `bytes`.
    pub(crate) const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Copies a short row, so that it no longer keeps the read buffer alive that its bytes may be a slice of.
    pub(crate) fn compact(&mut self) {
        if self.0.len() < Output::BY_REFERENCE {
            self.0 = Bytes::copy_from_slice(&self.0);
        }
    }

    /// True if no message is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next message, which is a slice of the row; none at the end.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, BadRow> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (len, prefix) = read_len(&self.0).ok_or(BadRow)?;
        let end = prefix.checked_add(len).filter(|&end| end <= self.0.len());
        let end = end.ok_or(BadRow)?;
        let message = self.0.slice(prefix..end);
        self.0.advance(end);
        Ok(Some(message))
    }

    /// Gives the next message to `read`, without a copy, and returns its answer; none at the end.
    #[inline]
    pub(crate) fn read<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, BadRow> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (message, end) = self.first()?;
        let answer = read(message);
        self.0.advance(end);
        Ok(Some(answer))
    }

    /// The next message, and where it ends in the row. Fails at the end.
    #[inline]
    pub(crate) fn first(&self) -> Result<(&[u8], usize), BadRow> {
        let (len, prefix) = read_len(&self.0).ok_or(BadRow)?;
        let end = prefix + len;
        let message = self.0.get(prefix..end).ok_or(BadRow)?;
        Ok((message, end))
    }

    /// Drops everything before `end`. If nothing is left, no buffer is kept alive.
    #[inline]
    pub(crate) fn drop_to(&mut self, end: usize) {
        if end < self.0.len() {
            self.0.advance(end);
        } else {
            self.0 = Bytes::new();
        }
    }

    /// Counts the messages, without a copy. Fails unless the row is whole and has at least one.
    pub(crate) fn count(&self) -> Result<usize, BadRow> {
        let (row, mut at, mut count) = (&self.0[..], 0, 0);
        while let Some(&byte) = row.get(at) {
            let (len, prefix) = match byte {
                0..0x80 => (usize::from(byte), 1),
                _ => read_longer_len(&row[at..]).ok_or(BadRow)?,
            };
            at += prefix + len;
            count += 1;
        }
        if count == 0 || at > row.len() {
            Err(BadRow)
        } else {
            Ok(count)
        }
    }
}

/// The length of the longest message of a row. Fails unless the row is whole and has at least one.
pub(crate) fn longest(row: &[u8]) -> Result<usize, BadRow> {
    let (mut rest, mut longest) = (row, 0);
    if rest.is_empty() {
        return Err(BadRow);
    }
    while !rest.is_empty() {
        let (len, prefix) = read_len(rest).ok_or(BadRow)?;
        rest = rest[prefix..].get(len..).ok_or(BadRow)?;
        longest = longest.max(len);
    }
    Ok(longest)
}

/// Appends the number that stands before a message of `len` bytes in a row.
#[inline]
pub(crate) fn put_len(out: &mut impl BufMut, len: usize) {
    match len {
        0..0x80 => out.put_u8(len as u8),
        _ => prost::encoding::encode_varint(len as u64, out),
    }
}

/// The number of bytes that a message of `len` bytes takes in a row.
#[inline]
pub(crate) fn packed_len(len: usize) -> usize {
    prost::encoding::encoded_len_varint(len as u64) + len
}

/// The bytes of a row with these messages.
#[cfg(test)]
pub(crate) fn row<M: AsRef<[u8]>>(messages: &[M]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        put_len(&mut bytes, message.as_ref().len());
        bytes.extend_from_slice(message.as_ref());
    }
    bytes
}

/// Reads the number at the beginning of `bytes`, and how many bytes it takes.
#[inline]
fn read_len(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.first() {
        Some(&byte) if byte & 0x80 == 0 => Some((byte.into(), 1)),
        _ => read_longer_len(bytes),
    }
}

/// As [`read_len`], for a number of several bytes. A row is at most [`MAX_ROW`] long, so three are enough.
fn read_longer_len(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    for (index, &byte) in bytes.iter().take(3).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((len, index + 1));
        }
    }
    None
}

/// A row whose numbers do not match its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRow;

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lengths in a packed frame do not match its payload")
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[row of {} bytes]", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let long = [7; 300];
        let messages: [&[u8]; 4] = [b"dog", b"", &long, b"x"];
        let bytes = row(&messages);
        assert_eq!(
            bytes.len(),
            messages
                .iter()
                .map(|message| packed_len(message.len()))
                .sum::<usize>()
        );
        assert_eq!(longest(&bytes), Ok(300));
        let mut row = Row::new(bytes.into());
        assert_eq!(row.count(), Ok(4));
        let mut again = row.clone();
        for message in messages {
            assert_eq!(again.read(<[u8]>::to_vec), Ok(Some(message.to_vec())));
        }
        assert_eq!(again.read(<[u8]>::len), Ok(None));
        for message in messages {
            assert_eq!(row.take(), Ok(Some(Bytes::copy_from_slice(message))));
        }
        assert!(row.is_empty());
        assert_eq!(row.take(), Ok(None));
    }

    #[test]
    fn a_row_that_lies_about_its_lengths_is_refused() {
        for bytes in [
            &b""[..],
            b"\x04dog",
            b"\x03dog\x01",
            b"\x80",
            b"\x80\x80\x80\x00",
            b"\x83\x80\x04dog",
        ] {
            let row = Row::new(Bytes::copy_from_slice(bytes));
            assert_eq!(
                (row.count(), longest(bytes)),
                (Err(BadRow), Err(BadRow)),
                "{bytes:?}"
            );
        }
        let mut row = Row::new(Bytes::from_static(b"\x03dog\x02x"));
        assert_eq!(row.take(), Ok(Some(Bytes::from_static(b"dog"))));
        assert_eq!(row.take(), Err(BadRow));
        assert_eq!(row.read(<[u8]>::len), Err(BadRow));
    }
}
