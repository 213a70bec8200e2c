//! Many clients at a limit, in virtual time: they spread out, and the limit is used.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_runtime::{
    Server, limit,
    middleware::{Middleware, Next, ServerCall, from_fn},
    sim::{self, Sim},
};
use simulation::{
    Disk, Tickets, Toy,
    toy::v1::{CounterClient, CounterServer},
};
use tokio::time::{Instant, sleep};

/// When calls came.
type Arrivals = Arc<Mutex<Vec<Instant>>>;

fn noting(arrivals: Arrivals) -> impl Middleware<ServerCall> {
    from_fn(move |call: ServerCall, next: Next<ServerCall>| {
        arrivals.lock().unwrap().push(Instant::now());
        next.run(call)
    })
}

/// A counter that notes what comes, and takes 25 calls a second of all its callers together.
fn limited_counter(sim: &Sim, arrivals: &Arrivals) {
    let arrivals = Arc::clone(arrivals);
    sim.node("counter", move || {
        let noting = noting(Arc::clone(&arrivals));
        async move {
            let toy = Toy::new(Disk::default(), Tickets::OnDisk);
            let server = Server::builder()
                .layer(noting)
                .layer(limit::rate(25).by(|_| ()))
                .service(CounterServer::new(toy));
            server.listener("tcp://0.0.0.0:5005").serve().await.unwrap();
        }
    });
}

#[test]
fn clients_that_are_refused_together_come_back_one_by_one() {
    sim::check(0..3, |sim| async move {
        let arrivals = Arrivals::default();
        limited_counter(&sim, &arrivals);
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(CounterClient::connect("tcp://counter:5005").await.unwrap());
        }
        // All connections are idle, and all calls begin at once.
        sleep(Duration::from_secs(10)).await;
        let begun = Instant::now();
        let calls: Vec<_> = clients
            .into_iter()
            .map(|client| tokio::spawn(async move { client.send_recv().sleep(0_u64).await.is_ok() }))
            .collect();
        let mut ok = 0;
        for call in calls {
            ok += usize::from(call.await.unwrap());
        }
        let arrivals = arrivals.lock().unwrap().clone();
        // Each call may come four times. That few come a third time shows that the hints fit the limit.
        assert!(arrivals.len() < 3 * CLIENTS, "{} arrivals", arrivals.len());
        assert!(ok > CLIENTS * 9 / 10, "{ok} calls");
        let later = arrivals
            .iter()
            .map(|at| at.duration_since(begun).as_millis() / 100);
        let mut counts = [0; 300];
        later.skip(CLIENTS).for_each(|slot| counts[slot as usize] += 1);
        let peak = counts.iter().max().unwrap();
        assert!(*peak <= CLIENTS / 5, "{peak} calls came back within 100 ms");
    });
}

const CLIENTS: usize = 100;
