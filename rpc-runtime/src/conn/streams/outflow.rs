//! Outflow: how much of a stream of ours the peer takes, and how far it is.

use std::task::{Context, Waker};

use crate::conn::{
    types::charge,
    wakers::{Woken, set_waker},
};

/// How much of a stream of ours the peer takes, and how far it is.
#[derive(Debug)]
pub(in crate::conn) struct Outflow {
    /// All that we may ever send, and all that we have: both only grow.
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
    /// A stream of which `granted` bytes may go.
    pub(in crate::conn) fn new(granted: u64) -> Self {
        Self {
            granted,
            sent: 0,
            end: EndFrame::Open,
            waker: None,
        }
    }

    /// Whether a message may start.
    pub(in crate::conn) fn may_send(&self) -> bool {
        self.end == EndFrame::Open && self.sent < self.granted
    }

    /// Whether the end was said.
    pub(in crate::conn) fn is_ended(&self) -> bool {
        self.end != EndFrame::Open
    }

    /// Charges a message of `len` bytes.
    pub(in crate::conn) fn charge(&mut self, len: u64) {
        self.sent = self.sent.saturating_add(charge(len));
    }

    /// The peer takes `bytes` more; returns who waits for that.
    pub(in crate::conn) fn grant(&mut self, bytes: u64) -> Option<Waker> {
        self.granted = self.granted.saturating_add(bytes);
        self.waker.take()
    }

    /// Says the end behind the fragments of the last message.
    pub(in crate::conn) fn want_end(&mut self) {
        self.end = EndFrame::Wanted;
    }

    /// The end goes into the output.
    pub(in crate::conn) fn put_end(&mut self) {
        self.end = EndFrame::Put;
    }

    /// Whether the end waits for the last fragment.
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
