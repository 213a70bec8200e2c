//! Barriers: callers that wait for the peer's account of the one-way requests before a PING.

use std::task::{Context, Poll, Waker};

use crate::conn::{
    Cause,
    ids::IdMap,
    wakers::{Woken, set_waker},
};
use crate::wire::frame::control::Progress;

/// The callers that wait for the peer's account.
#[derive(Debug, Default)]
pub(in crate::conn) struct Barriers {
    table: IdMap<BarrierWaiter>,
    next: u64,
    /// True if any of them waits for its ping to go out.
    unsent: usize,
}

#[derive(Debug)]
struct BarrierWaiter {
    state: BarrierState,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum BarrierState {
    /// Its ping is to follow the last fragment of all sends up to this id.
    Unsent(u64),
    /// Its ping is out.
    Sent(u64),
    /// Its ping is answered.
    Answered(Progress),
    /// There is no room for it.
    Refused,
    /// Its ping is answered, and the peer did not take all that was sent.
    Cut,
}

impl Barriers {
    /// Adds a barrier behind the sends up to `last_id`; one of too many fails when it is polled.
    pub(in crate::conn) fn start(&mut self, last_id: u64, max: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        let state = if self.table.len() < max {
            self.unsent += 1;
            BarrierState::Unsent(last_id)
        } else {
            BarrierState::Refused
        };
        self.table.insert(number, BarrierWaiter { state, waker: None });
        number
    }

    /// A ping goes out: for all barriers whose sends are in the output, which `is_behind` says of the last id.
    pub(in crate::conn) fn sent(&mut self, ping: u64, is_behind: impl Fn(u64) -> bool) {
        for waiting in self.table.values_mut() {
            if matches!(waiting.state, BarrierState::Unsent(last_id) if is_behind(last_id)) {
                waiting.state = BarrierState::Sent(ping);
                self.unsent -= 1;
            }
        }
    }

    /// A ping was answered, and all earlier ones with it; without an account if the peer did not take all that was sent.
    pub(in crate::conn) fn answered(&mut self, ping: u64, account: Option<&Progress>, woken: &mut Woken) {
        for waiting in self.table.values_mut() {
            if matches!(waiting.state, BarrierState::Sent(sent) if sent <= ping) {
                waiting.state = account.map_or(BarrierState::Cut, |account| {
                    BarrierState::Answered(account.clone())
                });
                woken.push(waiting.waker.take());
            }
        }
    }

    /// The peer has given its last account: that is what all wait for.
    pub(in crate::conn) fn settled(&mut self, account: Option<&Progress>, woken: &mut Woken) {
        self.sent(u64::MAX, |_| true);
        self.answered(u64::MAX, account, woken);
    }

    /// Takes the account of a barrier; `cause` is why none will come any more, `cut` why sends were not taken.
    pub(in crate::conn) fn poll(
        &mut self,
        number: u64,
        max: usize,
        cause: Option<&Cause>,
        cut: impl FnOnce() -> Option<Cause>,
        cx: &Context<'_>,
    ) -> Poll<Result<Progress, Cause>> {
        let result = match self.table.get_mut(&number) {
            Some(BarrierWaiter {
                state: BarrierState::Answered(progress),
                ..
            }) => Ok(std::mem::take(progress)),
            Some(BarrierWaiter {
                state: BarrierState::Refused,
                ..
            }) => Err(Cause::QueueFull { max }),
            Some(BarrierWaiter {
                state: BarrierState::Cut,
                ..
            }) => Err(cut().unwrap_or(Cause::Closed)),
            found => match (cause, found) {
                (Some(cause), _) => Err(cause.clone()),
                (None, Some(waiting)) => {
                    set_waker(&mut waiting.waker, cx);
                    return Poll::Pending;
                }
                (None, None) => Err(Cause::Closed),
            },
        };
        self.remove(number);
        Poll::Ready(result)
    }

    /// Forgets a barrier.
    pub(in crate::conn) fn remove(&mut self, number: u64) {
        if let Some(waiting) = self.table.remove(&number) {
            self.unsent -= usize::from(matches!(waiting.state, BarrierState::Unsent(_)));
        }
    }

    /// Wakes all callers: the connection is over.
    pub(in crate::conn) fn wake_all(&mut self, woken: &mut Woken) {
        for waiting in self.table.values_mut() {
            woken.push(waiting.waker.take());
        }
    }

    /// True if a barrier waits for its ping, and all its sends are in the output.
    pub(in crate::conn) fn wants_ping(&self, is_behind: impl Fn(u64) -> bool) -> bool {
        let mut waiting = self.table.values();
        self.unsent > 0
            && waiting
                .any(|waiting| matches!(waiting.state, BarrierState::Unsent(last_id) if is_behind(last_id)))
    }

    /// True if no barrier waits.
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}
