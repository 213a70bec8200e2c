//! Ours: the calls and one-way requests that this side makes.

pub(super) mod barriers;
pub(super) mod calls;
pub(super) mod credit;
pub(super) mod queue;
pub(super) mod queues;
pub(super) mod replies;
pub(super) mod sends;

use std::collections::VecDeque;

use self::{barriers::Barriers, calls::Calls, credit::Credit, queues::Lines, sends::Sends};
use super::Side;

/// The calls and one-way requests that this side makes.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) calls: Calls,
    pub(super) credit: Credit,
    pub(super) lines: Lines,
    pub(super) sends: Sends,
    /// Calls that were given up before CANCEL may be sent, which is after the peer's HELLO.
    pub(super) cancels: Vec<u64>,
    pub(super) barriers: Barriers,
    /// Requests in fragments whose last one is in the output and not yet with the OS: what a flush waits for.
    pub(super) flushing: VecDeque<(u64, u64)>,
    /// The first request whose fragments were lost with the connection.
    pub(super) unflushed: Option<u64>,
}

impl Ours {
    /// No calls; `side` decides which ids they get.
    pub(super) fn new(side: Side) -> Self {
        Self {
            calls: Calls::new(side.first_id()),
            credit: Credit::floor(),
            lines: Lines::new(),
            sends: Sends::default(),
            cancels: Vec::new(),
            barriers: Barriers::default(),
            flushing: VecDeque::new(),
            unflushed: None,
        }
    }
}
