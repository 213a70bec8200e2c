//! Procedures: what was counted of each, in a window or since the process began.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rpc_runtime::{
    Code,
    metrics::{ProcedureCalls, Snapshot, Value, snapshot},
};
use tokio::time::sleep;

use super::on_the_wire::time;
use crate::rpc::inspect::v1::{self, ProceduresReply};

/// The longest window, as the .proto says: it ends within the default deadline of a call, which is 30 s.
pub(super) const MOST_WINDOW: Duration = Duration::from_secs(20);

/// The calls of each procedure that were counted in some time.
///
/// Hidden: for `rpc-admin`, which shows the same.
#[derive(Debug)]
pub struct Measured {
    calls: Vec<ProcedureCalls>,
    /// None where it is not known.
    time: Option<Duration>,
}

impl Measured {
    /// Those since the process began.
    pub fn since_the_beginning() -> Self {
        let now = snapshot();
        Self {
            time: age(&now),
            calls: now.procedures().to_vec(),
        }
    }

    /// Those within `window`: takes two snapshots with that time between them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the first snapshot, and nothing else.
    pub async fn within(window: Duration) -> Self {
        let earlier = snapshot();
        sleep(window).await;
        let now = snapshot();
        Self {
            calls: now.since(&earlier),
            time: Some(now.taken_at() - earlier.taken_at()),
        }
    }

    /// Returns the calls of each procedure.
    pub fn calls(&self) -> &[ProcedureCalls] {
        &self.calls
    }

    /// Returns the time in which they were counted; none where that is not known.
    pub fn time(&self) -> Option<Duration> {
        self.time
    }

    /// Returns how many calls of a procedure ended a second; none where the time is not known.
    pub fn rate(&self, calls: &ProcedureCalls) -> Option<f64> {
        let seconds = self.time?.as_secs_f64();
        (seconds > 0.0).then(|| calls.handled() as f64 / seconds)
    }

    /// Returns how many calls of a procedure ended with another code than OK.
    pub fn errors(calls: &ProcedureCalls) -> u64 {
        calls.handled().saturating_sub(calls.ended(Code::Ok))
    }

    /// The first `most` procedures whose paths begin with `prefix`.
    pub(super) fn reply(&self, prefix: &str, most: usize) -> ProceduresReply {
        let calls = self.calls.iter();
        let found: Vec<_> = calls.filter(|calls| calls.path().starts_with(prefix)).collect();
        let listed = found.iter().take(most);
        ProceduresReply {
            procedures: listed.map(|calls| self.on_the_wire(calls)).collect(),
            left_out: found.len().saturating_sub(most) as u64,
            window: self.time.and_then(time),
        }
    }

    fn on_the_wire(&self, calls: &ProcedureCalls) -> v1::ProcedureCalls {
        let quantile = |part| calls.latency().quantile(part).and_then(time);
        v1::ProcedureCalls {
            procedure: calls.path().to_owned(),
            side: calls.side().name().to_owned(),
            protocol: calls.protocol().name().to_owned(),
            in_flight: calls.in_flight(),
            started: calls.started(),
            ended: calls.handled(),
            errors: Self::errors(calls),
            codes: calls
                .codes()
                .map(|(code, count)| (code.name().to_owned(), count))
                .collect(),
            rate: self.rate(calls),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            one_ways: calls
                .one_ways()
                .map(|(fate, count)| (fate.to_owned(), count))
                .collect(),
            blocked_handlers: calls.blocked(),
        }
    }
}

/// For how long the process has run; none where that is not known.
fn age(now: &Snapshot) -> Option<Duration> {
    let began = now.family("process_start_time_seconds")?.samples().first()?;
    let Value::Number(began) = began.value() else {
        return None;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Duration::try_from_secs_f64(now.as_secs_f64() - began).ok()
}
