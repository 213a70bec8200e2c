//! Report: one attack with all that belongs to it, as a line of a table.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    attack::{Attack, Failure, Others, Scene, Told},
    probe::{Probe, Seen},
    process::{Process, Usage},
};

/// What came of an attack, and what others noticed of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The attack's name.
    pub name: &'static str,
    /// What came of it.
    pub told: Told,
    /// What a client noticed before.
    pub alone: Seen,
    /// What it noticed meanwhile.
    pub beside: Seen,
    /// What the OS said before.
    pub before: Usage,
    /// What it said behind.
    pub after: Usage,
    /// How long it took.
    pub took: Duration,
    /// What the server has counted.
    pub counters: String,
}

/// Starts a target, attacks it, and watches.
///
/// # Errors
///
/// If the server answers otherwise than it should, ends, takes too much memory, keeps files, or if a legitimate client
/// notices more than that it takes longer.
///
/// # Cancel safety
///
/// Dropping the future ends all of it.
pub async fn run(program: &Path, attack: &Attack, time: Option<Duration>) -> Result<Report, Failure> {
    let plan = (attack.plan)(time.is_none());
    let mut target = Process::start(program, &plan).await?;
    let address = target.address().to_owned();
    let probe = Probe::start(&address).await?;
    sleep(time.map_or(Duration::from_millis(300), |_| Duration::from_secs(2))).await;
    let alone = probe.finish().await;
    let before = target.usage()?;

    let probe = Probe::start(&address).await?;
    let begun = Instant::now();
    let told = attack.run(&Scene::new(&target, time)).await;
    let took = begun.elapsed();
    let beside = probe.finish().await;
    let told = told?;

    // A connection of the probe may still be on its way out.
    target.settled(before.files + 1).await?;
    let after = target.usage()?;
    let counters = target.counters().await?;
    let report = Report {
        name: attack.name,
        told,
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
            return Err(Failure("no legitimate call came through".to_owned()));
        }
        if self.after.peak_kib > MOST_KIB {
            return Err(Failure(format!("it took {} MiB", self.after.peak_kib >> 10)));
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
            self.told.sent,
            self.told.unit,
            self.told.answer,
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

/// The most that a target's memory may ever be.
const MOST_KIB: u64 = 256 << 10;
