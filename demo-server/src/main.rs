//! Serves the Kv demo until a client, SIGTERM or Ctrl-C terminates it.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod system;

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use demo_api::demo::kv::v1::KvServer;
use demo_server::Store;
use rpc_http::Http;
use rpc_runtime::{DrainReport, Error, Limits, Server, server::TerminatePolicy};
use rpc_services::{Health, Inspect, Reflection};
use tracing_subscriber::EnvFilter;

use self::system::Sockets;

/// Serves the Kv demo until a client, SIGTERM or Ctrl-C terminates it.
///
/// Prints one line per address on stdout, `listening tcp://127.0.0.1:5005`, with the real port. Everything else goes to
/// stderr. Exit code: 0 after a clean drain, 6 if the drain cut off calls, 5 if the server cannot listen.
///
/// At SIGUSR2 it starts the program at its path again, which takes over its listening sockets.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// An address to listen on: tcp://host:port (port 0 takes a free one), unix:/path (on Windows pipe:name), or fd:NAME for a socket of systemd. May be
    /// repeated.
    #[arg(long, value_name = "ADDRESS", default_value = "tcp://127.0.0.1:5005")]
    listen: Vec<String>,

    /// The networks of the proxies that connect, as 10.0.0.0/8: each connection over TCP then begins with a PROXY header, version 2. May be
    /// repeated.
    #[arg(long, value_name = "NETWORK")]
    behind_proxy: Vec<String>,

    /// The time for open calls to finish after a terminate, in seconds. Default: 30, or with --lame-duck what makes the whole stop 29 s.
    #[arg(long, value_name = "SECONDS")]
    drain_timeout: Option<u64>,

    /// The time after SIGTERM in which the server still accepts, and says that it is not ready, in seconds. Kubernetes needs some.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    lame_duck: u64,

    /// The most open calls of one connection, at least 16.
    #[arg(long, value_name = "CALLS", default_value_t = 1024)]
    max_calls: u32,

    /// The longest accepted message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024)]
    max_message: u64,

    /// The most connections at once.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 10_000)]
    max_connections: usize,

    /// The peers that may terminate the server: processes of this machine and this user (local), all processes of this
    /// machine (loopback), or none (disabled).
    #[arg(long, value_enum, default_value = "local")]
    terminate: Terminate,

    /// An address for metrics, probes and debug pages over HTTP, such as tcp://127.0.0.1:9464. The line `admin ADDRESS` on stdout has the
    /// real port.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Terminate {
    Local,
    Loopback,
    Disabled,
}

fn main() -> ExitCode {
    // First of all, before there are other threads.
    let sockets = Sockets::take();
    // The path of this program as long as it is there: a new version may replace the file.
    let program = env::current_exe();
    let args = Args::parse();
    // RUST_LOG=debug shows every connection. Payloads and metadata values are never logged.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    // `run` ends the process even if a handler blocks its thread for ever.
    rpc_runtime::run(async {
        match serve(args, sockets, program.map(OsString::from)).await {
            Ok(report) => {
                eprintln!("terminated: {report}");
                report.exit_code()
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::from(5)
            }
        }
    })
}

async fn serve(
    args: Args,
    sockets: Result<Sockets, Error>,
    program: io::Result<OsString>,
) -> Result<DrainReport, Error> {
    let mut sockets = sockets?;
    let health = Health::new();
    let pages = rpc_admin::builder().health(health.handle());
    let mut server = Server::builder()
        .service(KvServer::new(Store::default()))
        .service(health)
        .service(Reflection::new())
        // For those who may terminate the server.
        .service(Inspect::new())
        .guest(Http::new().grpc())
        .limits(
            Limits::default()
                .max_calls(args.max_calls)
                .max_message(args.max_message),
        )
        .max_connections(args.max_connections)
        .lame_duck(Duration::from_secs(args.lame_duck))
        .terminate_policy(match args.terminate {
            Terminate::Local => TerminatePolicy::default(),
            Terminate::Loopback => TerminatePolicy::loopback(),
            Terminate::Disabled => TerminatePolicy::disabled(),
        });
    if let Some(seconds) = args.drain_timeout {
        server = server.drain_timeout(Duration::from_secs(seconds));
    }
    for address in &args.listen {
        for endpoint in sockets.endpoints(address)? {
            let is_proxied = !args.behind_proxy.is_empty() && !address.starts_with("unix:");
            server = server.listener(match is_proxied {
                true => endpoint.behind_proxies(&args.behind_proxy),
                false => endpoint,
            });
        }
    }
    drop(sockets);
    let server = server.bind().await?;
    // It goes on while the server drains, and ends with this function.
    let admin = match args.admin {
        Some(address) => Some(pages.listen(address).await?),
        None => None,
    };
    for address in server.addresses() {
        println!("listening {address}");
    }
    if let Some(admin) = &admin {
        println!("admin {}", admin.address());
    }
    if let Some(address) = server.addresses().first() {
        eprintln!("try:  cargo run -p demo-client -- --connect {address}");
        eprintln!("stop: Ctrl-C, or: cargo run -p demo-client -- --connect {address} terminate");
        if let Some(place) = place_in_grpcurl(address) {
            eprintln!(r#"gRPC: grpcurl -plaintext -d '{{"text":"hello"}}' {place} demo.kv.v1.Kv/rpc_ping"#);
        }
    }
    if let Ok(program) = program {
        tokio::spawn(system::replace_when_asked(program, server.handle()));
    }
    system::serve(server).await
}

/// The address of the server, as grpcurl takes it.
fn place_in_grpcurl(address: &str) -> Option<&str> {
    match address.strip_prefix("tcp://") {
        Some(place) => Some(place),
        // Not by its flag `-unix`, which grpcurl 1.9 takes and does not obey.
        None => address.starts_with("unix:").then_some(address),
    }
}
