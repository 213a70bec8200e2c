//! Snapshots of the peer's requests, for those who look into the process.

use super::RequestTable;
use crate::{
    api::call_state::{CallState, CancelledBy},
    conn::{
        CallId, Settings, Time, Unwanted,
        outbox::Outbox,
        snapshot::{CallList, CallSnapshot, Called, LimitUse, remaining},
        theirs::{
            request::{RequestStage, TheirRequest},
            waiting_rows::WaitingRow,
        },
    },
};

impl RequestTable {
    /// Adds all requests to `list`, those left out that are dropped while they come.
    pub(in crate::conn::theirs) fn list(&self, outbox: &Outbox, list: &mut CallList) {
        for (id, request) in self.table.iter() {
            let Some((state, since)) = state_of(id, request, outbox) else {
                continue;
            };
            let now = list.now;
            list.add(request.at, |age| CallSnapshot {
                id: CallId(id),
                is_ours: false,
                called: Called::Id(request.procedure),
                one_way: request.one_way,
                count: 1,
                age,
                remaining: remaining(request.deadline, now),
                running: since.map(|since| now.saturating_sub(since)),
                state,
                cancelled_by: request.unwanted.map(cancelled_by),
            });
        }
        for row in self.rows.all() {
            list.add(row.at, |age| snapshot_of_row(row, age));
        }
        if let Some(running) = self.running_row.as_deref() {
            let now = list.now;
            list.add(running.row.at, |age| CallSnapshot {
                count: running.unlisted(),
                running: Some(now.saturating_sub(running.since)),
                state: CallState::Running,
                cancelled_by: running.unwanted.map(cancelled_by),
                ..snapshot_of_row(&running.row, age)
            });
        }
    }

    /// How much of the limits of the peer's requests is used.
    pub(in crate::conn::theirs) fn limit_use(&self, settings: &Settings) -> LimitUse {
        let left = self.send_granted.saturating_sub(self.send_bytes);
        let unfinished = settings.send_bytes.saturating_sub(left);
        LimitUse {
            max_calls: self.calls.into(),
            call_bytes: self.call_bytes,
            send_bytes: unfinished.saturating_sub(self.owed),
            metadata_bytes: self.kept.metadata,
            running: self.running() as u64,
            ..LimitUse::default()
        }
    }
}

/// What a request does, and since when its handler runs; none for one that is dropped while it comes.
fn state_of(id: u64, request: &TheirRequest, outbox: &Outbox) -> Option<(CallState, Option<Time>)> {
    Some(match &request.stage {
        RequestStage::Discarding(_) => return None,
        RequestStage::Receiving(_) => (CallState::Receiving, None),
        RequestStage::Queued(_) | RequestStage::Taken => (CallState::Queued, None),
        RequestStage::Withdrawn(_) => (CallState::Refused, None),
        RequestStage::Starting(since) | RequestStage::Running(since) => {
            let outflow = request.flow.as_ref().and_then(|flow| flow.outflow.as_ref());
            let state = if outbox.waiters().has(id) || outbox.remainders().has(id) {
                CallState::WaitsForRoom
            } else if outflow.is_some_and(|outflow| outflow.waits_for_credit()) {
                CallState::WaitsForCredit
            } else {
                CallState::Running
            };
            (state, Some(*since))
        }
    })
}

/// The requests of a row that wait, as one entry.
fn snapshot_of_row(row: &WaitingRow, age: Time) -> CallSnapshot {
    CallSnapshot {
        id: CallId(row.next),
        is_ours: false,
        called: Called::Id(row.procedure),
        one_way: true,
        count: row.left,
        age,
        remaining: remaining(row.deadline, row.at.saturating_add(age)),
        running: None,
        state: CallState::Queued,
        cancelled_by: None,
    }
}

fn cancelled_by(unwanted: Unwanted) -> CancelledBy {
    match unwanted {
        Unwanted::Cancelled => CancelledBy::Caller,
        Unwanted::Deadline => CancelledBy::Deadline,
        Unwanted::Disconnected => CancelledBy::Disconnect,
        Unwanted::Drained => CancelledBy::Drain,
    }
}
