//! Measures how long a heartbeat takes while messages of 4 MiB fill the same connection in both directions.
//!
//! Each round measures the heartbeat alone, then beside bulk calls of [`Priority::Bulk`], then beside the same calls without
//! priorities. Client and server have a runtime each, with two workers. Client, server and kernel share the machine's cores,
//! so only ratios within one run mean something.
//!
//! `cargo run --release -p rpc-runtime --example heartbeat [ROUNDS]`

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rpc_runtime::{
    Bytes, Client, Error, Priority, Server,
    server::{Handler, Incoming, Procedure, Service},
};
use tokio::runtime::{Builder, Runtime};

static BEAT: Procedure = Procedure::new("heart.v1.Heart/rpc_beat", 1).with_priority(Priority::Control);
static PLAIN_BEAT: Procedure = Procedure::new("heart.v1.Heart/rpc_plain_beat", 2);
static BULK: Procedure = Procedure::new("heart.v1.Heart/rpc_bulk", 3).with_priority(Priority::Bulk);
static PLAIN_BULK: Procedure = Procedure::new("heart.v1.Heart/rpc_plain_bulk", 4);
static PROCEDURES: [Procedure; 4] = [BEAT, PLAIN_BEAT, BULK, PLAIN_BULK];

/// Returns what it gets.
struct Heart;

impl Service for Heart {
    fn name(&self) -> &'static str {
        "heart.v1.Heart"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_, bytes: Bytes| async move { Ok(bytes) })
    }
}

/// The heartbeats of one round in microseconds, sorted, and the bulk bytes per second of both directions together.
struct Round {
    beats: Vec<f64>,
    bulk: f64,
}

impl Round {
    fn quantile(&self, q: f64) -> f64 {
        let index = (self.beats.len() - 1) as f64 * q;
        self.beats[index.round() as usize]
    }
}

fn main() -> Result<(), Error> {
    let rounds: usize = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(5);
    let (servers, clients) = (runtime(), runtime());
    let address = servers.block_on(async {
        let server = Server::builder()
            .service(Heart)
            .listener("tcp://127.0.0.1:0")
            .signals(false);
        let server = server.bind().await?;
        let address = server.addresses()[0].clone();
        tokio::spawn(server.serve());
        Ok::<_, Error>(address)
    })?;
    let scenes: [(&str, &'static Procedure, Option<&'static Procedure>); 3] = [
        ("alone", &BEAT, None),
        ("beside bulk", &BEAT, Some(&BULK)),
        ("beside bulk, no priorities", &PLAIN_BEAT, Some(&PLAIN_BULK)),
    ];
    let mut results: [Vec<Round>; 3] = Default::default();
    for round in 0..rounds {
        for ((name, beat, bulk), results) in scenes.iter().zip(&mut results) {
            progress(&format!("round {} of {rounds}: {name}", round + 1));
            // Needs a connection of its own: a connection that has carried urgent calls paces long messages.
            let client = clients.block_on(Client::connect(&address))?;
            results.push(clients.block_on(measure(&client, beat, *bulk))?);
        }
    }
    progress("");
    println!(
        "{BULK_LEN} bytes there and back, {IN_FLIGHT} in flight, one connection over {address}, {rounds} rounds\n"
    );
    println!("| heartbeat of {BEAT_LEN} bytes | p50, µs | p99, µs | p99 against alone | bulk, GB/s |");
    println!("|---|---|---|---|---|");
    let alone = median(results[0].iter().map(|round| round.quantile(0.99)));
    for ((name, ..), rounds) in scenes.iter().zip(&results) {
        let p50 = median(rounds.iter().map(|round| round.quantile(0.5)));
        let p99 = median(rounds.iter().map(|round| round.quantile(0.99)));
        let bulk = median(rounds.iter().map(|round| round.bulk)) / 1e9;
        println!(
            "| {name} | {p50:.0} | {p99:.0} | {:.2} | {bulk:.2} |",
            p99 / alone
        );
    }
    servers.shutdown_background();
    Ok(())
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the OS gives two threads")
}

/// Measures heartbeats with a pause before each, beside bulk calls if there are any.
async fn measure(
    client: &Client,
    beat: &'static Procedure,
    bulk: Option<&'static Procedure>,
) -> Result<Round, Error> {
    let (over, moved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..IN_FLIGHT {
        let Some(bulk) = bulk else { break };
        let (client, over, moved) = (client.clone(), Arc::clone(&over), Arc::clone(&moved));
        tasks.push(tokio::spawn(async move {
            let request = Bytes::from(vec![7; BULK_LEN]);
            while !over.load(Ordering::Relaxed) {
                let reply: Bytes = client.call().send_recv(bulk, request.clone()).await?;
                moved.fetch_add(2 * reply.len() as u64, Ordering::Relaxed);
            }
            Ok::<_, Error>(())
        }));
    }
    tokio::time::sleep(WINDOW / 5).await;
    let (begun, moved_before) = (Instant::now(), moved.load(Ordering::Relaxed));
    let mut beats = Vec::new();
    while begun.elapsed() < WINDOW {
        let client = client.clone();
        let start = Instant::now();
        let call = tokio::spawn(async move {
            let request = Bytes::from_static(&[7; BEAT_LEN]);
            client.call().send_recv::<_, Bytes>(beat, request).await
        });
        call.await.expect("the task does not panic")?;
        beats.push(start.elapsed().as_secs_f64() * 1e6);
        tokio::time::sleep(PAUSE).await;
    }
    let bulk = (moved.load(Ordering::Relaxed) - moved_before) as f64 / begun.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("the task does not panic")?;
    }
    beats.sort_by(f64::total_cmp);
    Ok(Round { beats, bulk })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Shows the progress, on a terminal only.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
        let _ = std::io::stderr().flush();
    }
}

const BULK_LEN: usize = 4_000_000;
const IN_FLIGHT: usize = 4;
const BEAT_LEN: usize = 64;
const PAUSE: Duration = Duration::from_millis(2);
const WINDOW: Duration = Duration::from_secs(2);
