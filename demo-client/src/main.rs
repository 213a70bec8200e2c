//! Calls the Kv demo: a walk through everything, or one procedure from the command line.

mod walk;

use std::{error::Error as StdError, process::ExitCode};

use clap::{Parser, Subcommand};
use demo_api::demo::kv::v1::{KvClient, KvServer, WatchEvent};
use demo_server::Store;
use rpc_runtime::{Code, Error, Server, TerminatePolicy};

use crate::walk::Walk;

/// Calls the Kv demo.
///
/// Without a command it walks through everything, against the server at --connect or, without it, against one that it
/// starts inside itself. Ends with 0 if all went well, 1 if a call was refused, 3 if nobody answers, 4 if a deadline
/// passed.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The server: tcp://host:port or unix:/path. Commands use tcp://127.0.0.1:5005 if it is not given.
    #[arg(long, value_name = "ADDRESS", global = true)]
    connect: Option<String>,

    /// After the walk, terminate the server at --connect; a server of our own is always terminated.
    #[arg(long)]
    terminate: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stores VALUE under KEY.
    Update {
        /// Where to store it.
        key: String,
        /// What to store.
        value: String,
    },
    /// Prints the value of KEY.
    Fetch {
        /// The key of an earlier update.
        key: String,
    },
    /// Prints the keys that begin with PREFIX and their values, and then each change, until the server stops.
    Watch {
        /// What the keys begin with; all keys, if it is left out.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Asks whether the server answers, and how fast.
    Ping,
    /// Asks the server to finish what it has begun, and to stop.
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

/// Walks through everything.
async fn walk(connect: Option<String>, terminate: bool) -> Result<ExitCode, Box<dyn StdError>> {
    if let Some(address) = connect {
        Walk::new(&address, terminate).run().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .listen("tcp://127.0.0.1:0")
        .terminate(TerminatePolicy::loopback())
        .bind()
        .await?;
    let address = server.addresses()[0].clone();
    println!("no --connect given: this is a server of our own at {address}");
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    let walked = Walk::new(&address, true).run().await;
    if walked.is_err() {
        handle.abort();
    }
    // The walk's last step has terminated the server, or we just did: either way it ends.
    let report = serving.await??;
    walked?;
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

const DEFAULT_ADDRESS: &str = "tcp://127.0.0.1:5005";
