//! The client of the Kv demo: a walk through every feature, or one call from the command line.

mod walk;

use std::{error::Error as StdError, process::ExitCode};

use clap::{Parser, Subcommand};
use demo_api::demo::kv::v1::{KvClient, KvServer, WatchEvent};
use demo_server::Store;
use rpc_runtime::{Code, Error, Server, server::TerminatePolicy};

use crate::walk::Walk;

/// Calls the Kv demo.
///
/// Without a command it uses every feature once, on the server at --connect. Without --connect it starts a server of its
/// own. Exit code: 0 if all went well, 1 if a call was refused, 3 if no server answers, 4 if a deadline passed.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The server: tcp://host:port or unix:/path. Default for commands: tcp://127.0.0.1:5005.
    #[arg(long, value_name = "ADDRESS", global = true)]
    connect: Option<String>,

    /// Terminates the server at --connect after the walk. The walk always terminates a server of its own.
    #[arg(long)]
    terminate: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stores VALUE under KEY.
    Update {
        /// The key.
        key: String,
        /// The new value.
        value: String,
    },
    /// Prints the value of KEY.
    Fetch {
        /// The key of an earlier update.
        key: String,
    },
    /// Prints the keys that begin with PREFIX with their values, and then each change, until the server stops.
    Watch {
        /// The beginning of the keys. Default: all keys.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Measures how fast the server answers.
    Ping,
    /// Tells the server to finish its open calls and to stop.
    Terminate,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Some(command) => run(command, args.connect.as_deref().unwrap_or(DEFAULT_ADDRESS)).await,
        None => walk(args.connect, args.terminate).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(match error.downcast_ref().map(Error::code) {
                Some(Code::Unavailable) => 3,
                Some(Code::DeadlineExceeded) => 4,
                _ => 1,
            })
        }
    }
}

/// Runs one command against the server at `address`.
async fn run(command: Command, address: &str) -> Result<ExitCode, Box<dyn StdError>> {
    let kv = KvClient::connect(address).await?;
    match command {
        Command::Update { key, value } => {
            kv.send_recv().update(key, value).await?;
            println!("ok");
        }
        Command::Fetch { key } => {
            let Some(value) = kv.send_recv().fetch(&key).await? else {
                eprintln!("no value under {key:?}");
                return Ok(ExitCode::from(1));
            };
            println!("{}", String::from_utf8_lossy(&value));
        }
        Command::Watch { prefix } => {
            let mut events = kv.send_recv().timeout(None).watch(prefix).await?;
            while let Some(WatchEvent { key, value }) = events.message().await? {
                println!("{key} {}", String::from_utf8_lossy(&value));
            }
        }
        Command::Ping => println!("{address} answered in {:?}", kv.ping().await?),
        Command::Terminate => println!("terminated: {}", kv.send_recv().terminate().await?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Walks through every feature.
async fn walk(connect: Option<String>, terminate: bool) -> Result<ExitCode, Box<dyn StdError>> {
    if let Some(address) = connect {
        Walk::new(&address, terminate).run().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .listener("tcp://127.0.0.1:0")
        .terminate_policy(TerminatePolicy::loopback())
        .bind()
        .await?;
    let address = server.addresses()[0].clone();
    println!("without --connect, this walk has a server of its own at {address}");
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    let walked = Walk::new(&address, true).run().await;
    if walked.is_err() {
        handle.abort();
    }
    // The walk's last step has terminated the server, or `abort` did. Either way it ends.
    let report = serving.await??;
    walked?;
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

const DEFAULT_ADDRESS: &str = "tcp://127.0.0.1:5005";
