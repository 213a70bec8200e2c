//! Snapshots of our calls, for those who look into the process.

use super::{CallState as Progress, Calls, OurCall};
use crate::{
    api::call_state::CallState,
    conn::{
        CallId,
        snapshot::{CallList, CallSnapshot, Called, remaining},
    },
};

impl Calls {
    /// Adds all calls to `list`; the OS has the stream up to `taken`.
    pub(in crate::conn) fn list(&self, taken: u64, list: &mut CallList) {
        for (id, call) in self.table.iter() {
            let now = list.now;
            list.add(call.at, |age| CallSnapshot {
                id: CallId(id),
                is_ours: true,
                called: call.called.map_or(Called::Id(0), Called::Procedure),
                one_way: false,
                count: 1,
                age,
                remaining: remaining(call.deadline, now),
                running: None,
                state: state_of(call, taken),
                cancelled_by: None,
            });
        }
    }
}

fn state_of(call: &OurCall, taken: u64) -> CallState {
    let waits_for_credit = || {
        let outflow = call.flow.as_ref().and_then(|flow| flow.outflow.as_ref());
        outflow.is_some_and(|outflow| outflow.waits_for_credit())
    };
    match call.state {
        Progress::Done(_) => CallState::Answered,
        Progress::Tombstone => CallState::GivenUp,
        Progress::Waiting(_) if waits_for_credit() => CallState::WaitsForCredit,
        // `UNFINISHED` lies behind every end.
        Progress::Waiting(_) if call.end > taken => CallState::Sending,
        Progress::Waiting(_) => CallState::WaitsForReply,
    }
}
