//! Assembly: how messages that came in fragments are put together.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::BytesMut;

use super::{
    Time,
    tuning::{BUFFER_BUDGET, FRAGMENT, PINNED},
};
use crate::wire::frame::{Encoded, Frame, Header, Placed};

/// The message of a frame that carries all of it.
#[inline(always)]
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

/// True if a short payload has to be copied before it waits: as a slice it would pin a read buffer, and `waiting` others may.
#[inline]
pub(super) fn is_to_copy(waiting: usize) -> bool {
    waiting >= PINNED
}

/// How much payload a frame with this header may carry.
pub(super) fn payload_room(header: &Header<'_>, max_frame: usize) -> usize {
    // The key and the longest length that a payload of a frame can have.
    const PAYLOAD_FIELD: usize = 1 + 4;
    let room = max_frame.saturating_sub(header.frame_len(0) + PAYLOAD_FIELD);
    room.clamp(1, FRAGMENT)
}

/// A message of the peer with more fragments to come.
///
/// Its buffer is at most twice as long as what was read, whatever was announced. A small budget ([`BufferBudget`]) allows
/// buffers for all of a message, on a connection that has carried as many bytes before.
pub(super) struct Assembly {
    bytes: BytesMut,
    /// How many bytes are kept; `bytes` is lent out while a fragment is read to its end.
    kept: usize,
    /// The part of the connection's budget that allows a buffer for all of the message.
    reserved: Option<BufferBudget>,
    received: u64,
    length: u64,
    /// Its compression; 0 is none: then exactly `length` bytes come, otherwise at most as many.
    encoding: u32,
    discard: bool,
}

/// A message that has another length than announced.
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
            kept: 0,
            reserved: None,
            received: 0,
            length,
            encoding,
            discard: false,
        }
    }

    /// A message that is read and dropped.
    pub(super) fn discard(length: u64) -> Self {
        Self {
            discard: true,
            ..Self::new(length, 0)
        }
    }

    /// Drops what was read and what will be; returns how many bytes were kept.
    pub(super) fn forget(&mut self) -> usize {
        self.discard = true;
        self.bytes = BytesMut::new();
        self.reserved = None;
        std::mem::take(&mut self.kept)
    }

    /// True if nothing is kept.
    pub(super) fn is_discarded(&self) -> bool {
        self.discard
    }

    /// Lends the buffer out, with room for a fragment of `len` bytes behind what is in it. It comes back with the
    /// fragment; if it does not, the message is lost with its connection.
    pub(super) fn lend(&mut self, len: usize, received: u64, budget: &BufferBudget) -> Option<BytesMut> {
        if self.discard || self.received.saturating_add(len as u64) > self.length {
            return None;
        }
        let needed = self.kept + len;
        if needed > self.bytes.capacity() {
            let announced = usize::try_from(self.length).unwrap_or(usize::MAX);
            // Of a compressed one it is not known how much will come.
            if self.encoding == 0 && self.length <= received {
                self.reserved = budget.take(announced);
            }
            let capacity = match &self.reserved {
                Some(_) => announced,
                None => announced.min(2 * self.kept).max(needed),
            };
            self.grow(capacity);
        }
        Some(std::mem::take(&mut self.bytes))
    }

    /// Adds the payload of a frame.
    pub(super) fn push(&mut self, frame: &mut Frame) -> Result<(), WrongLength> {
        let placed = frame.extra.take_placed();
        let len = match &placed {
            Some(placed) => placed.message.len() - placed.start,
            None => frame.payload.len(),
        };
        self.received = self.received.saturating_add(len as u64);
        if self.discard {
            return Ok(());
        }
        let is_too_long = self.received > self.length;
        match placed {
            Some(Placed { mut message, start }) => {
                if is_too_long {
                    message.truncate(start);
                }
                self.bytes = message;
            }
            None if !is_too_long => self.copy(&frame.payload),
            None => {}
        }
        if is_too_long {
            return Err(self.wrong_length());
        }
        self.kept = self.bytes.len();
        Ok(())
    }

    fn copy(&mut self, fragment: &[u8]) {
        let needed = self.kept + fragment.len();
        if needed > self.bytes.capacity() {
            let announced = usize::try_from(self.length).unwrap_or(usize::MAX);
            self.grow(announced.min(2 * needed).max(needed));
        }
        self.bytes.extend_from_slice(fragment);
    }

    /// Makes the buffer as long as this, or twice as long as it was: `reserve` can do so without a copy.
    fn grow(&mut self, capacity: usize) {
        self.bytes.reserve(capacity - self.bytes.len());
    }

    /// The whole message, once its last fragment is there.
    pub(super) fn finish(&mut self) -> Result<Encoded, WrongLength> {
        if self.encoding == 0 && self.received != self.length {
            return Err(self.wrong_length());
        }
        self.kept = 0;
        self.reserved = None;
        let bytes = std::mem::take(&mut self.bytes).freeze();
        Ok(Encoded::new(bytes, self.encoding, self.length))
    }

    /// Adds the last fragment, and returns the whole message. If it has another length, only what was kept before stays.
    pub(super) fn push_last(&mut self, frame: &mut Frame) -> Result<Encoded, WrongLength> {
        let kept = self.kept;
        self.push(frame)?;
        self.finish().inspect_err(|_| {
            self.bytes.truncate(kept);
            self.kept = kept;
        })
    }

    /// How long the message is before compression.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes are kept.
    pub(super) fn kept(&self) -> usize {
        self.kept
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

/// Watches whether the peer goes on with messages that it has begun, in fragments.
///
/// The fragments of all messages count together: the sender decides which of them goes first.
#[derive(Debug, Default)]
pub(super) struct FragmentWatch(Option<UnfinishedMessage>);

/// A stretch of time in which some bytes of unfinished messages have to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnfinishedMessage {
    /// The message that makes the connection wait; none if it was finished meanwhile.
    pub(super) id: Option<u64>,
    pub(super) since: Time,
    /// How many bytes of fragments came.
    pub(super) bytes: u64,
}

