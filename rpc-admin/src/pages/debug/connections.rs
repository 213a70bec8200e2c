//! `/debug/connections`: the connections, in the order of their numbers.

use bytes::Bytes;
use http::Response;
use rpc_runtime::inspect::{ConnectionQuery, ConnectionView};
use serde_json::{Value, json};

use super::{Format, list, seconds};
use crate::query::Query;

/// # Errors
///
/// What is wrong with the query.
pub(super) fn write(mut query: Query<'_>, format: Format) -> Result<Response<Bytes>, String> {
    let mut connections = ConnectionQuery::new();
    if let Some(after) = query.number("after")? {
        connections = connections.after(after);
    }
    if let Some(most) = query.number("most")? {
        connections = connections.most(most);
    }
    query.end()?;
    Ok(list(format, "connections", &connections.run(), object))
}

fn object(connection: &ConnectionView) -> Value {
    json!({
        "id": connection.id(),
        "side": connection.side().name(),
        "owner": connection.owner(),
        "peer": connection.peer(),
        "caller": connection.caller(),
        "has_several_callers": connection.has_several_callers(),
        "protocol": connection.protocol(),
        "transport": connection.transport().name(),
        "stage": connection.stage().name(),
        "age_seconds": seconds(Some(connection.age())),
        "calls_served": connection.calls_served(),
        "calls_made": connection.calls_made(),
        "one_ways": connection.one_ways(),
        "waiting": connection.waiting(),
        "missed_deadlines": connection.missed_deadlines(),
        "blocked_handlers": connection.blocked_handlers(),
        "bytes_received": connection.bytes_received(),
        "bytes_sent": connection.bytes_sent(),
        "held_bytes": connection.held_bytes(),
        "backlog_bytes": connection.backlog_bytes(),
        "stalled_seconds": seconds(connection.stalled_for()),
        "silent_seconds": seconds(Some(connection.silent_for())),
        "round_trip_seconds": seconds(connection.round_trip()),
    })
}
