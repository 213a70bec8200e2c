//! Plain: reads the header of a plain frame in one pass.
//!
//! Most frames are plain: a few short numbers stand before the payload, in the order in which
//! [`Header`](super::Header) writes them. [`Frame::fill`] reads all other frames, and field by field.

use std::ops::Range;

use super::{
    Flags, Frame, Kind,
    decode::{FLAGS, ID, KIND, PAYLOAD, PROCEDURE, QUEUE, RUN, TIMEOUT},
};

impl Frame {
    /// Decodes a plain frame of `len` bytes into `self`, which must be empty. Returns where its payload lies.
    ///
    /// `bytes` begins with the frame behind its length, and goes on with what has come behind it. None for a frame that is not
    /// plain, or too near to the end of `bytes`; then `self` is as before, and [`Frame::fill`] decodes it.
    #[inline(always)]
    pub(crate) fn fill_plain(&mut self, bytes: &[u8], len: usize) -> Option<Range<usize>> {
        let mut head = Head {
            bytes: bytes.first_chunk()?,
            at: 0,
        };
        let kind = head.field(KIND)?;
        let id = head.field(ID)?;
        let flags = head.field(FLAGS)?;
        let procedure = if head.has(PROCEDURE) { head.eight()? } else { 0 };
        let timeout_us = head.field(TIMEOUT)?;
        let queue_us = head.field(QUEUE)?;
        let run_us = head.field(RUN)?;
        let payload_len = head.field(PAYLOAD)? as usize;
        // The frame ends here, so all that was read is of this frame.
        if head.at + payload_len != len {
            return None;
        }
        self.kind = Kind::from(kind as u32);
        self.id = id;
        self.flags = Flags::from_bits(flags as u32);
        self.procedure = procedure;
        self.timeout_us = timeout_us;
        self.queue_us = queue_us;
        self.run_us = run_us;
        Some(head.at..len)
    }
}

/// The bytes in which the whole header of a plain frame lies.
struct Head<'a> {
    bytes: &'a [u8; HEAD_LEN],
    at: usize,
}

impl Head<'_> {
    /// Reads the number behind `key`; zero if the next field has another key. None for a number of more than four bytes.
    #[inline(always)]
    fn field(&mut self, key: u8) -> Option<u64> {
        if self.has(key) { self.number() } else { Some(0) }
    }

    /// Returns whether the next field has this key, and reads the key then.
    #[inline(always)]
    fn has(&mut self, key: u8) -> bool {
        if self.bytes.get(self.at) == Some(&key) {
            self.at += 1;
            return true;
        }
        false
    }

    #[inline(always)]
    fn number(&mut self) -> Option<u64> {
        let &[first, second, third, fourth] = self.bytes.get(self.at..)?.first_chunk()?;
        let mut number = u64::from(first & 0x7f);
        if first < 0x80 {
            self.at += 1;
            return Some(number);
        }
        number |= u64::from(second & 0x7f) << 7;
        if second < 0x80 {
            self.at += 2;
            return Some(number);
        }
        number |= u64::from(third & 0x7f) << 14;
        if third < 0x80 {
            self.at += 3;
            return Some(number);
        }
        number |= u64::from(fourth) << 21;
        self.at += 4;
        (fourth < 0x80).then_some(number)
    }

    #[inline(always)]
    fn eight(&mut self) -> Option<u64> {
        let bytes = self.bytes.get(self.at..)?.first_chunk()?;
        self.at += 8;
        Some(u64::from_le_bytes(*bytes))
    }
}

/// More than the longest header of a plain frame: seven numbers of four bytes with their keys, and the procedure.
const HEAD_LEN: usize = 48;
