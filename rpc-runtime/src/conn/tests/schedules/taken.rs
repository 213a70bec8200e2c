//! Taken: the requests that one side has taken under one lock, and the order of those that it gave back.

use std::collections::{BTreeSet, VecDeque};

use super::*;

/// The requests that one side has taken and not started, and those that it gave back.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) batch: VecDeque<Arrived>,
    /// The ids that were given back, in their order. Control calls are left out, because they may go ahead.
    given_back: VecDeque<u64>,
    /// The ids that others have passed since then: they have ended, or the order is wrong.
    passed: BTreeSet<u64>,
    /// The highest id of a one-way request that was handed out.
    last_one_way: u64,
}

impl Taken {
    /// Gives the connection what is left of the batch.
    pub(super) fn give_back(&mut self, conn: &mut Connection, now: Time) {
        for arrived in self.batch.iter().rev().filter(|arrived| !is_control(arrived)) {
            self.given_back.push_front(arrived.id.0);
        }
        conn.take_back(&mut self.batch, now);
        assert!(self.batch.is_empty(), "a request that was not taken back");
    }

    /// Checks that requests that were given back come again in their order, ahead of all others, and that one-way requests come
    /// in theirs.
    pub(super) fn check_order(&mut self, arrived: &Arrived) {
        if !is_control(arrived) {
            self.check_id(arrived.id, arrived.one_way);
        }
    }

    /// As [`Taken::check_order`], for a request that is no control call.
    pub(super) fn check_id(&mut self, CallId(id): CallId, one_way: bool) {
        assert!(
            !self.passed.contains(&id),
            "{id} was given back, and another came first"
        );
        if one_way && !self.given_back.contains(&id) {
            assert!(id > self.last_one_way, "{id} comes behind {}", self.last_one_way);
            self.last_one_way = id;
        }
        while let Some(first) = self.given_back.pop_front() {
            if first == id {
                return;
            }
            self.passed.insert(first);
        }
    }
}

fn is_control(arrived: &Arrived) -> bool {
    arrived.procedure == CONTROL
}
