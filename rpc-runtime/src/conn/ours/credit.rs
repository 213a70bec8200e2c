//! Credit: what the peer takes from us, and how much of it is used up.

use crate::{
    conn::{
        tuning::{CONTROL_CALLS, FLOOR_BYTES, FLOOR_CALLS, FLOOR_FRAME},
        types::charge,
    },
    wire::frame::control::Hello,
};

/// What a request of ours needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum RequestKind {
    /// A call: needs a slot and `call_bytes`.
    Call,
    /// A one-way request: needs `send_bytes`.
    Send,
    /// A call of the control service: needs one of its own few slots.
    Control,
}

/// The credit that a request needs to go.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct CreditClaim {
    pub(in crate::conn) kind: RequestKind,
    /// How long the message is.
    pub(in crate::conn) len: u64,
    /// How long the frame is that carries all of it.
    pub(in crate::conn) frame_len: u64,
    /// True if a stream follows: the peer has to announce its window first.
    pub(in crate::conn) streams: bool,
}

/// What the peer takes from us, and how much of it is used up.
#[derive(Clone, Debug)]
pub(in crate::conn) struct Credit {
    /// Until the peer's HELLO is here, each charge must fit.
    floor: bool,
    max_message: u64,
    slots: u32,
    open: u32,
    control_open: u32,
    call_window: u64,
    call_bytes: u64,
    /// How many bytes we may ever send, and how many we have sent: both only grow.
    send_granted: u64,
    send_bytes: u64,
}

impl Credit {
    /// What may go before the peer has said anything.
    pub(in crate::conn) fn floor() -> Self {
        Self {
            floor: true,
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
    pub(in crate::conn) fn accept(&mut self, hello: &Hello) {
        self.floor = false;
        self.max_message = hello.max_message;
        self.slots = hello.max_calls;
        self.call_window = hello.call_bytes;
        self.send_granted = hello.send_bytes;
    }

    /// True if `claim` may start now, as far as the peer is concerned.
    #[inline]
    pub(in crate::conn) fn admits(&self, claim: CreditClaim) -> bool {
        if self.floor && (claim.streams || claim.frame_len > u64::from(FLOOR_FRAME)) {
            return false;
        }
        let charge = charge(claim.len);
        match claim.kind {
            RequestKind::Control => self.control_open < CONTROL_CALLS,
            RequestKind::Call => {
                self.open < self.slots && self.has_balance(self.call_bytes, self.call_window, charge)
            }
            RequestKind::Send => self.has_balance(self.send_bytes, self.send_granted, charge),
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

    /// Uses up what `claim` needs.
    pub(in crate::conn) fn take(&mut self, claim: CreditClaim) {
        let charge = charge(claim.len);
        match claim.kind {
            RequestKind::Control => self.control_open += 1,
            RequestKind::Call => {
                self.open += 1;
                self.call_bytes = self.call_bytes.saturating_add(charge);
            }
            RequestKind::Send => self.send_bytes = self.send_bytes.saturating_add(charge),
        }
    }

    /// Uses up credit for a one-way request that joins a frame, which becomes `bytes` longer.
    #[inline]
    pub(in crate::conn) fn take_joined(&mut self, bytes: u64) {
        self.send_bytes = self.send_bytes.saturating_add(bytes);
    }

    /// Takes back what a call used: it was replied.
    pub(in crate::conn) fn give_back(&mut self, claim: CreditClaim) {
        match claim.kind {
            RequestKind::Control => self.control_open = self.control_open.saturating_sub(1),
            RequestKind::Call => {
                self.open = self.open.saturating_sub(1);
                self.call_bytes = self.call_bytes.saturating_sub(charge(claim.len));
            }
            RequestKind::Send => {}
        }
    }

    /// The peer grants `bytes` more of one-way requests.
    pub(in crate::conn) fn grant_sends(&mut self, bytes: u64) {
        self.send_granted = self.send_granted.saturating_add(bytes);
    }

    /// The longest message that the peer takes, once it has said so.
    pub(in crate::conn) fn max_message(&self) -> Option<u64> {
        (!self.floor).then_some(self.max_message)
    }

    /// True if only the floor may be used.
    pub(in crate::conn) fn is_floor(&self) -> bool {
        self.floor
    }

    /// How many calls hold a slot, and how much is charged for them.
    #[cfg(test)]
    pub(in crate::conn) fn calls(&self) -> (u32, u64) {
        (self.open + self.control_open, self.call_bytes)
    }

    /// How many bytes of one-way requests may ever be sent, and how many were.
    #[cfg(test)]
    pub(in crate::conn) fn sends(&self) -> (u64, u64) {
        (self.send_granted, self.send_bytes)
    }

    /// How much of one-way requests may still be sent.
    #[cfg(test)]
    pub(in crate::conn) fn send_balance(&self) -> i128 {
        i128::from(self.send_granted) - i128::from(self.send_bytes)
    }
}
