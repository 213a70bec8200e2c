//! Measures nothing by itself: makes a number of calls with an exporter, so that callgrind can count their instructions.
//!
//! As `calls.rs` of rpc-runtime, client and server share one thread and a loopback TCP connection:
//! `cargo run --release -p rpc-otel --example calls -- CALLS IN_FLIGHT [RATIO [layer]]`. Without a ratio there is no exporter. With `layer`
//! its layer is within a subscriber of the program's own. The collector is away.

use rpc_runtime::{
    Bytes, Client, Error, Server,
    server::{Handler, Incoming, Procedure, Service},
};
use tracing_subscriber::prelude::*;

static ECHO: Procedure = Procedure::new("calls.v1.Calls/rpc_echo", 1);
static PROCEDURES: [Procedure; 1] = [ECHO];

/// Returns what it gets.
struct Calls;

impl Service for Calls {
    fn name(&self) -> &'static str {
        "calls.v1.Calls"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_, bytes: Bytes| async move { Ok(bytes) })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let (Some(calls), Some(in_flight @ 1..)) = (number(0), number(1)) else {
        eprintln!("usage: calls CALLS IN_FLIGHT [RATIO [layer]]");
        std::process::exit(2);
    };
    let ratio = arguments.get(2).and_then(|text| text.parse().ok());
    let builder = ratio.map(|ratio| rpc_otel::builder("grpc://127.0.0.1:1").sample_ratio(ratio));
    let _exporter = match (builder, arguments.len()) {
        (None, _) => None,
        (Some(builder), ..4) => Some(builder.install()?),
        (Some(builder), _) => {
            let (layer, exporter) = builder.layer()?;
            tracing_subscriber::registry().with(layer).init();
            Some(exporter)
        }
    };
    let server = Server::builder()
        .service(Calls)
        .listener("tcp://127.0.0.1:0")
        .bind()
        .await?;
    let address = server.addresses()[0].clone();
    let serving = tokio::spawn(server.serve());
    let client = Client::builder(&address).connect().await?;
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..calls / in_flight {
                    let request = Bytes::from_static(&[7; 64]);
                    let _: Bytes = client.call().send_recv(&ECHO, request).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task does not panic")?;
    }
    client.close().await?;
    serving.abort();
    Ok(())
}
