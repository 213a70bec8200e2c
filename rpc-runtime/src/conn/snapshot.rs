//! Snapshots: what a connection and its calls are like at one moment.

use super::{CallId, State, Time};
use crate::{
    Procedure,
    api::call_state::{CallState, CancelledBy},
};

/// A connection at one moment.
#[derive(Debug)]
pub(crate) struct ConnectionSnapshot {
    pub(crate) state: State,
    /// The calls of the peer, and those that this side makes.
    pub(crate) served: usize,
    pub(crate) made: usize,
    /// One-way requests of both sides.
    pub(crate) one_ways: usize,
    /// Callers, handlers and streams that wait for credit, for a slot or for room.
    pub(crate) waiting: usize,
    /// Calls of both sides, and one-way requests of the peer, that were not done at their deadline.
    pub(crate) missed_deadlines: u64,
    /// How many bytes came, and how many the OS has taken.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// How many bytes are held, those included that are not written.
    pub(crate) held: u64,
    /// How many bytes are encoded and not written.
    pub(crate) backlog: u64,
    pub(crate) round_trip: Option<Time>,
    /// How long nothing was read.
    pub(crate) silence: Time,
    /// For how long the peer has taken too little; none if nothing waits to be taken.
    pub(crate) stalled: Option<Time>,
    pub(crate) limits: LimitUse,
}

/// How much of the limits of a connection is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitUse {
    pub(crate) max_calls: u64,
    pub(crate) call_bytes: u64,
    pub(crate) send_bytes: u64,
    pub(crate) inbox_bytes: u64,
    pub(crate) high_water: u64,
    pub(crate) max_waiting: u64,
    pub(crate) metadata_bytes: u64,
    /// Handlers that run.
    pub(crate) running: u64,
}

/// A call, or several one-way calls of one frame, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct CallSnapshot {
    pub(crate) id: CallId,
    /// True if this side makes it.
    pub(crate) is_ours: bool,
    pub(crate) called: Called,
    pub(crate) one_way: bool,
    /// How many calls these are.
    pub(crate) count: usize,
    pub(crate) age: Time,
    pub(crate) remaining: Option<Time>,
    /// How long its handler has run.
    pub(crate) running: Option<Time>,
    pub(crate) state: CallState,
    pub(crate) cancelled_by: Option<CancelledBy>,
}

/// Which procedure is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Id(u64),
    Procedure(&'static Procedure),
}

/// Calls that are being listed.
pub(crate) struct CallList {
    /// Only calls that are older are listed.
    pub(super) older_than: Time,
    /// The time now.
    pub(super) now: Time,
    /// How many are listed at most.
    pub(super) most: usize,
    pub(super) calls: Vec<CallSnapshot>,
    /// How many more there are.
    pub(super) left_out: usize,
}

impl CallList {
    /// Adds the call that `make` makes, which began `at`.
    pub(super) fn add(&mut self, at: Time, make: impl FnOnce(Time) -> CallSnapshot) {
        let age = self.now.saturating_sub(at);
        if age < self.older_than {
            return;
        }
        if self.calls.len() == self.most {
            self.left_out += 1;
            return;
        }
        self.calls.push(make(age));
    }
}

/// The time that is left until `deadline`.
pub(super) fn remaining(deadline: Option<Time>, now: Time) -> Option<Time> {
    deadline.map(|deadline| deadline.saturating_sub(now))
}
