//! What the peer takes from us, and how much of it is used up; and what the peer may get wrong.

use crate::wire::frame::control::Hello;

/// What every message is charged beside its length.
const OVERHEAD: u64 = 256;

/// How many calls, and how many bytes each of CALL and SEND, may go before the peer's HELLO is here; also the least
/// that a HELLO may announce.
pub(super) const FLOOR_CALLS: u32 = 16;
pub(super) const FLOOR_BYTES: u64 = 64 * 1024;
/// The longest frame before the peer's HELLO is here.
pub(super) const FLOOR_FRAME: u32 = 64 * 1024;
/// No frame is longer, whatever is announced: so the first byte of every length is 0.
const MAX_FRAME: u32 = (16 << 20) - 1;

/// How many calls of the control service may be open, and how long their requests may be.
pub(super) const CONTROL_CALLS: u32 = 4;
pub(super) const CONTROL_BYTES: u64 = 4 * 1024;

/// What a message of `len` bytes is charged, on both sides.
pub(super) const fn charge(len: u64) -> u64 {
    len.saturating_add(OVERHEAD)
}

/// The way that a request of ours takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// A call: needs a slot and `call_bytes`.
    Call,
    /// A one-way request: needs `send_bytes`.
    Send,
    /// A call of the control service: needs one of its own few slots.
    Control,
}

/// A request that wants to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) lane: Lane,
    /// How long the message is.
    pub(super) len: u64,
    /// How long the frame is that carries all of it.
    pub(super) frame_len: u64,
    /// Whether a stream follows, for which the peer has to say its window first.
    pub(super) streams: bool,
}

/// What the peer takes from us, and how much of it is used up.
#[derive(Clone, Debug)]
pub(super) struct Credit {
    /// Until the peer's HELLO is here, each charge must fit.
    floor: bool,
    max_frame: u32,
    max_message: u64,
    slots: u32,
    open: u32,
    control_open: u32,
    call_window: u64,
    call_bytes: u64,
    /// All that we may ever send, and all that we have: both only grow.
    send_granted: u64,
    send_bytes: u64,
}

impl Credit {
    /// What may go before the peer has said anything.
    pub(super) fn floor() -> Self {
        Self {
            floor: true,
            max_frame: FLOOR_FRAME,
            max_message: FLOOR_BYTES,
            slots: FLOOR_CALLS,
            open: 0,
            control_open: 0,
            call_window: FLOOR_BYTES,
            call_bytes: 0,
            send_granted: FLOOR_BYTES,
            send_bytes: 0,
        }
    }

    /// Takes over what the peer announced; what was used of the floor stays used.
    pub(super) fn accept(&mut self, hello: &Hello) {
        self.floor = false;
        self.max_frame = hello.max_frame.min(MAX_FRAME);
        self.max_message = hello.max_message;
        self.slots = hello.max_calls;
        self.call_window = hello.call_bytes;
        self.send_granted = hello.send_bytes;
    }

    /// Whether `wanted` may start now, as far as the peer is concerned.
    #[inline]
    pub(super) fn admits(&self, wanted: Wanted) -> bool {
        if self.floor && (wanted.streams || wanted.frame_len > u64::from(FLOOR_FRAME)) {
            return false;
        }
        let charge = charge(wanted.len);
        match wanted.lane {
            Lane::Control => self.control_open < CONTROL_CALLS,
            Lane::Call => {
                self.open < self.slots && self.has_balance(self.call_bytes, self.call_window, charge)
            }
            Lane::Send => self.has_balance(self.send_bytes, self.send_granted, charge),
        }
    }

    /// A message may start while the balance is above zero, and charges all of it.
    fn has_balance(&self, used: u64, window: u64, charge: u64) -> bool {
        if self.floor {
            used.saturating_add(charge) <= window
        } else {
            used < window
        }
    }

