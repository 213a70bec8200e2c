//! Unread rows: packed frames of a stream that its reader was given and has not read yet. They are decoded here, one message at a time.

use std::collections::VecDeque;

use prost::Message;

use super::{
    decode::{DecodeFailure, decode, decode_part},
    growth::Budget,
};
use crate::wire::frame::{
    Encoded,
    row::{Row, longest},
};

/// What a reader was given of a stream, and has not looked at yet.
#[derive(Debug)]
pub(crate) struct Unread {
    /// The rest of the row that it has begun.
    row: Row,
    /// Messages and rows behind that.
    ahead: VecDeque<Encoded>,
    max_message: u64,
    /// Limits each message.
    budget: Budget,
}

impl Unread {
    /// Nothing of a stream whose messages have at most `max_message` bytes, and `budget` once they are decoded.
    pub(crate) fn new(max_message: u64, budget: Budget) -> Self {
        Self {
            row: Row::default(),
            ahead: VecDeque::new(),
            max_message,
            budget,
        }
    }

    /// Where messages go that are given ahead.
    pub(crate) fn ahead(&mut self) -> &mut VecDeque<Encoded> {
        &mut self.ahead
    }

    /// Drops all that was not read.
    pub(crate) fn clear(&mut self) {
        self.row = Row::default();
        self.ahead = VecDeque::new();
    }

    /// Decodes the next message; none if all that was given is read.
    #[inline]
    pub(crate) fn next<M: Message + Default>(&mut self) -> Option<Result<M, DecodeFailure>> {
        if !self.row.is_empty() {
            return Some(self.next_of_row());
        }
        let item = self.ahead.pop_front()?;
        Some(self.begin(item))
    }

    /// Decodes `item`, which stands before all that is ahead: a message, or the first one of a row.
    #[inline]
    pub(crate) fn begin<M: Message + Default>(&mut self, item: Encoded) -> Result<M, DecodeFailure> {
        if !item.is_row() {
            return decode(item, self.budget);
        }
        self.row = match item.encoding() {
            // The connection has checked its messages.
            0 => Row::new(item.into_bytes()),
            _ => decompress(item, self.max_message)?,
        };
        self.next_of_row()
    }

    /// Gives the next messages to `read` as they came, one after the other, as long as it returns true. It stops before one that is
    /// compressed or malformed, and when all that was given is read.
    pub(crate) fn read_while(&mut self, mut read: impl FnMut(&[u8]) -> bool) {
        loop {
            while let Ok((message, end)) = self.row.first() {
                let goes_on = read(message);
                self.row.drop_to(end);
                if !goes_on {
                    return;
                }
            }
            let is_readable = self.ahead.front().is_some_and(|item| item.encoding() == 0);
            if !self.row.is_empty() || !is_readable {
                return;
            }
            let Some(item) = self.ahead.pop_front() else {
                return;
            };
            if item.is_row() {
                // The connection has checked its messages.
                self.row = Row::new(item.into_bytes());
            } else if !read(item.bytes()) {
                return;
            }
        }
    }

    #[inline]
    fn next_of_row<M: Message + Default>(&mut self) -> Result<M, DecodeFailure> {
        let (message, end) = self.row.first().map_err(DecodeFailure::Row)?;
        let message = decode_part(message, self.budget);
        self.row.drop_to(end);
        message
    }
}

