//! The views of the runtime as messages.

use std::time::{Duration, SystemTime};

use rpc_runtime::{
    inspect::{CallView, ConnectionView, LimitValue, LimitView},
    prost_types,
};

use crate::rpc::inspect::v1::{Call, Connection, Limit, limit::Value};

pub(super) fn connection(view: &ConnectionView) -> Connection {
    Connection {
        id: view.id(),
        side: view.side().name().to_owned(),
        owner: view.owner().to_owned(),
        peer: view.peer().to_owned(),
        caller: view.caller().unwrap_or_default().to_owned(),
        has_several_callers: view.has_several_callers(),
        protocol: view.protocol().to_owned(),
        transport: view.transport().name().to_owned(),
        stage: view.stage().name().to_owned(),
        since: SystemTime::now().checked_sub(view.age()).map(Into::into),
        calls_served: view.calls_served() as u64,
        calls_made: view.calls_made() as u64,
        one_ways: view.one_ways() as u64,
        waiting: view.waiting() as u64,
        blocked_handlers: view.blocked_handlers() as u64,
        bytes_received: view.bytes_received(),
        bytes_sent: view.bytes_sent(),
        held_bytes: view.held_bytes(),
        backlog_bytes: view.backlog_bytes(),
        stalled_for: view.stalled_for().and_then(time),
        silent_for: time(view.silent_for()),
        round_trip: view.round_trip().and_then(time),
        missed_deadlines: view.missed_deadlines(),
    }
}

pub(super) fn call(view: &CallView) -> Call {
    Call {
        connection: view.connection(),
        id: view.id(),
        procedure: view.procedure().to_owned(),
        side: view.side().name().to_owned(),
        peer: view.peer().to_owned(),
        caller: view.caller().unwrap_or_default().to_owned(),
        protocol: view.protocol().to_owned(),
        one_way: view.is_one_way(),
        count: view.count() as u64,
        age: time(view.age()),
        remaining: view.remaining().and_then(time),
        running_for: view.running_for().and_then(time),
        state: view.state().name().to_owned(),
        blocked_for: view.blocked_for().and_then(time),
        cancelled_by: view.cancelled_by().map_or("", |by| by.name()).to_owned(),
    }
}

pub(super) fn limit(view: &LimitView) -> Limit {
    Limit {
        side: view.side().name().to_owned(),
        owner: view.owner().to_owned(),
        name: view.name().to_owned(),
        value: match view.value() {
            LimitValue::Bytes(bytes) => Some(Value::Bytes(bytes)),
            LimitValue::Count(count) => Some(Value::Count(count)),
            LimitValue::Time(limit) => time(limit).map(Value::Time),
            // Unlimited, and what later versions may add.
            _ => None,
        },
        source: view.source().name().to_owned(),
        used: view.used(),
        used_by: view.used_by().unwrap_or_default(),
    }
}

/// None for a time of more than 292 billion years.
pub(super) fn time(time: Duration) -> Option<prost_types::Duration> {
    time.try_into().ok()
}
