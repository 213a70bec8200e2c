//! Runs each case over each transport, plain and compressed, and over gRPC, and prints a table.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use interop::{
    Failed, Outcome, Over, Site,
    cases::{self, Case},
};
use rpc_runtime::Compression;

/// Runs the gRPC interoperability cases over every transport, plain and compressed, and over gRPC, and prints a table.
///
/// The exit code is 0 if all cases passed, otherwise 1. The reasons are on stderr.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The number of large calls of the soak on one connection, for each transport.
    #[arg(long, value_name = "CALLS", default_value_t = 1000)]
    soak: u64,

    /// The number of connections of the other soak, for each transport. Default: a tenth of the calls.
    #[arg(long, value_name = "CONNECTIONS")]
    connections: Option<u64>,

    /// Runs only this compression.
    #[arg(long, value_name = "NAME")]
    compression: Option<Packing>,
}

/// The compression of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Packing {
    None,
    Zstd,
    Lz4,
}

impl Packing {
    const ALL: [Self; 3] = [Self::None, Self::Zstd, Self::Lz4];

    fn compression(self) -> Option<Compression> {
        match self {
            Self::None => None,
            Self::Zstd => Some(Compression::Zstd),
            Self::Lz4 => Some(Compression::Lz4),
        }
    }
}

/// A row of the table: a case or a soak.
#[derive(Clone, Copy, Debug)]
enum Row {
    Case(Case),
    Calls(u64),
    Connections(u64),
}

impl Row {
    fn name(self) -> String {
        match self {
            Self::Case(case) => case.name.to_owned(),
            Self::Calls(count) => format!("rpc_soak, {count} calls"),
            Self::Connections(count) => format!("channel_soak, {count} connections"),
        }
    }

    /// Returns its number of steps of the progress bar.
    fn steps(self) -> u64 {
        match self {
            Self::Case(_) => 1,
            Self::Calls(count) | Self::Connections(count) => count,
        }
    }

    async fn run(self, over: Over, packing: Packing, bar: &ProgressBar) -> Outcome<Duration> {
        let site = Site::open(over, packing.compression()).await?;
        let begun = Instant::now();
        match self {
            Self::Case(case) => {
                case.run(&site).await?;
                bar.inc(1);
            }
            Self::Calls(count) => cases::rpc_soak(&site, count, || bar.inc(1)).await?,
            Self::Connections(count) => cases::channel_soak(&site, count, || bar.inc(1)).await?,
        }
        let took = begun.elapsed();
        site.close().await?;
        Ok(took)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let rows = rows(&args);
    let columns = columns(&args);
    let steps = rows.iter().map(|row| row.steps()).sum::<u64>() * columns.len() as u64;
    let bar = progress_bar(steps);
    let mut table = header(&columns);
    let mut failures = Vec::new();
    for row in &rows {
        let name = row.name();
        // Writing to a string never fails.
        let _ = write!(table, "| {name:34} |");
        for &(over, packing) in &columns {
            bar.set_message(format!("{name} over {}", title(over, packing)));
            let outcome = row.run(over, packing, &bar).await;
            let _ = write!(table, " {:>10} |", cell(&outcome));
            if let Err(failed) = outcome {
                failures.push((name.clone(), title(over, packing), failed));
            }
        }
        table.push('\n');
    }
    bar.finish_and_clear();
    print!("{table}");
    tell(&failures)
}

fn rows(args: &Args) -> Vec<Row> {
    let mut rows: Vec<_> = cases::ALL.iter().copied().map(Row::Case).collect();
    rows.push(Row::Calls(args.soak));
    rows.push(Row::Connections(args.connections.unwrap_or(args.soak / 10)));
    rows
}

fn columns(args: &Args) -> Vec<(Over, Packing)> {
    let packings = Packing::ALL.into_iter();
    packings
        .filter(|packing| args.compression.is_none_or(|only| only == *packing))
        .flat_map(|packing| Over::ALL.map(|over| (over, packing)))
        // That compression is of our own protocol.
        .filter(|&(over, packing)| over != Over::Grpc || packing == Packing::None)
        .collect()
}

fn title(over: Over, packing: Packing) -> String {
    match packing.compression() {
        None => over.to_string(),
        Some(compression) => format!("{over} {compression}"),
    }
}

fn header(columns: &[(Over, Packing)]) -> String {
    let mut header = format!("| {:34} |", "case");
    for &(over, packing) in columns {
        let _ = write!(header, " {:>10} |", title(over, packing));
    }
    let _ = write!(header, "\n|{:-<36}|", "");
    for _ in columns {
        header.push_str("-----------:|");
    }
    header.push('\n');
    header
}

fn cell(outcome: &Outcome<Duration>) -> String {
    match outcome {
        Ok(took) if *took < Duration::from_secs(10) => format!("{:.1} ms", took.as_secs_f64() * 1e3),
        Ok(took) => format!("{:.1} s", took.as_secs_f64()),
        Err(_) => "FAILED".to_owned(),
    }
}

fn tell(failures: &[(String, String, Failed)]) -> ExitCode {
    for (name, over, failed) in failures {
        eprintln!("error: {name} over {over}: {failed}");
    }
    if failures.is_empty() {
        println!("all passed");
        ExitCode::SUCCESS
    } else {
        println!("{} failed", failures.len());
        ExitCode::FAILURE
    }
}

/// Makes a progress bar, which is hidden without a terminal.
fn progress_bar(steps: u64) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(steps), target);
    match ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} to go: {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
