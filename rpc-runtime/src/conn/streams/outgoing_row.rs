//! Outgoing row: messages of a stream that are ready at once, gathered to travel in one frame.

use prost::Message;

use crate::{
    Compression,
    conn::tuning::{PACK_UNTIL, PACKABLE},
    wire::{
        compression::pack_bytes,
        frame::{
            Encoded, Output, Payload, Size,
            row::{packed_len, put_len},
        },
    },
};

/// Messages of a stream that are ready at once. They travel in one frame, and one alone travels as it is.
///
/// A task fills it outside of the connection's lock, and gives it to [`Connection::poll_data`](crate::conn::Connection::poll_data).
#[derive(Debug)]
pub(crate) struct OutgoingRow {
    bytes: Vec<u8>,
    messages: usize,
    /// The number of bytes before the first message.
    first_prefix: usize,
    /// Set if compression makes it shorter.
    packed: Option<Encoded>,
    /// The longest message that the peer takes.
    max_message: u64,
}

impl OutgoingRow {
    /// A row without a message; the peer takes none longer than `max_message`.
    pub(crate) const fn new(max_message: u64) -> Self {
        Self {
            bytes: Vec::new(),
            messages: 0,
            first_prefix: 0,
            packed: None,
            max_message,
        }
    }

    /// True if it has no message.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// True if a message of `len` bytes has room.
    #[inline]
    pub(crate) fn takes(&self, len: usize) -> bool {
        self.bytes.len() + packed_len(len) <= PACK_UNTIL
    }

    /// True if a message of `len` bytes has room in an empty row: otherwise it travels alone.
    #[inline]
    pub(crate) fn ever_takes(&self, len: usize) -> bool {
        len <= PACKABLE && len as u64 <= self.max_message
    }

    /// Adds a message of `len` bytes, which has room. If the message panics, the row is as it was.
    #[inline]
    pub(crate) fn push<M: Message>(&mut self, message: &M, len: usize) {
        let mut unfinished = Unfinished {
            start: self.bytes.len(),
            bytes: &mut self.bytes,
            is_whole: false,
        };
        put_len(unfinished.bytes, len);
        let prefix = unfinished.bytes.len() - unfinished.start;
        message.encode_raw(unfinished.bytes);
        let written = unfinished.bytes.len() - unfinished.start - prefix;
        assert_eq!(written, len, "encoded_len of the message is wrong");
        unfinished.is_whole = true;
        drop(unfinished);
        if self.messages == 0 {
            self.first_prefix = prefix;
        }
        self.messages += 1;
    }

    /// Compresses it, if that makes it shorter. No message may be added afterwards.
    ///
    /// It takes its time: never call it under a connection's lock.
    pub(crate) fn compress(&mut self, compression: Option<Compression>) {
        self.packed = compression.and_then(|compression| pack_bytes(self.travelling(), compression));
    }

    /// Drops all messages, and keeps the buffer.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.messages = 0;
        self.first_prefix = 0;
        self.packed = None;
    }

    /// Gives a long buffer back: no message comes for a while.
    pub(crate) fn release(&mut self) {
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// The bytes that travel, before compression.
    fn travelling(&self) -> &[u8] {
        let skipped = if self.messages > 1 { 0 } else { self.first_prefix };
        &self.bytes[skipped..]
    }
}

impl Payload for OutgoingRow {
    fn size(&self) -> Size {
        match &self.packed {
            Some(packed) => packed.size(),
            None => Size::plain(self.travelling().len()),
        }
    }

    fn put(&self, out: &mut Output) {
        match &self.packed {
            Some(packed) => packed.put(out),
            None => bytes::BufMut::put_slice(out, self.travelling()),
        }
    }

    fn is_row(&self) -> bool {
        self.messages > 1
    }
}

/// The longest buffer that is kept while no message comes, in bytes.
const KEPT: usize = 1024;

/// Removes what was appended if encoding a message panics.
struct Unfinished<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
    is_whole: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.bytes.truncate(self.start);
        }
    }
}

#[cfg(all(test, feature = "lz4"))]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_was_sent_leaves_nothing_to_compress() {
        let mut row = OutgoingRow::new(100);
        let message = "dog".to_owned();
        row.push(&message, message.encoded_len());
        row.clear();
        row.compress(Some(Compression::Lz4));
        assert!(row.is_empty());
        assert_eq!(row.size(), Size::plain(0));
    }
}
