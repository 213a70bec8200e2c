//! Open frame: the last frame of the output, as long as short messages may still be added to it.

#[cfg(test)]
mod tests;

use super::Outbox;
use crate::{
    conn::tuning::{PACK_UNTIL, PACKABLE, PACKED_TIME},
    wire::frame::{
        Flags, Header, Kind, Output, Payload, ROW_HEAD_MAX, patch_row_head, put_in_row,
        row::{packed_len, put_len},
    },
};

/// A frame with short messages, to which more may be added while it is the last of the output.
///
/// Unless it is leased, it is whole after each message, so nothing needs to be done when it can take no more: when another frame
/// stands behind it, when the driver has taken it, or when it is long enough.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct OpenFrame {
    key: FrameKey,
    /// Where it begins and ends in the stream.
    start: u64,
    end: u64,
    /// How many bytes stand before its message, or before its row.
    head_len: u16,
    /// How many bytes its message has, or its row.
    len: u32,
    /// How many messages it has. One that was not put as a row has no length before it yet.
    messages: u32,
    is_row: bool,
    lease: Option<Lease>,
}

/// The right of a stream to add messages to its open frame without a look at its call: nothing has happened on the connection since
/// that was looked at.
///
/// Meanwhile the lengths in the head of the frame are old, and its stream is not charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    /// How many bytes the row had when the lease began: they are charged.
    from: u32,
    /// While the row has fewer bytes, the stream has credit to begin a message.
    until: u32,
}

/// What the messages of one frame have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) struct FrameKey {
    pub(in crate::conn) kind: Kind,
    /// The call; of one-way requests, the id of the first.
    pub(in crate::conn) id: u64,
    pub(in crate::conn) flags: Flags,
    pub(in crate::conn) procedure: u64,
    pub(in crate::conn) timeout_us: u64,
    pub(in crate::conn) depth: u32,
}

/// What came of adding to the open frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) struct Added {
    /// How many bytes the row has become longer: what is charged.
    pub(in crate::conn) charged: u64,
    /// Where the frame ends now.
    pub(in crate::conn) end: u64,
}

impl FrameKey {
    fn of(header: &Header<'_>) -> Self {
        Self {
            kind: header.kind,
            id: header.id,
            flags: header.flags,
            procedure: header.procedure,
            timeout_us: header.timeout_us,
            depth: header.depth,
        }
    }

    fn header(self) -> Header<'static> {
        let mut header = Header::new(self.kind, self.id);
        header.flags = self.flags;
        header.procedure = self.procedure;
        header.timeout_us = self.timeout_us;
        header.depth = self.depth;
        header
    }

    /// True if it is the frame of messages of the stream of call `id`.
    #[inline]
    pub(in crate::conn) fn is_data(&self, id: u64) -> bool {
        self.kind == Kind::Data && self.id == id
    }
}

impl OpenFrame {
    /// The frame of a message of `len` bytes that is in the output from `start` to `end`.
    pub(in crate::conn) fn of_message(header: &Header<'_>, len: usize, start: u64, end: u64) -> Self {
        Self {
            key: FrameKey::of(header),
            start,
            end,
            // Both are small: only numbers stand before a message that shares a frame, and it is short.
            head_len: (end - start) as u16 - len as u16,
            len: len as u32,
            messages: 1,
            is_row: false,
            lease: None,
        }
    }

    /// What its messages have in common.
    #[inline]
    pub(in crate::conn) fn key(&self) -> &FrameKey {
        &self.key
    }

    /// True if a one-way request with this header may be added: it is the next one, and it gets no more time than it has left,
    /// and little less.
    #[inline]
    pub(in crate::conn) fn takes_send(&self, header: &Header<'_>) -> bool {
        let key = &self.key;
        key.kind == Kind::Send
            && (key.procedure, key.flags, key.depth) == (header.procedure, header.flags, header.depth)
            && header.id == key.id + 2 * u64::from(self.messages)
            && takes_time(key.timeout_us, header.timeout_us)
            && header.takes_rows()
    }

    /// How much longer its row becomes by a message of `len` bytes; none if it takes none of that length. `end` is that of
    /// the output.
    #[inline]
    fn cost(&self, len: usize, end: u64) -> Option<usize> {
        // A message that came alone gets its length now.
        let row_len = self.len as usize;
        let first = if self.is_row {
            0
        } else {
            packed_len(row_len) - row_len
        };
        let cost = first + packed_len(len);
        (self.end == end && len <= PACKABLE && row_len + cost <= PACK_UNTIL).then_some(cost)
    }

    /// Writes the length of its row into its head.
    #[inline]
    fn finish(&mut self, out: &mut Output) {
        let (head_len, len) = (self.head_len.into(), self.len as usize);
        patch_row_head(out.last_mut(head_len + len), head_len, len);
        self.end = out.end();
    }

