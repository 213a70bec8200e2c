//! Servers and clients over turmoil's TCP, by custom transports: a simulator that is not ours finds no fault either.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use rpc_runtime::{Client, Code, Executed, Server};
use simulation::{
    Disk, Tickets, Toy,
    toy::v1::{CounterClient, CounterServer},
};
use turmoil::{
    Builder, Sim,
    net::{TcpListener, TcpStream},
};

/// The accepted streams of a listener.
struct Accepted(Pin<Box<dyn Future<Output = (io::Result<TcpStream>, TcpListener)> + Send>>);

impl Accepted {
    fn new(listener: TcpListener) -> Self {
        Self(Box::pin(async {
            let accepted = listener.accept().await;
            (accepted.map(|(stream, _)| stream), listener)
        }))
    }
}

impl Stream for Accepted {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll(cx).map(|(accepted, listener)| {
            *self = Self::new(listener);
            Some(accepted)
        })
    }
}

fn sim(seed: u64) -> Sim<'static> {
    // The library draws random numbers from the thread's generator.
    fastrand::seed(seed);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .enable_random_order()
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(40))
        .simulation_duration(Duration::from_secs(600))
        .build();
    let disk = Disk::default();
    sim.host("counter", move || {
        let toy = Toy::new(disk.clone(), Tickets::OnDisk);
        async {
            let listener = TcpListener::bind("0.0.0.0:5005").await?;
            let server = Server::builder().service(CounterServer::new(toy)).signals(false);
            server
                .incoming("turmoil", Accepted::new(listener))
                .serve()
                .await?;
            Ok(())
        }
    });
    sim
}

fn client() -> CounterClient {
    let client = Client::builder("counter:5005").connector(TcpStream::connect::<String>);
    CounterClient::new(client.connect_lazy())
}

#[test]
fn calls_over_turmoil_run_once_while_its_host_crashes() {
    for seed in 0..20 {
        let mut sim = sim(seed);
        sim.client("user", async move {
            let client = client();
            for number in 0..100 {
                let ticket = format!("ticket {number}");
                let second = Duration::from_secs(1);
                while client
                    .send_recv()
                    .timeout(second)
                    .add(&*ticket, 1_u64)
                    .await
                    .is_err()
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            let total = client.send_recv().total().await?;
            assert_eq!(total, 100, "seed {seed}");
            Ok(())
        });
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..5 {
            for _ in 0..random.usize(20..500) {
                if sim.step().unwrap() {
                    break;
                }
            }
            sim.crash("counter");
            for _ in 0..random.usize(1..100) {
                sim.step().unwrap();
            }
            sim.bounce("counter");
        }
        sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn a_partition_over_turmoil_is_found() {
    let mut sim = sim(7);
    sim.client("user", async move {
        let client = client();
        client.send_recv().total().await?;
        let call = client
            .send_recv()
            .timeout(Duration::from_secs(300))
            .sleep(200_000_u64);
        let begun = tokio::time::Instant::now();
        let partition = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            turmoil::partition("user", "counter");
        };
        let (error, ()) = tokio::join!(call, partition);
        let error = error.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unavailable, Executed::Maybe),
            "{error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(52), "{:?}", begun.elapsed());
        turmoil::repair("user", "counter");
        client
            .send_recv()
            .timeout(Duration::from_secs(60))
            .total()
            .await?;
        Ok(())
    });
    sim.run().unwrap();
}
