//! Runs each attack on a server in a process of its own, and shows the results.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use attacks::{attack, report, serve};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rpc_runtime::Limits;
use tokio::runtime::Runtime;

/// Runs each attack on a server in a process of its own, and shows the results.
///
/// The exit code is 0 if the server answered each attack correctly, stayed alive and within its memory, and failed no legitimate
/// call. Otherwise it is 1.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    /// The duration of each attack in seconds. Default: each attack sends a small fixed number.
    #[arg(long)]
    seconds: Option<u64>,

    /// Runs only attacks whose names contain this text.
    #[arg(long, default_value = "")]
    only: String,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves as the target.
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        connections: Option<usize>,
        #[arg(long)]
        hasty: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(Command::Serve { connections, hasty }) = args.command {
        let mut limits = Limits::default();
        if hasty {
            let second = Duration::from_secs(1);
            limits = limits.slow_frame(second).write_stall(second);
        }
        if let Err(error) = runtime.block_on(serve::serve(limits, connections)) {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
        return ExitCode::SUCCESS;
    }
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("error: cannot find this program: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut attacks = attack::all();
    attacks.retain(|attack| attack.name.contains(&args.only));
    let bar = progress_bar(attacks.len() as u64);
    println!("{}", report::HEAD);
    let mut failed = 0;
    for attack in &attacks {
        bar.set_message(format!("{}: {}", attack.name, attack.what));
        let result = report::run(&program, attack, args.seconds.map(Duration::from_secs)).await;
        bar.suspend(|| match result {
            Ok(report) => println!("{report}"),
            Err(failure) => {
                failed += 1;
                println!("| {} | FAILED: {failure} |", attack.name);
            }
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    if failed == 0 && !attacks.is_empty() {
        println!("\n{} attacks, all answered correctly", attacks.len());
        ExitCode::SUCCESS
    } else {
        println!("\nFAILED    {failed} of {} attacks", attacks.len());
        ExitCode::FAILURE
    }
}

/// Makes a progress bar, which is hidden without a terminal.
fn progress_bar(attacks: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(attacks), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} attacks\n{msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