    /// Uses up what `wanted` needs.
    pub(super) fn take(&mut self, wanted: Wanted) {
        let charge = charge(wanted.len);
        match wanted.lane {
            Lane::Control => self.control_open += 1,
            Lane::Call => {
                self.open += 1;
                self.call_bytes = self.call_bytes.saturating_add(charge);
            }
            Lane::Send => self.send_bytes = self.send_bytes.saturating_add(charge),
        }
    }

    /// Takes back what a call used: it was replied.
    pub(super) fn give_back(&mut self, wanted: Wanted) {
        match wanted.lane {
            Lane::Control => self.control_open = self.control_open.saturating_sub(1),
            Lane::Call => {
                self.open = self.open.saturating_sub(1);
                self.call_bytes = self.call_bytes.saturating_sub(charge(wanted.len));
            }
            Lane::Send => {}
        }
    }

    /// The peer grants `bytes` more of one-way requests.
    pub(super) fn grant_sends(&mut self, bytes: u64) {
        self.send_granted = self.send_granted.saturating_add(bytes);
    }

    /// The longest message that the peer takes, once it has said so.
    pub(super) fn max_message(&self) -> Option<u64> {
        (!self.floor).then_some(self.max_message)
    }

    /// The longest frame that may go out.
    pub(super) fn max_frame(&self) -> usize {
        self.max_frame as usize
    }

    /// Whether only the floor may be used.
    pub(super) fn is_floor(&self) -> bool {
        self.floor
    }

    /// How many calls hold a slot, and how much is charged for them.
    #[cfg(test)]
    pub(super) fn calls(&self) -> (u32, u64) {
        (self.open + self.control_open, self.call_bytes)
    }

    /// How much of one-way requests may still be sent.
    #[cfg(test)]
    pub(super) fn send_balance(&self) -> i128 {
        i128::from(self.send_granted) - i128::from(self.send_bytes)
    }
}

/// How much the peer may still get wrong. What it gets right makes up for it, so that a long connection is not ended
/// for rare accidents.
#[derive(Debug)]
pub(super) struct Abuse {
    left: u32,
    most: u32,
    good: u32,
    /// How many empty frames came one behind the other.
    empty: u32,
    /// Bytes of fragments that may still come for requests that we refused before their end.
    late: u64,
}

impl Abuse {
    /// So many empty frames may come one behind the other.
    const EMPTY: u32 = 100;
    /// So many good requests make up for one fault.
    const GOOD: u32 = 10;
    const MAX_LATE: u64 = 64 << 20;

    /// Nothing is wrong yet, and `most` things may be.
    pub(super) const fn new(most: u32) -> Self {
        Self {
            left: most,
            most,
            good: 0,
            empty: 0,
            late: 0,
        }
    }

    /// Counts a fault; false if it was one too many.
    #[must_use]
    pub(super) fn count(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// How many faults there may still be.
    #[cfg(test)]
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// Counts an empty frame; false if it was one too many.
    #[must_use]
    pub(super) fn count_empty(&mut self) -> bool {
        self.empty += 1;
        self.empty <= Self::EMPTY
    }

    /// Something came that is not empty.
    pub(super) fn not_empty(&mut self) {
        self.empty = 0;
    }

    /// Counts a request that was as it should be.
    pub(super) fn good(&mut self) {
        self.empty = 0;
        self.good += 1;
        if self.good == Self::GOOD {
            self.good = 0;
            self.left = (self.left + 1).min(self.most);
        }
    }

    /// Expects `bytes` more of a request that we refused: its fragments are on their way, and no fault.
    pub(super) fn expect_late(&mut self, bytes: u64) {
        self.late = self.late.saturating_add(bytes).min(Self::MAX_LATE);
    }

    /// Whether a fragment of `len` bytes may be one of those.
    pub(super) fn is_expected(&mut self, len: usize) -> bool {
        let charge = (len as u64).max(OVERHEAD);
        let expected = charge <= self.late.saturating_add(OVERHEAD) && self.late > 0;
        self.late = self.late.saturating_sub(charge);
        expected
    }
}
