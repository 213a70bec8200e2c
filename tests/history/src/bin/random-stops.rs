//! Stops servers under load, in different ways and at random moments, and checks what they
//! report.

use std::{
    env, fmt,
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use history::{
    child::{ServeArgs, serve},
    stops::{ALLOWANCE, Broken, Ear, PROMISE, Plan, Stop, Stopped, stop},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinSet};

/// Stops servers under load, in different ways and at random moments, and checks what they
/// report.
///
/// The exit code is 0 if each stop kept all promises, otherwise 1. Then the story is on stderr, and the journal is
/// kept.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// The number of stops.
    #[arg(long, value_name = "STOPS", default_value_t = 1000)]
    count: u64,

    /// The seed of all stops. Default: random.
    #[arg(long)]
    seed: Option<u64>,

    /// The index of the first stop. With a count of 1, it repeats one stop of an earlier run.
    #[arg(long, default_value_t = 0)]
    from: u64,

    /// The number of stops at once.
    #[arg(long, value_name = "STOPS", default_value_t = 8)]
    at_once: usize,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves, as a child process of this program.
    #[command(hide = true)]
    Serve(ServeArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Command::Serve(args)) = args.command {
        return serve(args);
    }
    match Runtime::new().and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(totals) => {
            println!("{totals}");
            ExitCode::from(u8::from(totals.broken > 0))
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> io::Result<Totals> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!(
        "{} stops from {}, seed {seed}, {} at once",
        args.count, args.from, args.at_once
    );
    let program = Arc::<std::path::Path>::from(env::current_exe()?);
    let bar = progress_bar(args.count);
    let places = Arc::new(Semaphore::new(args.at_once.max(1)));
    let mut stops = JoinSet::new();
    for index in args.from..args.from.saturating_add(args.count) {
        let (program, places) = (Arc::clone(&program), Arc::clone(&places));
        stops.spawn(async move {
            // The semaphore is never closed.
            let _place = places.acquire_owned().await;
            let plan = Plan::new(seed, index);
            let result = stop(&program, &plan).await;
            (plan, result)
        });
    }
    let mut totals = Totals::new(seed);
    while let Some(stopped) = stops.join_next().await {
        let (plan, result) = stopped.map_err(io::Error::other)?;
        if let Some(story) = totals.add(&plan, result) {
            bar.suspend(|| eprintln!("seed {seed}, {story}\n"));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    totals.took = totals.begun.elapsed();
    Ok(totals)
}

/// Makes a progress bar, which is hidden without a terminal.
fn progress_bar(count: u64) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(count), target);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} stops, {elapsed} so far, {eta} to go");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The totals of all stops.
struct Totals {
    seed: u64,
    begun: Instant,
    took: Duration,
    kinds: [(&'static str, u64); 4],
    deaf: u64,
    slow: u64,
    second: u64,
    clean: u64,
    calls: u64,
    sends: u64,
    completed: u64,
    aborted: u64,
    one_way_dropped: u64,
    stuck: u64,
    starved: u64,
    slowest: Option<(Duration, u64)>,
    broken: u64,
}

impl Totals {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            begun: Instant::now(),
            took: Duration::ZERO,
            kinds: ["SIGTERM", "SIGINT", "terminate", "terminate and a signal"].map(|kind| (kind, 0)),
            deaf: 0,
            slow: 0,
            second: 0,
            clean: 0,
            calls: 0,
            sends: 0,
            completed: 0,
            aborted: 0,
            one_way_dropped: 0,
            stuck: 0,
            starved: 0,
            slowest: None,
            broken: 0,
        }
    }

    /// Adds a stop, and returns its story if it broke a promise.
    fn add(&mut self, plan: &Plan, result: Result<Stopped, Broken>) -> Option<String> {
        self.kinds[kind(plan.stop)].1 += 1;
        self.deaf += u64::from(plan.ear == Some(Ear::Deaf));
        self.slow += u64::from(plan.ear == Some(Ear::Slow));
        self.second += u64::from(plan.second.is_some());
        let stopped = match result {
            Ok(stopped) => stopped,
            Err(broken) => {
                self.broken += 1;
                return Some(broken.to_string());
            }
        };
        let (report, over) = (stopped.report, stopped.over());
        self.clean += u64::from(report.is_clean());
        self.calls += stopped.summary.calls;
        self.sends += stopped.summary.sends;
        self.completed += report.completed;
        self.aborted += report.aborted;
        self.one_way_dropped += report.one_way_dropped;
        self.stuck += report.stuck;
        self.starved += report.starved;
        self.slowest = self.slowest.max(Some((over, plan.index)));
        let late = (!stopped.is_in_time()).then(|| format!("it ended {over:?} after its drain's time"));
        let slow = stopped
            .slow_to_drop
            .then(|| format!("handlers that only wait count as blocked: {report:?}"));
        let wrong = late.or(slow).map(|wrong| format!("{plan}\n{wrong}"));
        self.broken += u64::from(wrong.is_some());
        wrong
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self
            .kinds
            .iter()
            .map(|(kind, count)| format!("{count} by {kind}"));
        let kinds: Vec<_> = kinds.collect();
        writeln!(f, "seed             {}", self.seed)?;
        writeln!(f, "stops            {}", kinds.join(", "))?;
        writeln!(
            f,
            "                 {} with a client that never reads, {} with one that reads slowly, {} with a second signal",
            self.deaf, self.slow, self.second
        )?;
        writeln!(f, "took             {:.1?}", self.took)?;
        writeln!(f, "calls, sends     {}, {}", self.calls, self.sends)?;
        writeln!(
            f,
            "drained          {} clean; {} completed, {} aborted, {} one-ways dropped, {} stuck, {} starved",
            self.clean, self.completed, self.aborted, self.one_way_dropped, self.stuck, self.starved
        )?;
        if let Some((over, index)) = self.slowest {
            writeln!(
                f,
                "slowest          {over:.3?} after its drain's time (stop {index}); {PROMISE:?} and {ALLOWANCE:?} are allowed"
            )?;
        }
        write!(f, "broken           {}", self.broken)
    }
}

fn kind(stop: Stop) -> usize {
    use history::stops::Signal;
    match stop {
        Stop::Signal(Signal::Term) => 0,
        Stop::Signal(Signal::Int) => 1,
        Stop::Terminate => 2,
        Stop::TerminateAnd(_) => 3,
    }
}