    /// Makes a row of its one message; what stands behind that moves along.
    #[cold]
    fn begin_row(&mut self, out: &mut Output) {
        let mut header = self.key.header();
        header.flags = header.flags | Flags::PACKED;
        let message_len = self.len as usize;
        let len = packed_len(message_len);
        let (head, head_len) = header.row_head(len);
        let mut new = [0; ROW_HEAD_MAX + 3];
        new[..head_len].copy_from_slice(&head[..head_len]);
        put_len(&mut &mut new[head_len..], message_len);
        let new_len = head_len + len - message_len;
        out.replace(self.start, self.head_len.into(), &new[..new_len]);
        (self.head_len, self.len, self.is_row) = (head_len as u16, len as u32, true);
    }
}

/// True if a one-way request with the time `own` may have the time of a frame, both in microseconds; 0 is no limit.
#[inline]
fn takes_time(frame: u64, own: u64) -> bool {
    let less = own.checked_sub(frame);
    own == frame || less.is_some_and(|less| frame > 0 && less <= frame / PACKED_TIME)
}

/// The longest that the head of a row and the length of its first message take, beyond what stood before that message.
const ROW_BEGINS: usize = 16;

impl Outbox {
    /// The last frame of the output, if messages may be added to it as far as it is known without their length.
    #[inline]
    pub(in crate::conn) fn open_frame(&self) -> Option<&OpenFrame> {
        let open = self.open_frame.as_ref()?;
        (open.end == self.out.end()).then_some(open)
    }

    /// Lets no message be added to the last frame any more.
    pub(in crate::conn) fn close_frame(&mut self) {
        debug_assert!(!self.is_leased(), "what was added on the lease is not charged");
        self.open_frame = None;
    }

    /// Lets short messages be added to the frame of a message of `len` bytes that has just been put, from `start` to `end`,
    /// whole and as it is.
    #[inline]
    pub(in crate::conn) fn leave_open(&mut self, header: &Header<'_>, len: usize, start: u64) {
        debug_assert!(!self.is_leased(), "what was added on the lease is not charged");
        // Before the peer's HELLO nothing is packed.
        if len <= PACKABLE && header.takes_rows() && self.peer_max_frame.is_some() {
            let end = self.out.end();
            self.open_frame = Some(OpenFrame::of_message(header, len, start, end));
        }
    }

    /// Adds a message of `len` bytes to the open frame; none if it takes no more, and another frame is needed.
    #[inline]
    pub(in crate::conn) fn add_to_frame<P: Payload>(&mut self, message: &P, len: usize) -> Option<Added> {
        let open = self.open_frame.as_mut()?;
        let cost = open.cost(len, self.out.end())?;
        if !self.out.extend_tail(open.start, cost + ROW_BEGINS) {
            return None;
        }
        // If the message panics, the frame is as it was.
        put_in_row(message, len, &mut self.out);
        if !open.is_row {
            open.begin_row(&mut self.out);
        }
        open.len += packed_len(len) as u32;
        open.messages += 1;
        open.finish(&mut self.out);
        Some(Added {
            charged: cost as u64,
            end: open.end,
        })
    }
}

/// Leases.
impl Outbox {
    /// Adds a message of the stream of call `id` to the open frame, if that is leased to it. False if the message has to go another
    /// way.
    #[inline]
    pub(in crate::conn) fn add_on_lease<P: Payload>(&mut self, id: u64, message: &P) -> bool {
        let Some(open) = &mut self.open_frame else {
            return false;
        };
        let Some(lease) = open.lease.filter(|_| open.key.id == id) else {
            return false;
        };
        let size = message.size();
        if size.encoding != 0 || size.len > PACKABLE || open.len >= lease.until {
            return false;
        }
        let cost = packed_len(size.len);
        let row_len = open.len as usize + cost;
        if row_len > PACK_UNTIL || !self.out.extend_tail(open.start, cost) {
            return false;
        }
        // If the message panics, the frame is as it was.
        put_in_row(message, size.len, &mut self.out);
        open.len = row_len as u32;
        open.messages += 1;
        true
    }

    /// Leases the open frame, which has a row, to its stream, which has `credit` bytes left and may send messages of any length that
    /// shares a frame.
    pub(in crate::conn) fn lease(&mut self, credit: u64) {
        // Beside remainders, each short message is to be noted.
        if !self.remainders.is_empty() {
            return;
        }
        if let Some(open) = &mut self.open_frame {
            let credit = u32::try_from(credit).unwrap_or(u32::MAX);
            open.lease = Some(Lease {
                from: open.len,
                until: open.len.saturating_add(credit),
            });
        }
    }

    /// True if the open frame is leased.
    #[inline]
    pub(in crate::conn) fn is_leased(&self) -> bool {
        self.open_frame.as_ref().is_some_and(|open| open.lease.is_some())
    }

    /// Ends the lease; returns the call, and the bytes that it is to be charged.
    pub(in crate::conn) fn end_lease(&mut self) -> Option<(u64, u64)> {
        let open = self.open_frame.as_mut()?;
        let lease = open.lease.take()?;
        open.finish(&mut self.out);
        Some((open.key.id, u64::from(open.len - lease.from)))
    }
}