impl FragmentWatch {
    /// Counts a fragment of `len` bytes; if not `more` are to come, it is the last of its message.
    pub(super) fn fragment(&mut self, id: u64, len: usize, more: bool, now: Time) {
        let Some(message) = &mut self.0 else {
            self.restart(more.then_some(id), now);
            return;
        };
        message.bytes += len as u64;
        if !more && message.id == Some(id) {
            message.id = None;
        }
    }

    /// Begins a new stretch for the message `id`, or none.
    pub(super) fn restart(&mut self, id: Option<u64>, now: Time) {
        self.0 = id.map(|id| UnfinishedMessage {
            id: Some(id),
            since: now,
            bytes: 0,
        });
    }

    /// The stretch that is watched now.
    #[inline]
    pub(super) fn message(&self) -> Option<UnfinishedMessage> {
        self.0
    }
}

/// How many bytes of memory a connection may take for announced messages before their bytes have come.
///
/// A part comes back when it is dropped. Only a connection that has carried as many bytes before takes any, so a peer pays
/// for what it makes this side hold.
#[derive(Debug)]
pub(super) struct BufferBudget {
    /// What is left.
    budget: Arc<AtomicUsize>,
    taken: usize,
}

impl BufferBudget {
    /// A budget of which nothing is taken.
    pub(super) fn new() -> Self {
        Self {
            budget: Arc::new(AtomicUsize::new(BUFFER_BUDGET)),
            taken: 0,
        }
    }

    /// Takes `len` bytes of it, if there are as many.
    fn take(&self, len: usize) -> Option<Self> {
        let left = self.budget.load(Ordering::Relaxed).checked_sub(len)?;
        // All is done under the connection's lock.
        self.budget.store(left, Ordering::Relaxed);
        Some(Self {
            budget: Arc::clone(&self.budget),
            taken: len,
        })
    }
}

