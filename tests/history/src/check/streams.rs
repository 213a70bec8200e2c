//! Streams: what a caller read and sent, against what its handler sent and read.

use rpc_runtime::Executed;

use super::Fault;
use crate::{
    history::{Outcome, Record},
    journal::{Entry, Moved, Reading},
};

/// Checks a call with streams, beside what holds for every call.
pub(super) fn check(record: &Record, ran: &[&Entry], faults: &mut Vec<Fault>) {
    let flow = record.flow;
    let end = ran.iter().rev().find_map(|entry| entry.moved);
    let reading = end.map_or(Reading::Open, |end| end.reading);
    if flow.disordered || reading == Reading::Disordered {
        faults.push(Fault::Disordered);
    }
    // A handler that was killed left nothing to compare with.
    let moved = match end {
        Some(moved) => moved,
        None if ran.is_empty() => Moved::default(),
        None => return,
    };
    let is_whole = reading == Reading::Whole;
    if flow.read > moved.gave || moved.got > flow.offered {
        faults.push(Fault::MessagesFromNowhere);
    }
    if is_whole && (!flow.finished || moved.got != flow.sent) {
        faults.push(Fault::EndTooEarly);
    }
    match record.outcome {
        Outcome::Ok => {
            let is_all = is_whole || moved.got == flow.limit;
            let counted = flow.counted.unwrap_or(moved.got);
            if flow.read != moved.gave || !is_all || counted != moved.got {
                faults.push(Fault::ShortSuccess);
            }
        }
        // The last one may have been in the middle of its fragments, or waiting for credit.
        Outcome::Failed {
            executed: Executed::Yes,
            ..
        } if flow.read + 1 < moved.gave => faults.push(Fault::MessagesLost),
        _ => {}
    }
}
