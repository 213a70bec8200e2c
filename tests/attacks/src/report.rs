//! Report: one attack and its effects, as a line of a table.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    attack::{Attack, Failure, Others, Outcome, Scene},
    door::Transport,
    probe::{Probe, Seen},
    process::{Process, Usage},
};

/// The outcome of an attack, and what a legitimate client noticed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The attack's name.
    pub name: &'static str,
    /// Its outcome.
    pub outcome: Outcome,
    /// The results of a legitimate client before the attack.
    pub alone: Seen,
    /// Its results during the attack.
    pub beside: Seen,
    /// The target's usage before the attack.
    pub before: Usage,
    /// The target's usage after the attack.
    pub after: Usage,
    /// The duration of the attack.
    pub took: Duration,
    /// The server's counters.
    pub counters: String,
}

/// Starts a target, attacks it, and reports.
///
/// # Errors
///
/// If the server answers wrongly, ends, uses too much memory, or keeps files open, or if a legitimate client notices more than
/// the attack allows.
///
/// # Cancel safety
///
/// Dropping the future ends the attack and kills the target.
pub async fn run(
    program: &Path,
    attack: &Attack,
    transport: Transport,
    time: Option<Duration>,
) -> Result<Report, Failure> {
    let plan = (attack.plan)(time.is_none());
    let mut target = Process::start(program, &plan, transport).await?;
    let probe = Probe::start(target.door()).await?;
    sleep(time.map_or(Duration::from_millis(300), |_| Duration::from_secs(2))).await;
    let alone = probe.finish().await;
    let before = target.usage()?;

    let probe = Probe::start(target.door()).await?;
    let begun = Instant::now();
    let outcome = attack.run(&Scene::new(&target, time)).await;
    let took = begun.elapsed();
    let beside = probe.finish().await;
    let outcome = outcome?;

    // A connection of the probe may not be closed yet.
    target.settled(before.files + 1).await?;
    let after = target.usage()?;
    let counters = target.counters().await?;
    let report = Report {
        name: attack.name,
        outcome,
        alone,
        beside,
        before,
        after,
        took,
        counters,
    };
    report.check(attack)?;
    Ok(report)
}

impl Report {
    fn check(&self, attack: &Attack) -> Result<(), Failure> {
        let may = |text: &String| match attack.others {
            Others::Served => false,
            Others::Unconnected => text.starts_with("a new connection"),
            Others::Refused => text.contains("RESOURCE_EXHAUSTED") && text.contains("executed: no"),
        };
        let failed: Vec<&String> = self.beside.failed.iter().filter(|text| !may(text)).collect();
        if let Some(first) = failed.first() {
            return Err(Failure(format!(
                "{} legitimate calls failed: {first}",
                failed.len()
            )));
        }
        if self.beside.took.is_empty() {
            return Err(Failure("no legitimate call succeeded".to_owned()));
        }
        for &(name, least) in &self.outcome.counted {
            let counters = self
                .counters
                .split(' ')
                .filter_map(|counter| counter.split_once('='));
            let found = counters.filter(|(found, _)| *found == name);
            let count = found
                .filter_map(|(_, count)| count.parse().ok())
                .next()
                .unwrap_or(0);
            if count < least {
                return Err(Failure(format!(
                    "the server counted {name}={count}, expected {least}"
                )));
            }
        }
        if self.after.peak_kib > MOST_KIB {
            return Err(Failure(format!(
                "the target used {} MiB",
                self.after.peak_kib >> 10
            )));
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.beside.percentile(50), self.beside.percentile(99));
        let ratio = p99.as_secs_f64() / self.alone.percentile(99).as_secs_f64().max(1e-9);
        let cpu = (self.after.cpu - self.before.cpu).as_secs_f64() / self.took.as_secs_f64().max(0.01);
        write!(
            f,
            "| {} | {} {} | {} | {} / {} / {} MiB | {} ok, {} failed | {:.2} / {:.2} ms, {ratio:.1} | {:.0} % | {} |",
            self.name,
            self.outcome.sent,
            self.outcome.unit,
            self.outcome.answer,
            self.before.memory_kib >> 10,
            self.after.peak_kib >> 10,
            self.after.memory_kib >> 10,
            self.beside.took.len() + self.beside.connected.len(),
            self.beside.failed.len(),
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3,
            100.0 * cpu,
            self.counters,
        )
    }
}

/// The head of the table.
pub const HEAD: &str = "| attack | sent | answer | memory before / peak / after | legitimate calls | p50 / p99, p99 to alone | CPU of a core | counters |
|---|---|---|---|---|---|--:|---|";

/// The maximum memory of a target, in KiB.
const MOST_KIB: u64 = 256 << 10;
