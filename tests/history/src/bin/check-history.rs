//! Checks histories of calls.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use history::child::{self, ServeArgs};

/// Checks histories of calls.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves, as a child process of this program.
    #[command(hide = true)]
    Serve(ServeArgs),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Serve(args) => child::serve(args),
    }
}
