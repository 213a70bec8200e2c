//! What those see of a connection who look into the process.

use super::{
    CallSnapshot, Connection, ConnectionSnapshot, LimitUse, Time, memory_held::Holdings, snapshot::CallList,
};

impl Connection {
    /// What the connection is like now.
    pub(crate) fn snapshot(&self, now: Time) -> ConnectionSnapshot {
        let (their_calls, their_sends, _) = self.theirs.load();
        let (our_calls, our_sends, waiting) = self.ours.load();
        // What the OS does not have when the connection ends is gone.
        let backlog = match self.end.is_closed() {
            true => 0,
            false => self.outbox.unwritten(),
        };
        let waiters = self.outbox.waiters();
        let held = Holdings::unread(&self.ours, &self.theirs) + self.ours.queues().bytes();
        ConnectionSnapshot {
            state: self.state(),
            served: their_calls,
            made: our_calls,
            one_ways: their_sends + our_sends,
            waiting: waiting + waiters.len(),
            missed_deadlines: self.theirs.missed_deadlines() + self.ours.missed_deadlines(),
            received: self.received,
            sent: self.outbox.taken(),
            held: held.saturating_add(backlog).saturating_add(waiters.bytes()),
            backlog,
            round_trip: self.health.round_trip(),
            silence: now.saturating_sub(self.health.last_read()),
            stalled: self.outbox.stalled_since().map(|since| now.saturating_sub(since)),
            limits: LimitUse {
                inbox_bytes: self.held().bytes,
                high_water: backlog,
                max_waiting: waiting as u64,
                ..self.theirs.limit_use(&self.settings)
            },
        }
    }

    /// Lists the calls that are older than `older_than`, at most `most`. Returns how many more there are.
    pub(crate) fn list_calls(&self, older_than: Time, most: usize, now: Time) -> (Vec<CallSnapshot>, usize) {
        let mut list = CallList {
            older_than,
            now,
            most,
            calls: Vec::new(),
            left_out: 0,
        };
        self.theirs.list(&self.outbox, &mut list);
        self.ours.list(self.outbox.taken(), &mut list);
        (list.calls, list.left_out)
    }
}
