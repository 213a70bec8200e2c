//! `/debug/procedures`: calls, errors, rate and latencies of each procedure, in a window or since the process began.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use rpc_runtime::metrics::ProcedureCalls;
use rpc_services::Measured;
use serde_json::{Map, Value, json};

use super::{Format, heading, seconds};
use crate::{
    pages::answers::{json, text},
    query::Query,
};

/// # Errors
///
/// What is wrong with the query.
pub(super) async fn write(mut query: Query<'_>, format: Format) -> Result<Response<Bytes>, String> {
    let window = query.seconds("window")?.unwrap_or_default();
    query.end()?;
    let measured = match window {
        Duration::ZERO => Measured::since_the_beginning(),
        window if window <= MOST_WINDOW => Measured::within(window).await,
        _ => {
            return Err(format!(
                "the window is too long: give a time of up to {MOST_WINDOW:?}\n"
            ));
        }
    };
    let procedures = measured.calls();
    Ok(match format {
        Format::Json => {
            let objects: Vec<_> = procedures.iter().map(|one| object(&measured, one)).collect();
            json(&json!({ "procedures": objects, "window_seconds": seconds(measured.time()) }))
        }
        Format::Text => {
            let lines: String = procedures.iter().map(|one| line(&measured, one)).collect();
            text(StatusCode::OK, heading(procedures.len(), "procedures") + &lines)
        }
    })
}

fn line(measured: &Measured, procedure: &ProcedureCalls) -> String {
    let codes = counted(procedure.codes().map(|(code, count)| (code.name(), count)));
    let one_ways = counted(procedure.one_ways());
    let quantile = |part| match procedure.latency().quantile(part) {
        Some(time) => format!("{time:.1?}"),
        None => "-".to_owned(),
    };
    let mut line = format!(
        "{:<6} {:<6} {:<36} in_flight={:<5} rate={:<9} errors={:<6} p50={:<9} p99={:<9}{codes}",
        procedure.side().name(),
        procedure.protocol().name(),
        procedure.path(),
        procedure.in_flight(),
        measured
            .rate(procedure)
            .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s")),
        Measured::errors(procedure),
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

fn object(measured: &Measured, procedure: &ProcedureCalls) -> Value {
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
        "ended": procedure.handled(),
        "errors": Measured::errors(procedure),
        "rate": measured.rate(procedure),
        "codes": codes.collect::<Map<_, _>>(),
        "one_ways": one_ways.collect::<Map<_, _>>(),
        "blocked_handlers": procedure.blocked(),
        "mean_seconds": seconds(latency.mean()),
        "p50_seconds": seconds(latency.quantile(0.5)),
        "p90_seconds": seconds(latency.quantile(0.9)),
        "p99_seconds": seconds(latency.quantile(0.99)),
    })
}

/// The longest window: it ends before the time of a request of the listener.
const MOST_WINDOW: Duration = Duration::from_secs(8);