/// Decompresses a row, and checks its messages.
#[cold]
fn decompress(row: Encoded, max: u64) -> Result<Row, DecodeFailure> {
    let bytes = row.decompress().map_err(DecodeFailure::Compressed)?;
    let len = longest(&bytes).map_err(DecodeFailure::Row)? as u64;
    if len > max {
        return Err(DecodeFailure::TooLong { len, max });
    }
    Ok(Row::new(bytes))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::frame::row::row as packed;

    const ANY: Budget = Budget::new(None, 0);

    fn row(messages: &[&str]) -> Vec<u8> {
        let messages = messages.iter().map(|&message| message.to_owned().encode_to_vec());
        packed(&messages.collect::<Vec<_>>())
    }

    fn item(bytes: Vec<u8>) -> Encoded {
        Encoded::plain(bytes.into())
    }

    /// All that is read from now on.
    fn rest(unread: &mut Unread) -> Vec<String> {
        std::iter::from_fn(|| unread.next()).map(Result::unwrap).collect()
    }

    #[test]
    fn messages_and_rows_are_read_in_order() {
        let mut unread = Unread::new(100, ANY);
        assert!(unread.next::<String>().is_none());
        unread.ahead().push_back(item("three".to_owned().encode_to_vec()));
        unread
            .ahead()
            .push_back(item(row(&["four", "", "six"])).into_row());
        unread.ahead().push_back(item(row(&["seven"])).into_row());
        let first = item(row(&["one", "two"])).into_row();
        assert_eq!(unread.begin::<String>(first).unwrap(), "one");
        assert_eq!(rest(&mut unread), ["two", "three", "four", "", "six", "seven"]);
        assert_eq!(
            unread
                .begin::<String>(item("plain".to_owned().encode_to_vec()))
                .unwrap(),
            "plain"
        );
        assert!(unread.next::<String>().is_none());
    }

    #[test]
    fn a_row_that_is_read_keeps_no_buffer_alive() {
        let mut unread = Unread::new(100, ANY);
        let bytes = Bytes::from(row(&["one", "two"]));
        let first = Encoded::plain(bytes.clone()).into_row();
        unread.begin::<String>(first).unwrap();
        assert!(!bytes.is_unique());
        unread.next::<String>().unwrap().unwrap();
        assert!(bytes.is_unique());
    }

    #[test]
    fn messages_are_read_as_they_came_as_long_as_they_are_wanted() {
        let mut unread = Unread::new(100, ANY);
        unread.ahead().push_back(item(b"one".to_vec()));
        unread
            .ahead()
            .push_back(item(packed(&["two", "", "four"])).into_row());
        unread.ahead().push_back(item(packed(&["five"])).into_row());
        let mut read = Vec::new();
        unread.read_while(|message| {
            read.push(message.to_vec());
            message != b"four"
        });
        assert_eq!(read, [&b"one"[..], b"two", b"", b"four"]);
        unread.read_while(|message| {
            read.push(message.to_vec());
            true
        });
        assert_eq!(read[4..], [b"five"]);
        unread.read_while(|_| unreachable!("all is read"));
    }

    #[test]
    fn a_message_that_cannot_be_read_as_it_came_is_left() {
        let mut unread = Unread::new(100, ANY);
        let mut bytes = packed(&["fine"]);
        bytes.push(0x7f);
        unread.ahead().push_back(item(bytes).into_row());
        let mut count = 0;
        unread.read_while(|_| {
            count += 1;
            true
        });
        assert_eq!(count, 1);
        assert!(unread.next::<String>().unwrap().is_err());
    }

    #[test]
    fn a_malformed_message_in_a_row_fails_behind_those_before_it() {
        let mut unread = Unread::new(100, ANY);
        let mut bytes = row(&["fine"]);
        bytes.extend_from_slice(b"\x02\x0a\x7f");
        assert_eq!(unread.begin::<String>(item(bytes).into_row()).unwrap(), "fine");
        let failure = unread.next::<String>().unwrap().unwrap_err();
        assert!(matches!(failure, DecodeFailure::Malformed(_)), "{failure:?}");
    }

    #[cfg(feature = "lz4")]
    mod compressed {
        use super::*;
        use crate::Compression;

        /// A compressed row of messages that take `bytes`, announced with `len` bytes.
        fn compressed(bytes: &[u8], len: usize) -> Encoded {
            let compressed = Compression::Lz4.compress(bytes).expect("it becomes shorter");
            Encoded::new(compressed.into(), Compression::Lz4.encoding(), len as u64).into_row()
        }

        #[test]
        fn a_compressed_row_is_decompressed_once_and_its_messages_are_read() {
            let bytes = row(&["the same again"; 100]);
            let mut unread = Unread::new(100, ANY);
            let first: String = unread.begin(compressed(&bytes, bytes.len())).unwrap();
            assert_eq!(first, "the same again");
            assert_eq!(rest(&mut unread), ["the same again"; 99]);
        }

        #[test]
        fn a_compressed_row_that_lies_gives_no_message() {
            let good = row(&["the same again"; 100]);
            let torn = &good[..good.len() - 1];
            let long = row(&["short", &"long ".repeat(30), "short"]);
            let cases: [(&[u8], usize, &str); 4] = [
                (torn, torn.len(), "lengths in a packed frame"),
                (&good, good.len() - 1, "message announced as"),
                (&good, good.len() + 1, "message announced as"),
                (&long, long.len(), "message of 153 bytes exceeds limit of 100"),
            ];
            for (bytes, len, text) in cases {
                let mut unread = Unread::new(100, ANY);
                let failure = unread.begin::<String>(compressed(bytes, len)).unwrap_err();
                assert!(failure.to_string().contains(text), "{failure}");
                assert!(unread.next::<String>().is_none());
            }
        }
    }
}
