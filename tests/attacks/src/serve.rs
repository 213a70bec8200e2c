//! Serve: the target of the attacks.

use std::{
    future::pending,
    io::{BufRead, stdin},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use http::{Request, Response};
use rpc_http::Http;
use rpc_runtime::{
    Bytes, Context, Limits, Requests, Result, Server,
    server::{ServerHandle, TerminatePolicy},
    tls::PeerCertificate,
};

use crate::{
    certificates::server_tls,
    target::v1::{EchoRequest, Target, TargetServer, Tree},
};

struct Attacked;

impl Target for Attacked {
    async fn rpc_echo(&self, _: &Context, payload: Bytes) -> Result<Bytes> {
        Ok(payload)
    }

    async fn rpc_large(&self, _: &Context, len: u32) -> Result<Bytes> {
        Ok(vec![7; len.min(4 << 20) as usize - 16].into())
    }

    async fn rpc_hang(&self, _: &Context) -> Result<()> {
        pending().await
    }

    async fn rpc_note(&self, _: &Context, _: Bytes) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }

    async fn rpc_tree(&self, _: &Context, _: Tree) -> Result<()> {
        Ok(())
    }

    async fn rpc_gather(&self, _: &Context, mut requests: Requests<EchoRequest>) -> Result<u32> {
        let mut count = 0;
        while requests.message().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// The arguments of the hidden command `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The maximum number of connections.
    #[arg(long)]
    connections: Option<usize>,
    /// Timeouts of a second, and of 5 s for a handshake, in place of the longer ones.
    #[arg(long)]
    hasty: bool,
    /// Answers requests of HTTP that are no calls, by their bodies.
    #[arg(long)]
    routes: bool,
    /// The folder of the certificates: listens with TLS.
    #[arg(long)]
    certificates: Option<PathBuf>,
    /// The path of a Unix socket to listen on.
    #[arg(long)]
    unix: Option<PathBuf>,
    /// The common name of the certificate that may terminate the server.
    #[arg(long)]
    operator: Option<String>,
}

/// Serves until standard input ends. For each line of it, prints the counters.
///
/// # Errors
///
/// If the server cannot listen.
///
/// # Cancel safety
///
/// Dropping the future aborts the server.
pub async fn serve(args: ServeArgs) -> Result<(), rpc_runtime::Error> {
    // A busy machine takes longer than the default of 30 s for a queue of 20,000 one-way calls.
    let mut limits = Limits::default().one_way_timeout(Duration::from_secs(600));
    if args.hasty {
        let second = Duration::from_secs(1);
        limits = limits
            .slow_frame(second)
            .write_stall(second)
            // A legitimate client on a busy machine takes longer than a second.
            .handshake_timeout(5 * second);
    }
    let mut guest = Http::new().grpc();
    if args.routes {
        guest = guest.routes(page);
    }
    let builder = Server::builder()
        .service(TargetServer::new(Attacked))
        .guest(guest)
        .limits(limits)
        .drain_timeout(Duration::from_secs(1));
    let mut builder = match (&args.certificates, &args.unix) {
        (Some(folder), _) => builder.tls(server_tls(folder)?).listener("tls://127.0.0.1:0"),
        (None, Some(path)) => builder.listener(format!("unix:{}", path.display())),
        (None, None) => builder.listener("tcp://127.0.0.1:0"),
    };
    if let Some(operator) = args.operator {
        builder = builder.terminate_policy(TerminatePolicy::custom(move |cx| {
            let certificate = cx.peer().certificate();
            certificate.and_then(PeerCertificate::common_name) == Some(&operator)
        }));
    }
    if let Some(connections) = args.connections {
        builder = builder.max_connections(connections);
    }
    let server = builder.bind().await?;
    println!("listening {}", server.addresses().join(" "));
    let handle = server.handle();
    std::thread::spawn(move || answer(&handle));
    let report = server.serve().await?;
    println!("drained {report}");
    Ok(())
}

/// The routes: each answer is the body of its request, or a long one.
async fn page(request: Request<Bytes>) -> Response<Bytes> {
    match request.uri().path() {
        "/large" => Response::new(vec![b'x'; 1 << 20].into()),
        _ => Response::new(request.into_body()),
    }
}

fn answer(handle: &ServerHandle) {
    for line in stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        println!("counters {}", handle.counters());
    }
    handle.abort();
}
