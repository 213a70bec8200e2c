//! Builds the peers, measures them round-robin, prints a Markdown report and writes a chart.
//!
//! `cargo run --release -p runner -- --help` tells the options; `README.md` explains what is measured.

mod awake;
mod chart;
mod count;
mod losses;
mod machine;
mod measure;
mod peers;
mod process;
mod relay;
mod report;
mod results;
mod scenarios;
mod targets;

use std::{error::Error, fs, io::Write, path::PathBuf};

use clap::Parser;
use serde_json::Value;

/// Measures this project beside other RPC frameworks, and beside limits that none can beat.
#[derive(Parser)]
struct Options {
    /// Rounds; each goes over all peers, and medians and ratios are taken over rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long calls are counted, in each round, for each peer and scenario.
    #[arg(long, default_value_t = 1500)]
    window_ms: u64,
    /// How long calls are made before that.
    #[arg(long, default_value_t = 400)]
    warmup_ms: u64,
    /// Less than ten minutes: only what has to do with small messages, and only rpc, tonic, ZeroMQ and L1. The options for
    /// peers and scenarios choose others.
    #[arg(long)]
    brief: bool,
    /// About five minutes: only what has to do with gRPC, by tonic, grpc-go and this project, each as client, server or both.
    #[arg(long)]
    grpc: bool,
    /// Only these peers, by the labels of the report, separated by commas.
    #[arg(long, value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Only these scenarios, separated by commas.
    #[arg(long, value_delimiter = ',')]
    scenarios: Option<Vec<String>>,
    /// Keeps the processors awake by programs of idle priority. It shows what a framework costs without the time that a processor
    /// takes to wake.
    #[arg(long)]
    awake: bool,
    /// Leaves out instructions, system calls and bytes per call.
    #[arg(long)]
    no_count: bool,
    /// Takes the binaries as they are.
    #[arg(long)]
    no_build: bool,
    /// Where RESULTS.md and results.svg go; without it they are only printed, resp. not written.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measures nothing: reports what an earlier run has left in raw.jsonl of this directory. With several directories,
    /// separated by commas, the rounds of the later runs are added to those of the first.
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    again: Vec<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let rows = match options.again.as_slice() {
        [] => measured(&options)?,
        dirs => {
            let runs = dirs.iter().map(|dir| read(dir.join("raw.jsonl")));
            results::joined(runs.collect::<Result<_, _>>()?)?
        }
    };
    let text = report::markdown(&rows);
    if let Some(dir) = &options.out {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("RESULTS.md"), &text)?;
        fs::write(dir.join("results.svg"), chart::svg(&rows))?;
        write(dir.join("raw.jsonl"), &rows)?;
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn measured(options: &Options) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut rows = vec![machine::row(options)];
    let (ready, skipped) = peers::prepare(options);
    rows.extend(skipped);
    let awake = options.awake.then(awake::Awake::start).transpose()?;
    rows.extend(measure::time(options, &ready));
    drop(awake);
    if !options.no_count {
        rows.extend(count::count(options, &ready));
    }
    Ok(rows)
}

fn read(path: PathBuf) -> Result<Vec<Value>, Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn write(path: PathBuf, rows: &[Value]) -> std::io::Result<()> {
    let lines: Vec<_> = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(path, lines.concat())
}
