//! RetryBudget: the tokens for retries, earned by replies.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Tokens for retries, and whether a reply has arrived on the current connection.
///
/// There are ten tokens at the beginning and at most. A retry takes one, and a reply earns a tenth of one. So retries
/// add at most a tenth to the load of servers that are overloaded. It is one number, because every reply reads it.
#[derive(Debug)]
pub(in crate::client) struct RetryBudget(AtomicU32);

impl RetryBudget {
    /// A full budget.
    pub(in crate::client) const fn new() -> Self {
        Self(AtomicU32::new(FULL))
    }

    /// Notes a reply: only a read, unless that changes the budget.
    pub(in crate::client) fn replied(&self) {
        if self.0.load(Relaxed) != FULL {
            self.update(|tokens, _| Some((tokens + REPLY).min(FULL)));
        }
    }

    /// Takes the token for a retry; false if none is left.
    #[must_use]
    pub(in crate::client) fn take(&self) -> bool {
        self.update(|tokens, unproven| Some(tokens.checked_sub(RESEND)? | unproven))
    }

    /// Notes that a connection begins, on which nothing has arrived.
    pub(in crate::client) fn begin(&self) {
        self.0.fetch_or(UNPROVEN, Relaxed);
    }

    /// True if a reply has arrived since the connection began.
    pub(in crate::client) fn is_proven(&self) -> bool {
        self.0.load(Relaxed) & UNPROVEN == 0
    }

    /// The part of the tokens that is left: 1 if it is full.
    pub(super) fn left(&self) -> f64 {
        f64::from(self.0.load(Relaxed) & !UNPROVEN) / f64::from(FULL)
    }

    fn update(&self, f: impl Fn(u32, u32) -> Option<u32>) -> bool {
        self.0
            .fetch_update(Relaxed, Relaxed, |state| f(state & !UNPROVEN, state & UNPROVEN))
            .is_ok()
    }
}

/// In tenths of a token.
const FULL: u32 = 10 * RESEND;
const RESEND: u32 = 10;
const REPLY: u32 = 1;
const UNPROVEN: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_begins_with_ten_tokens() {
        let retry_budget = RetryBudget::new();
        for _ in 0..10 {
            assert!(retry_budget.take());
        }
        assert!(!retry_budget.take());
    }

    #[test]
    fn ten_replies_earn_a_token_and_more_than_ten_tokens_are_not_kept() {
        let retry_budget = RetryBudget::new();
        while retry_budget.take() {}
        for _ in 0..9 {
            retry_budget.replied();
        }
        assert!(!retry_budget.take());
        retry_budget.replied();
        assert!(retry_budget.take());
        assert!(!retry_budget.take());
        for _ in 0..1000 {
            retry_budget.replied();
        }
        assert_eq!((0..100).filter(|_| retry_budget.take()).count(), 10);
    }

    #[test]
    fn a_reply_proves_a_connection_and_a_token_taken_does_not() {
        let retry_budget = RetryBudget::new();
        assert!(retry_budget.is_proven());
        retry_budget.begin();
        assert!(!retry_budget.is_proven());
        assert!(retry_budget.take());
        assert!(!retry_budget.is_proven());
        retry_budget.replied();
        assert!(retry_budget.is_proven());
    }
}
