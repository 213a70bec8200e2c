//! Inbox: how much is held that no caller and no handler has taken.

/// What is held of replies and streams in one table: bytes that nobody has taken, messages of streams among them, and
/// how far windows are widened.
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

    /// Holds `other`, too.
    pub(in crate::conn) fn add(&mut self, other: Self) {
        *self = self.and(other);
    }

    /// Holds `other` no longer.
    pub(in crate::conn) fn remove(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.messages -= other.messages;
        self.widened -= other.widened;
    }
}
