//! Measures how long a call waits behind a handler that blocks its thread.
//!
//! The monitor has to notice the blocked thread and to pass its connection to another one. In each round a handler sleeps for
//! 50 ms in its first poll. The time from there to the first poll of the next call is measured. G5 and G9 promise at most
//! 5 ms while a worker is free. Quick calls of the same procedure run between the rounds. Without them the server would find
//! the procedure slow, and would run each of its calls in a task of its own.
//!
//! `cargo run --release -p rpc-runtime --example hand_over [ROUNDS]`

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rpc_runtime::{
    Client, Error, Server,
    server::{Handler, Incoming, Procedure, Service},
};
use tokio::runtime::{Builder, Runtime};

static BLOCK: Procedure = Procedure::new("over.v1.Over/rpc_block", 1);
static BEHIND: Procedure = Procedure::new("over.v1.Over/rpc_behind", 2);
static PROCEDURES: [Procedure; 2] = [BLOCK, BEHIND];

/// `rpc_block` blocks its thread for the given number of milliseconds. `rpc_behind` returns the time since the last block
/// began, in microseconds.
#[derive(Clone, Default)]
struct Over(Arc<Mutex<Option<Instant>>>);

impl Service for Over {
    fn name(&self) -> &'static str {
        "over.v1.Over"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let begun = Arc::clone(&self.0);
        match index {
            0 => call.handle(|_, millis: u64| async move {
                if millis > 0 {
                    *lock(&begun) = Some(Instant::now());
                    thread::sleep(Duration::from_millis(millis));
                }
                Ok(())
            }),
            _ => call.handle(|_, (): ()| async move {
                Ok(lock(&begun).map_or(0, |begun| begun.elapsed().as_micros() as u64))
            }),
        }
    }
}

fn lock(begun: &Mutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    begun.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> Result<(), Error> {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok());
    // The client has a runtime of its own, so that none of its tasks waits behind the handler.
    let (servers, clients) = (runtime(2), runtime(1));
    let address = servers.block_on(serve())?;
    let mut waits = clients.block_on(measure(&address, rounds.unwrap_or(100)))?;
    waits.sort_by(f64::total_cmp);
    let quantile = |q: f64| waits[((waits.len() - 1) as f64 * q).round() as usize];
    println!(
        "behind a handler that blocks for 50 ms, {} rounds: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        waits.len(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(1.0)
    );
    servers.shutdown_background();
    Ok(())
}

/// Starts a server in the background, and returns its address.
async fn serve() -> Result<String, Error> {
    let server = Server::builder()
        .service(Over::default())
        .listener("tcp://127.0.0.1:0")
        .signals(false)
        .bind()
        .await?;
    let address = server.addresses()[0].clone();
    tokio::spawn(server.serve());
    Ok(address)
}

/// Returns the waits of the given number of rounds, in milliseconds.
async fn measure(address: &str, rounds: usize) -> Result<Vec<f64>, Error> {
    let client = Client::connect(address).await?;
    let mut waits = Vec::new();
    for _ in 0..rounds {
        for _ in 0..40 {
            client.call().send_recv::<u64, ()>(&BLOCK, 0).await?;
        }
        client.call().send(&BLOCK, 50_u64).await?;
        let wait: u64 = client.call().send_recv(&BEHIND, ()).await?;
        waits.push(wait as f64 / 1000.0);
        // Each round needs a free worker, so wait for the end of the handler.
        while client.barrier().await?.handled() < waits.len() as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    client.close().await?;
    Ok(waits)
}

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("threads can be started")
}
