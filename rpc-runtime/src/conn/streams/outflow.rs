//! Outflow: the credit of a stream of ours, and its end.

use std::task::{Context, Waker};

use crate::conn::wakers::{Woken, set_waker};

/// The credit of a stream of ours, and its end.
#[derive(Debug)]
pub(in crate::conn) struct Outflow {
    /// How many bytes we may ever send, and how many we have sent: both only grow.
    granted: u64,
    sent: u64,
    end: EndFrame,
    pub(in crate::conn) waker: Option<Waker>,
}

/// The END of a stream of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndFrame {
    /// Not said.
    Open,
    /// It follows the fragments of the last message.
    Wanted,
    /// It is in the output.
    Put,
}

impl Outflow {
    /// A stream that may send `granted` bytes.
    pub(in crate::conn) fn new(granted: u64) -> Self {
        Self {
            granted,
            sent: 0,
            end: EndFrame::Open,
            waker: None,
        }
    }

    /// True if a message may start.
    pub(in crate::conn) fn may_send(&self) -> bool {
        self.end == EndFrame::Open && self.sent < self.granted
    }

    /// True if the end was said.
    pub(in crate::conn) fn is_ended(&self) -> bool {
        self.end != EndFrame::Open
    }

    /// True if a sender waits for credit.
    pub(in crate::conn) fn waits_for_credit(&self) -> bool {
        self.waker.is_some() && self.end == EndFrame::Open && self.sent >= self.granted
    }

    /// How many bytes may still be sent, if a message may start.
    pub(in crate::conn) fn left(&self) -> u64 {
        self.granted.saturating_sub(self.sent)
    }

    /// Charges `bytes`.
    #[inline]
    pub(in crate::conn) fn charge(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// Adds `bytes` of credit; returns the waker of the sender that waits for it.
    pub(in crate::conn) fn grant(&mut self, bytes: u64) -> Option<Waker> {
        self.granted = self.granted.saturating_add(bytes);
        self.waker.take()
    }

    /// How many bytes we may ever send, and how many we have sent.
    #[cfg(test)]
    pub(in crate::conn) fn credit(&self) -> (u64, u64) {
        (self.granted, self.sent)
    }

    /// Lets END follow the fragments of the last message.
    pub(in crate::conn) fn want_end(&mut self) {
        self.end = EndFrame::Wanted;
    }

    /// Notes that END goes into the output.
    pub(in crate::conn) fn put_end(&mut self) {
        self.end = EndFrame::Put;
    }

    /// True if the end waits for the last fragment.
    pub(in crate::conn) fn wants_end(&self) -> bool {
        self.end == EndFrame::Wanted
    }

    /// Lets the sender wait.
    pub(in crate::conn) fn wait(&mut self, cx: &Context<'_>) {
        set_waker(&mut self.waker, cx);
    }

    pub(in crate::conn) fn wake(&mut self, woken: &mut Woken) {
        woken.push(self.waker.take());
    }
}
