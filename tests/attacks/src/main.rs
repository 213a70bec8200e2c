//! Runs each attack on a server in a process of its own, and shows the results.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

use attacks::{
    attack,
    door::Transport,
    report,
    serve::{self, ServeArgs},
    terminates,
};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
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

    /// The transport: over TLS the same attacks come after the handshake, and others attack the handshake.
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    transport: Transport,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves as the target.
    #[command(hide = true)]
    Serve(ServeArgs),
    /// Sends terminates that no server may obey, over each transport and with everything short of the right proof.
    Terminates {
        /// The number of terminates.
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
    },
    /// Sends terminates to a Unix socket.
    #[command(hide = true)]
    TerminateUnix {
        /// The path of the socket.
        path: PathBuf,
        /// The number of terminates.
        count: u64,
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
    match args.command {
        None => runtime.block_on(run(&args)),
        Some(Command::Serve(args)) => code(
            runtime
                .block_on(serve::serve(args))
                .map_err(|error| format!("{error:#}")),
        ),
        Some(Command::Terminates { count }) => code(runtime.block_on(terminates(count))),
        Some(Command::TerminateUnix { path, count }) => {
            let sent = runtime.block_on(terminates::send_all(&path, count));
            code(
                sent.map(|refused| println!("{refused}"))
                    .map_err(|failure| failure.to_string()),
            )
        }
    }
}

fn code(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn terminates(count: u64) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let rows = terminates::run(&program, count).await;
    let rows = rows.map_err(|failure| failure.to_string())?;
    println!("| peer | refused | |\n|---|--:|---|");
    for row in &rows {
        println!("{row}");
    }
    let refused: u64 = rows.iter().filter_map(|row| row.refused).sum();
    println!("\n{refused} terminates refused, none obeyed; each server then obeyed the one peer that may");
    Ok(())
}

async fn run(args: &Args) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("error: cannot find this program: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut attacks = attack::all(args.transport);
    attacks.retain(|attack| attack.name.contains(&args.only));
    let bar = progress_bar(attacks.len() as u64);
    println!("{}", report::HEAD);
    let mut failed = 0;
    for attack in &attacks {
        bar.set_message(format!("{}: {}", attack.name, attack.what));
        let time = args.seconds.map(Duration::from_secs);
        let result = report::run(&program, attack, args.transport, time).await;
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
