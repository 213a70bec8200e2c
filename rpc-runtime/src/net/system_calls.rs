//! System calls: a regression gate on the number of reads and writes of streams for each call.
//!
//! It counts operations, never time. Client and server share one thread and a stream in memory, so the order of
//! everything is the same each time. System calls that wait or wake a thread are not counted here; the benchmark counts
//! all system calls with `perf`.
//!
//! `cargo test -p rpc-runtime --lib system_calls -- --nocapture` prints the counts.

use std::{cell::Cell, io, sync::Arc, task::Poll};

use bytes::Bytes;

use crate::{Client, Handler, Incoming, Procedure, Server, Service};

thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

/// Counts a read or write of a stream that completed.
pub(super) fn count<T>(moved: &Poll<io::Result<T>>) {
    if moved.is_ready() {
        COUNT.set(COUNT.get() + 1);
    }
}

static ECHO: Procedure = Procedure::new("count.v1.Count/rpc_echo", 1);
static NOTE: Procedure = Procedure::new("count.v1.Count/rpc_note", 2);
static PROCEDURES: [Procedure; 2] = [ECHO, NOTE];

struct CountService;

impl Service for CountService {
    fn name(&self) -> &'static str {
        "count.v1.Count"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_, bytes: Bytes| async move { Ok(bytes) })
    }
}

/// Connects a client to a new server on this thread.
async fn client(name: &str) -> Arc<Client> {
    let address = format!("mem:system-calls-{name}");
    let server = Server::builder()
        .service(CountService)
        .listener(&address)
        .signals(false);
    tokio::spawn(server.bind().await.unwrap().serve());
    Arc::new(Client::connect(&address).await.unwrap())
}

const MESSAGE: Bytes = Bytes::from_static(&[7; 64]);

async fn call(client: Arc<Client>, calls: u32) {
    for _ in 0..calls {
        let _: Bytes = client.call().send_recv(&ECHO, MESSAGE).await.unwrap();
    }
}

/// Returns the average number of reads and writes of both sides for each call.
async fn per_call(in_flight: u32) -> f64 {
    const EACH: u32 = 100;
    let client = client(&in_flight.to_string()).await;
    call(Arc::clone(&client), 10).await;
    let before = COUNT.get();
    let callers: Vec<_> = (0..in_flight)
        .map(|_| tokio::spawn(call(Arc::clone(&client), EACH)))
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    f64::from(COUNT.get() - before) / f64::from(in_flight * EACH)
}

#[tokio::test]
async fn calls_in_flight_share_reads_and_writes() {
    // Each limit is the measured count plus about a tenth, for a busy machine. Lower it with each gain.
    for (in_flight, most) in [(1, 4.2), (16, 0.3), (64, 0.2), (256, 0.1)] {
        let each = per_call(in_flight).await;
        println!("{each:.3} reads and writes per call, {in_flight} in flight; at most {most} are allowed");
        assert!(
            each <= most,
            "{each} reads and writes per call, {in_flight} in flight"
        );
    }
}

#[tokio::test]
async fn one_ways_share_reads_and_writes() {
    const SENDS: u32 = 10_000;
    let client = client("one-way").await;
    call(Arc::clone(&client), 10).await;
    let before = COUNT.get();
    for _ in 0..SENDS {
        client.call().send(&NOTE, MESSAGE).await.unwrap();
    }
    client.barrier().await.unwrap();
    let each = f64::from(COUNT.get() - before) / f64::from(SENDS);
    println!("{each:.4} reads and writes per one-way call");
    assert!(each <= 0.0075, "{each} reads and writes per one-way call");
}
