//! Inbox: how many bytes wait to be taken.

/// What replies and streams of one table hold: bytes that were not taken, messages of streams among them, and how far
/// windows are widened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::conn) struct InboxUse {
    pub(in crate::conn) bytes: u64,
    pub(in crate::conn) messages: usize,
    pub(in crate::conn) widened: u64,
}

impl InboxUse {
    /// What both tables hold.
    pub(in crate::conn) const fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            messages: self.messages + other.messages,
            widened: self.widened.saturating_add(other.widened),
        }
    }

    /// Adds `other`.
    pub(in crate::conn) fn add(&mut self, other: Self) {
        *self = self.and(other);
    }

    /// Takes `other` off.
    pub(in crate::conn) fn remove(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.messages -= other.messages;
        self.widened -= other.widened;
    }
}
