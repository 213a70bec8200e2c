//! `/debug/procedures`: calls, errors and latencies of each procedure since the process began.

use bytes::Bytes;
use http::{Response, StatusCode};
use rpc_runtime::metrics::{self, ProcedureCalls};
use serde_json::{Map, Value, json};

use super::{Format, seconds};
use crate::{
    pages::answers::{json, text},
    query::Query,
};

/// # Errors
///
/// What is wrong with the query.
pub(super) fn write(query: Query<'_>, format: Format) -> Result<Response<Bytes>, String> {
    query.end()?;
    let snapshot = metrics::snapshot();
    let procedures = snapshot.procedures();
    Ok(match format {
        Format::Json => {
            let objects: Vec<_> = procedures.iter().map(object).collect();
            json(&json!({ "procedures": objects }))
        }
        Format::Text => {
            let lines: String = procedures.iter().map(line).collect();
            text(
                StatusCode::OK,
                format!("{} procedures\n{lines}", procedures.len()),
            )
        }
    })
}

fn line(procedure: &ProcedureCalls) -> String {
    let codes = counted(procedure.codes().map(|(code, count)| (code.name(), count)));
    let one_ways = counted(procedure.one_ways());
    let quantile = |part| match procedure.latency().quantile(part) {
        Some(time) => format!("{time:.1?}"),
        None => "-".to_owned(),
    };
    let mut line = format!(
        "{:<6} {:<6} {:<36} in_flight={:<5} p50={:<9} p99={:<9}{codes}",
        procedure.side().name(),
        procedure.protocol().name(),
        procedure.path(),
        procedure.in_flight(),
        quantile(0.5),
        quantile(0.99),
    );
    if !one_ways.is_empty() {
        line.push_str(" one-ways:");
        line.push_str(&one_ways);
    }
    if procedure.blocked() > 0 {
        line.push_str(&format!(" blocked_their_thread={}", procedure.blocked()));
    }
    format!("{}\n", line.trim_end())
}

fn counted(counts: impl Iterator<Item = (&'static str, u64)>) -> String {
    counts.map(|(what, count)| format!(" {what}={count}")).collect()
}

fn object(procedure: &ProcedureCalls) -> Value {
    let codes = procedure
        .codes()
        .map(|(code, count)| (code.name().to_owned(), json!(count)));
    let one_ways = procedure
        .one_ways()
        .map(|(fate, count)| (fate.to_owned(), json!(count)));
    let latency = procedure.latency();
    json!({
        "procedure": procedure.path(),
        "side": procedure.side().name(),
        "protocol": procedure.protocol().name(),
        "started": procedure.started(),
        "in_flight": procedure.in_flight(),
        "codes": codes.collect::<Map<_, _>>(),
        "one_ways": one_ways.collect::<Map<_, _>>(),
        "blocked_handlers": procedure.blocked(),
        "mean_seconds": seconds(latency.mean()),
        "p50_seconds": seconds(latency.quantile(0.5)),
        "p90_seconds": seconds(latency.quantile(0.9)),
        "p99_seconds": seconds(latency.quantile(0.99)),
    })
}
