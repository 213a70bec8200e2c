//! A power cut in virtual time: nobody waits for the minutes that pass, and a seed repeats every byte.
//!
//! `cargo run -p examples --bin simulation`

use std::{
    error::Error,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use examples::counter::v1::{AddRequest, Counter, CounterClient, CounterServer, Total};
use rpc_runtime::{Context, Result, Server, sim};
use tokio::time::sleep;

/// Keeps its total in memory: a power cut loses it.
#[derive(Default)]
struct InMemory(AtomicU64);

impl Counter for InMemory {
    async fn rpc_add(&self, _: &Context, request: AddRequest) -> Result<Total> {
        let before = self.0.fetch_add(request.amount, Ordering::Relaxed);
        Ok(Total {
            total: before + request.amount,
        })
    }
}

/// Runs inside of the simulation: TCP, timeouts and `sleep` are simulated there.
async fn power_cut(sim: sim::Sim) -> Result<u64, Box<dyn Error>> {
    // A node runs its program each time it starts. Other nodes find it by its name.
    let node = sim.node("counter", || async {
        let server = Server::builder().service(CounterServer::new(InMemory::default()));
        if let Err(error) = server.listener("tcp://0.0.0.0:5005").serve().await {
            println!("server: {error}");
        }
    });
    let minute = Duration::from_secs(60);
    let counter: CounterClient = CounterClient::builder("tcp://counter:5005")
        .timeout(minute)
        .connect_lazy();
    println!(
        "{}: the total is {}",
        at(&sim),
        counter.send_recv().add(5).await?.total
    );
    sleep(Duration::from_secs(60)).await;
    println!(
        "{}: the total is {}",
        at(&sim),
        counter.send_recv().add(5).await?.total
    );

    // Nothing tells the client of a power cut: it finds out by a ping that is not answered.
    node.cut_power();
    let result = counter.send_recv().add(5).await;
    let error = result.err().ok_or("a node without power has answered")?;
    println!("{}: {}, executed: {:?}", at(&sim), error.code(), error.executed());

    node.start();
    println!(
        "{}: the total is {}",
        at(&sim),
        counter.send_recv().add(5).await?.total
    );
    Ok(sim.digest())
}

/// The virtual time, in seconds.
fn at(sim: &sim::Sim) -> String {
    format!("after {:>3} s", sim.elapsed().as_secs())
}

fn main() -> Result<(), Box<dyn Error>> {
    // The seed decides everything that is random: latencies, jitter, faults.
    let first = sim::run(7, power_cut)?;
    println!("again, with the same seed:");
    let second = sim::run(7, power_cut)?;
    println!("the same bytes at the same times: {}", first == second);
    Ok(())
}
