//! `/debug/limits`: the limits in force, where they came from, and their use.

use bytes::Bytes;
use http::Response;
use rpc_runtime::inspect::{self, LimitValue, LimitView};
use serde_json::{Value, json};

use super::{Format, list};
use crate::query::Query;

/// # Errors
///
/// What is wrong with the query.
pub(super) fn write(query: Query<'_>, format: Format) -> Result<Response<Bytes>, String> {
    query.end()?;
    Ok(list(format, "limits", &inspect::limits(), object))
}

fn object(limit: &LimitView) -> Value {
    let (value, unit) = match limit.value() {
        LimitValue::Bytes(bytes) => (json!(bytes), "bytes"),
        LimitValue::Count(count) => (json!(count), "count"),
        LimitValue::Time(time) => (json!(time.as_secs_f64()), "seconds"),
        // Kinds of later versions, too.
        _ => (Value::Null, "unlimited"),
    };
    json!({
        "side": limit.side().name(),
        "owner": limit.owner(),
        "name": limit.name(),
        "value": value,
        "unit": unit,
        "from": limit.source().name(),
        "used": limit.used(),
        "used_part": limit.used_part(),
        "used_by_connection": limit.used_by(),
    })
}
