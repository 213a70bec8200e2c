//! `/debug/calls`: the calls in flight, the oldest first.

use bytes::Bytes;
use http::Response;
use rpc_runtime::inspect::{CallQuery, CallView};
use serde_json::{Value, json};

use super::{Format, list, seconds};
use crate::query::Query;

/// # Errors
///
/// What is wrong with the query.
pub(super) fn write(mut query: Query<'_>, format: Format) -> Result<Response<Bytes>, String> {
    let mut calls = CallQuery::new();
    if let Some(prefix) = query.take("procedure") {
        calls = calls.procedure(prefix);
    }
    if let Some(age) = query.seconds("slower_than")? {
        calls = calls.slower_than(age);
    }
    if let Some(connection) = query.number("connection")? {
        calls = calls.connection(connection);
    }
    if let Some(most) = query.number("most")? {
        calls = calls.most(most);
    }
    query.end()?;
    Ok(list(format, "calls", &calls.run(), object))
}

fn object(call: &CallView) -> Value {
    json!({
        "connection": call.connection(),
        "id": call.id(),
        "procedure": call.procedure(),
        "side": call.side().name(),
        "peer": call.peer(),
        "caller": call.caller(),
        "protocol": call.protocol(),
        "is_one_way": call.is_one_way(),
        "count": call.count(),
        "age_seconds": seconds(Some(call.age())),
        "remaining_seconds": seconds(call.remaining()),
        "running_seconds": seconds(call.running_for()),
        "state": call.state().name(),
        "blocked_seconds": seconds(call.blocked_for()),
        "cancelled_by": call.cancelled_by().map(|by| by.name()),
    })
}
