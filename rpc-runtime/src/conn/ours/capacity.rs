//! Capacity: whether a request of ours may go now, by the peer's credit and the output's room.

use super::credit::{Credit, CreditClaim, RequestKind};
use crate::{
    Priority,
    conn::outbox::{Outbox, backlog::Backlog},
};

/// True if a request may go now: the peer has credit and a slot for it, and the output has room.
///
/// This is the only place that says so: a request that comes and goes at once and one that waits are both asked here.
/// `has_room` says whether a message of this priority and length has room; the few calls of the control service do not
/// wait for it.
#[inline(always)]
pub(super) fn may_go(
    claim: CreditClaim,
    priority: Priority,
    credit: &Credit,
    has_room: impl FnOnce(Priority, u64) -> bool,
) -> bool {
    (claim.kind == RequestKind::Control || has_room(priority, claim.len)) && credit.admits(claim)
}

/// Credit and room, as they become less while several requests are let go one after the other.
#[derive(Debug)]
pub(in crate::conn) struct Capacity {
    credit: Credit,
    backlog: Backlog,
}

impl Capacity {
    /// What there is now.
    pub(in crate::conn) fn new(credit: &Credit, outbox: &Outbox) -> Self {
        Self {
            credit: credit.clone(),
            backlog: outbox.backlog(),
        }
    }

    /// True if a request may go now.
    pub(in crate::conn) fn admits(&self, claim: CreditClaim, priority: Priority) -> bool {
        may_go(claim, priority, &self.credit, |priority, len| {
            self.backlog.has_room(priority, len)
        })
    }

    /// Uses up what a request needs.
    pub(in crate::conn) fn take(&mut self, claim: CreditClaim, priority: Priority) {
        self.credit.take(claim);
        self.backlog.add(claim.len, priority);
    }
}
