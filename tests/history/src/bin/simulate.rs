//! Runs simulations of servers and clients under faults, each from a seed. Checks that each call ran
//! as its error says.

use std::{
    io::IsTerminal,
    num::NonZero,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use history::{check::Summary, cluster, simulation};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Runs simulations of servers and clients under faults, each from a seed. Checks that each call ran
/// as its error says.
///
/// The exit code is 0 if no promise was broken, otherwise 1. Each failed seed is printed with the faults of nodes
/// and links. `--from SEED --seeds 1` repeats it.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,

    /// The number of seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,

    /// Runs three servers behind each client, which balances its calls over them.
    #[arg(long)]
    cluster: bool,

    /// The number of simulations at once. Default: one per core.
    #[arg(long)]
    threads: Option<usize>,

    /// The number of runs of each seed. In each run, the same bytes must arrive at the same times.
    #[arg(long, default_value_t = 1)]
    repeat: u32,

    /// Prints the outcome of each seed.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let threads = args
        .threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
    let bar = progress_bar(args.seeds);
    let start = Instant::now();
    let next = AtomicU64::new(args.from);
    let end = args.from.saturating_add(args.seeds);
    let sum = Arc::new(Mutex::new(Sum::default()));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let failure = run(seed, &args, &sum);
                    if let Some(failure) = failure {
                        sum.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .failed
                            .push(seed);
                        bar.suspend(|| println!("FAILED    {failure}"));
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{}", sum.summary);
    println!(
        "seeds     {}, {:.0} s of virtual time in {:.1?}",
        args.seeds,
        sum.took.as_secs_f64(),
        start.elapsed()
    );
    if sum.failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("FAILED    seeds {:?}", sum.failed);
    ExitCode::FAILURE
}

/// The outcomes of all seeds.
#[derive(Default)]
struct Sum {
    summary: Summary,
    took: Duration,
    failed: Vec<u64>,
}

/// Runs one seed, and returns its failure.
fn run(seed: u64, args: &Args, sum: &Mutex<Sum>) -> Option<String> {
    let mut digest = None;
    for _ in 0..args.repeat.max(1) {
        let simulated = match args.cluster {
            true => cluster::simulate(seed),
            false => simulation::simulate(seed),
        };
        let outcome = match simulated {
            Ok(outcome) => outcome,
            Err(failure) => return Some(failure.to_string()),
        };
        if args.verbose {
            println!("{seed} {:016x} {:?}", outcome.digest, outcome.took);
        }
        if digest
            .replace(outcome.digest)
            .is_some_and(|before| before != outcome.digest)
        {
            return Some(format!("seed {seed} was not the same when it was repeated"));
        }
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.summary += outcome.summary;
        sum.took += outcome.took;
    }
    None
}

/// Makes a progress bar, which is hidden without a terminal.
fn progress_bar(seeds: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(seeds), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} seeds, {per_sec}, {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
