//! Messages that are longer than a frame: cut on the way out, put together on the way in.

use std::{collections::VecDeque, fmt};

use bytes::{Bytes, BytesMut};

use crate::frame::{Encoded, Flags, Frame, Header, Kind, Output};

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
    fn is_request(self) -> bool {
        matches!(self, Self::Call | Self::Send)
    }
}

/// Messages of ours whose first fragment is in the output, in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    rests: VecDeque<Rest>,
    len: usize,
}

#[derive(Debug)]
struct Rest {
    id: u64,
    part: Part,
    bytes: Output,
}

/// A message whose last fragment went into the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) id: u64,
    pub(super) part: Part,
}

impl Bulk {
    /// Adds what remains of a message.
    pub(super) fn push(&mut self, id: u64, part: Part, bytes: Output) {
        self.len += bytes.len();
        self.rests.push_back(Rest { id, part, bytes });
    }

    /// Puts the next fragment of the message whose turn it is into `out`; names the message if it was the last one.
    pub(super) fn transmit(&mut self, max_frame: usize, most: usize, out: &mut Output) -> Option<Finished> {
        let mut rest = self.rests.pop_front()?;
        let mut header = Header::new(Kind::Data, rest.id);
        header.flags = Flags::MORE;
        let len = payload_room(&header, max_frame).min(most).min(rest.bytes.len());
        if len == rest.bytes.len() {
            header.flags = Flags::NONE;
        }
        self.len -= len;
        let mut fragment = rest.bytes.split_to(len);
        header.encode_output(&mut fragment, out);
        if rest.bytes.is_empty() {
            return Some(Finished {
                id: rest.id,
                part: rest.part,
            });
        }
        self.rests.push_back(rest);
        None
    }

    /// Drops what remains of a message: the other side no longer wants it.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(index) = self.rests.iter().position(|rest| rest.id == id) {
            if let Some(rest) = self.rests.remove(index) {
                self.len -= rest.bytes.len();
            }
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many bytes remain of all messages.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing remains.
    pub(super) fn is_empty(&self) -> bool {
        self.rests.is_empty()
    }

    /// Whether anything remains of a one-way request up to `last_id`.
    pub(super) fn has_send(&self, last_id: u64) -> bool {
        let mut rests = self.rests.iter();
        rests.any(|rest| rest.part == Part::Send && rest.id <= last_id)
    }

    /// Whether anything remains of a request up to `last_id`.
    pub(super) fn has_request(&self, last_id: u64) -> bool {
        let mut rests = self.rests.iter();
        rests.any(|rest| rest.part.is_request() && rest.id <= last_id)
    }

    /// Whether anything remains of a message of call `id`.
    pub(super) fn has(&self, id: u64) -> bool {
        self.rests.iter().any(|rest| rest.id == id)
    }

    /// Whether anything remains of a reply.
    pub(super) fn has_reply(&self) -> bool {
        self.rests.iter().any(|rest| rest.part == Part::Reply)
    }

    /// The first request that is unfinished.
    pub(super) fn first_request(&self) -> Option<u64> {
        let requests = self.rests.iter().filter(|rest| rest.part.is_request());
        requests.map(|rest| rest.id).min()
    }

    /// The one-way requests that are unfinished.
    pub(super) fn sends(&self) -> impl Iterator<Item = u64> + '_ {
        let sends = self.rests.iter().filter(|rest| rest.part == Part::Send);
        sends.map(|rest| rest.id)
    }

    /// The first of them.
    pub(super) fn first_send(&self) -> Option<u64> {
        self.sends().min()
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