impl Drop for BufferBudget {
    fn drop(&mut self) {
        self.budget.fetch_add(self.taken, Ordering::Relaxed);
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
        write!(f, "message announced as {length} bytes carried {received}")
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};

    use super::*;

    fn fragment(len: usize) -> Frame {
        Frame {
            payload: Bytes::from(vec![7; len]),
            ..Frame::default()
        }
    }

    fn placed(mut message: BytesMut, len: usize) -> Frame {
        let start = message.len();
        message.put_bytes(7, len);
        let mut frame = Frame::default();
        frame.extra.set_placed(Placed { message, start });
        frame
    }

    #[test]
    fn buffer_for_all_of_a_message_comes_out_of_a_budget() {
        let budget = BufferBudget::new();
        let len = BUFFER_BUDGET as u64 / 2;
        let mut messages: Vec<_> = (0..3).map(|_| Assembly::new(len, 0)).collect();
        for (index, message) in messages.iter_mut().enumerate() {
            message.push(&mut fragment(1000)).unwrap();
            let lent = message.lend(FRAGMENT, len, &budget).unwrap();
            assert_eq!(lent.capacity() == len as usize, index < 2, "{index}");
            message.push(&mut placed(lent, FRAGMENT)).unwrap();
            assert_eq!(message.kept(), 1000 + FRAGMENT);
        }
        assert!(messages[2].capacity() <= 2 * messages[2].kept());
        messages.remove(0);
        assert_eq!(messages[0].forget(), 1000 + FRAGMENT);
        assert_eq!(budget.budget.load(Ordering::Relaxed), BUFFER_BUDGET);
    }

    #[test]
    fn buffer_is_not_longer_than_what_the_peer_has_sent() {
        let budget = BufferBudget::new();
        let mut message = Assembly::new(1 << 20, 0);
        message.push(&mut fragment(1000)).unwrap();
        let lent = message.lend(FRAGMENT, (1 << 20) - 1, &budget).unwrap();
        assert_eq!(lent.capacity(), 1000 + FRAGMENT);
    }

    #[test]
    fn no_buffer_is_lent_beyond_the_announced_length_or_for_a_forgotten_message() {
        let budget = BufferBudget::new();
        let mut message = Assembly::new(1000, 0);
        message.push(&mut fragment(600)).unwrap();
        assert!(message.lend(401, 1 << 20, &budget).is_none());
        message.forget();
        assert!(message.lend(400, 1 << 20, &budget).is_none());
    }

    #[test]
    fn a_message_forgotten_while_its_buffer_is_lent_stays_forgotten() {
        let budget = BufferBudget::new();
        let mut message = Assembly::new(1000, 0);
        message.push(&mut fragment(600)).unwrap();
        let lent = message.lend(400, 1 << 20, &budget).unwrap();
        assert_eq!(message.forget(), 600);
        message.push(&mut placed(lent, 400)).unwrap();
        assert_eq!((message.kept(), message.capacity()), (0, 0));
    }

    #[test]
    fn message_of_placed_and_copied_fragments_is_whole() {
        let budget = BufferBudget::new();
        let mut message = Assembly::new(1000, 0);
        message.push(&mut fragment(100)).unwrap();
        let lent = message.lend(400, 0, &budget).unwrap();
        message.push(&mut placed(lent, 400)).unwrap();
        message.push(&mut fragment(200)).unwrap();
        let lent = message.lend(300, 1 << 20, &budget).unwrap();
        let whole = message.push_last(&mut placed(lent, 300)).unwrap();
        assert_eq!(&whole.bytes()[..], [7; 1000]);
        assert_eq!(budget.budget.load(Ordering::Relaxed), BUFFER_BUDGET);
    }
}
