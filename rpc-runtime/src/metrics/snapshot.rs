//! Snapshot: all metrics of the process at one moment.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{
    calls::CallTotals,
    families,
    family::Family,
    labels::{Protocol, Side},
    procedure_calls::ProcedureCalls,
    procedures,
    render::{self, Format},
};

/// All metrics of the process at one moment.
///
/// [`snapshot()`] takes it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Snapshot {
    taken_at: Instant,
    procedures: Vec<ProcedureCalls>,
    families: Vec<Family>,
}

/// Takes a snapshot of all servers and clients of the process, also of those that are gone.
///
/// It adds up the parts of each counter, asks each server and client, and reads `/proc`. So it blocks its thread for about a
/// millisecond, and needs no runtime. Nothing that counts waits for it.
///
/// ```
/// let snapshot = rpc_runtime::metrics::snapshot();
/// let started: u64 = snapshot.procedures().iter().map(|one| one.started()).sum();
/// println!("{started} calls since this process began");
/// ```
pub fn snapshot() -> Snapshot {
    let procedures = procedure_calls();
    let families = families::all(&procedures);
    Snapshot {
        taken_at: Instant::now(),
        procedures,
        families,
    }
}

/// Takes a snapshot and renders it.
///
/// ```
/// use rpc_runtime::metrics::{self, Format};
///
/// let text = metrics::render(Format::Prometheus);
/// assert!(text.contains("# TYPE rpc_build_info gauge\n"));
/// ```
#[must_use]
pub fn render(format: Format) -> String {
    snapshot().render(format)
}

impl Snapshot {
    /// Returns when it was taken, by the clock of tokio.
    pub fn taken_at(&self) -> Instant {
        self.taken_at
    }

    /// Returns what was counted of each procedure since `earlier` was taken: for rates, and for quantiles of that time alone.
    ///
    /// ```
    /// use rpc_runtime::metrics::{Snapshot, snapshot};
    ///
    /// fn report(earlier: &Snapshot) -> Snapshot {
    ///     let now = snapshot();
    ///     let seconds = (now.taken_at() - earlier.taken_at()).as_secs_f64();
    ///     for calls in now.since(earlier) {
    ///         let rate = calls.handled() as f64 / seconds;
    ///         println!("{}: {rate} calls/s, p99 {:?}", calls.path(), calls.latency().quantile(0.99));
    ///     }
    ///     now
    /// }
    /// # report(&snapshot());
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<ProcedureCalls> {
        let calls = self.procedures.iter();
        calls
            .map(|now| {
                let then = earlier.procedures.iter().find(|then| then.is_of_same(now));
                then.map_or_else(|| now.clone(), |then| now.since(then))
            })
            .collect()
    }

    /// Returns the procedures of which a call was counted, by their paths.
    pub fn procedures(&self) -> &[ProcedureCalls] {
        &self.procedures
    }

    /// Returns all metrics that have a sample, those of one kind of thing together.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Returns the metric of this name; none if it has no sample.
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name() == name)
    }

    /// Renders all metrics.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        render::text(&self.families, format)
    }
}

fn procedure_calls() -> Vec<ProcedureCalls> {
    let mut calls: BTreeMap<(&'static str, Side, Protocol), CallTotals> = BTreeMap::new();
    for counts in procedures::all() {
        for side in Side::ALL {
            for protocol in Protocol::ALL {
                if let Some(totals) = counts.totals(side, protocol) {
                    let sum = calls.entry((counts.path(), side, protocol));
                    sum.or_insert_with(CallTotals::new).merge(&totals);
                }
            }
        }
    }
    let calls = calls.into_iter();
    calls
        .map(|((path, side, protocol), totals)| ProcedureCalls::new(path, side, protocol, totals))
        .collect()
}
