//! Runs very many simulations of servers and clients under faults, each from a seed, and checks in each that every call ran
//! as often as its caller was told.

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
use history::{check::Summary, simulation::simulate};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Runs very many simulations of servers and clients under faults, each from a seed, and checks in each that every call ran
/// as often as its caller was told.
///
/// Ends with 0 if no promise was broken, otherwise with 1; each seed that failed is printed with what had been done to nodes
/// and links, and fails again by `--from SEED --seeds 1`.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,

    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,

    /// How many at once; as many as there are cores if it is not said.
    #[arg(long)]
    threads: Option<usize>,

    /// How often each seed is run: every time, the same bytes have to arrive at the same times.
    #[arg(long, default_value_t = 1)]
    repeat: u32,

    /// Prints what each seed came to.
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

/// What all seeds came to.
#[derive(Default)]
struct Sum {
    summary: Summary,
    took: Duration,
    failed: Vec<u64>,
}

/// Runs one seed; how it failed, if it did.
fn run(seed: u64, args: &Args, sum: &Mutex<Sum>) -> Option<String> {
    let mut digest = None;
    for _ in 0..args.repeat.max(1) {
        let outcome = match simulate(seed) {
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

/// A bar on a terminal, and nothing in a pipe.
fn progress_bar(seeds: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(seeds), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} seeds, {per_sec}, {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
