//! A simulation finds the toy's bug, and its seed finds it again. It finds nothing in the toy without the bug.

use std::time::Duration;

use rpc_runtime::{
    Server,
    sim::{self, Faults, Sim},
};
use simulation::{
    Disk, Tickets, Toy,
    toy::v1::{CounterClient, CounterServer},
};
use tokio::time::sleep;

/// Adds ten amounts, one every half a second, and repeats each until it is acknowledged, under faults. Then checks the sum.
async fn adds_each_amount_once(sim: Sim, tickets: Tickets) {
    let disk = Disk::default();
    sim.node("counter", move || {
        let toy = Toy::new(disk.clone(), tickets);
        async {
            let server = Server::builder().service(CounterServer::new(toy));
            server.listener("tcp://0.0.0.0:5005").serve().await.unwrap();
        }
    });
    let counter = CounterClient::connect_lazy("tcp://counter:5005");
    sim.storm(Faults::default());
    for number in 0..10 {
        sleep(Duration::from_millis(500)).await;
        let ticket = format!("ticket {number}");
        let second = Duration::from_secs(1);
        while counter
            .send_recv()
            .timeout(second)
            .add(&*ticket, 1_u64)
            .await
            .is_err()
        {
            sleep(Duration::from_millis(10)).await;
        }
    }
    sim.calm();
    // Earlier connections may still be ending.
    let total = loop {
        match counter.send_recv().total().await {
            Ok(total) => break total,
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    };
    assert_eq!(total, 10, "amounts were added twice, or lost");
}

#[test]
fn a_seed_finds_the_planted_bug_each_time() {
    let fails = |seed| sim::try_run(seed, |sim| adds_each_amount_once(sim, Tickets::InMemory)).err();
    let failure = (0..1000).find_map(|seed| Some((seed, fails(seed)?)));
    let (seed, failure) = failure.expect("no seed of a thousand finds it");
    println!("{failure}");
    assert!(failure.message().contains("added twice"), "{failure}");
    let again = fails(seed).expect("it is not found again");
    assert_eq!(again.to_string(), failure.to_string());
}

#[test]
fn a_correct_service_passes_every_seed() {
    sim::check(0..100, |sim| adds_each_amount_once(sim, Tickets::OnDisk));
}
