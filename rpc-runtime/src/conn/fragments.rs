//! Messages that are longer than a frame: how they are cut on the way out, and put together on the way in.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::frame::{Encoded, Frame, Header};

/// The most payload that one frame carries.
pub(super) const FRAGMENT: usize = 128 * 1024;

/// What the rest of a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A call of ours.
    Call,
    /// A one-way request of ours.
    Send,
    /// A reply of ours.
    Reply,
    /// A message of a stream of ours.
    Data,
}

impl Part {
    /// Whether it opens a call, or is a whole one-way request.
    pub(super) fn is_request(self) -> bool {
        matches!(self, Self::Call | Self::Send)
    }
}

/// The message of a frame that carries all of it.
pub(super) fn whole(frame: &mut Frame) -> Result<Encoded, WrongLength> {
    let length = frame.message_len();
    let received = frame.payload.len() as u64;
    // Only a compressed one has two lengths.
    if received > length {
        return Err(WrongLength { received, length });
    }
    let payload = std::mem::take(&mut frame.payload);
    Ok(Encoded::new(payload, frame.encoding, length))
}

/// How much payload a frame with this header may carry.
pub(super) fn payload_room(header: &Header<'_>, max_frame: usize) -> usize {
    // The key and the longest length that a payload of a frame can have.
    const PAYLOAD_FIELD: usize = 1 + 4;
    let room = max_frame.saturating_sub(header.frame_len(0) + PAYLOAD_FIELD);
    room.clamp(1, FRAGMENT)
}

/// A message of the peer of which more fragments are to come.
///
/// Its buffer is at most twice as long as what was read, and never what was merely announced.
pub(super) struct Assembly {
    bytes: BytesMut,
    received: u64,
    length: u64,
    /// How it is compressed; 0 is not at all: then `length` bytes are to come, and no more than that otherwise.
    encoding: u32,
    discard: bool,
}

/// A message has another length than was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongLength {
    /// How much was read.
    pub(super) received: u64,
    /// How much was announced.
    pub(super) length: u64,
}

impl Assembly {
    /// A message of `length` bytes before compression, of which nothing was read yet.
    pub(super) fn new(length: u64, encoding: u32) -> Self {
        Self {
            bytes: BytesMut::new(),
            received: 0,
            length,
            encoding,
            discard: false,
        }
    }

    /// A message that is read and forgotten.
    pub(super) fn discard(length: u64) -> Self {
        Self {
            discard: true,
            ..Self::new(length, 0)
        }
    }

    /// Keeps nothing of what was read, nor of what will be; returns how much was kept until now.
    pub(super) fn forget(&mut self) -> usize {
        self.discard = true;
        std::mem::take(&mut self.bytes).len()
    }

    /// Whether nothing is kept.
    pub(super) fn is_discarded(&self) -> bool {
        self.discard
    }

    /// Adds a fragment.
    pub(super) fn push(&mut self, fragment: &Bytes) -> Result<(), WrongLength> {
        self.received = self.received.saturating_add(fragment.len() as u64);
        if self.discard {
            return Ok(());
        }
        if self.received > self.length {
            return Err(self.wrong_length());
        }
        let needed = self.bytes.len() + fragment.len();
        if needed > self.bytes.capacity() {
            let announced = usize::try_from(self.length).unwrap_or(usize::MAX);
            let capacity = announced.min(2 * needed).max(needed);
            self.bytes.reserve(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(fragment);
        Ok(())
    }

    /// The whole message, once its last fragment is there.
    pub(super) fn finish(&mut self) -> Result<Encoded, WrongLength> {
        if self.encoding == 0 && self.received != self.length {
            return Err(self.wrong_length());
        }
        let bytes = std::mem::take(&mut self.bytes).freeze();
        Ok(Encoded::new(bytes, self.encoding, self.length))
    }

    /// Adds the last fragment, and gives the whole message. If it has another length, only what was there before is kept.
    pub(super) fn push_last(&mut self, fragment: &Bytes) -> Result<Encoded, WrongLength> {
        let kept = self.bytes.len();
        self.push(fragment)?;
        self.finish().inspect_err(|_| self.bytes.truncate(kept))
    }

    /// How long the message is before compression.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes are kept.
    pub(super) fn kept(&self) -> usize {
        self.bytes.len()
    }

    /// How much memory is held.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// How many announced bytes are still to come, at most.
    pub(super) fn missing(&self) -> u64 {
        self.length.saturating_sub(self.received)
    }

    fn wrong_length(&self) -> WrongLength {
        WrongLength {
            received: self.received,
            length: self.length,
        }
    }
}

impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} of {} bytes]", self.received, self.length)
    }
}

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, length } = self;
        write!(f, "message of {length} bytes came with {received}")
    }
}
