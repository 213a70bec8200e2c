//! Simulation: the same load and the same check, in virtual time, while nodes and links of a simulated network fail.
//!
//! Everything follows from the seed, so a violation can be looked at again and again.

use std::time::Duration;

use rpc_runtime::{
    Client, Limits, Server,
    server::TerminatePolicy,
    sim::{self, Failure, Faults, Link, Node, Sim},
};

use crate::{
    check::{Rules, Summary, check},
    journal::Journal,
    load::{Load, Mix},
    probe,
};

/// The plan of a simulation, which follows from its seed: servers, clients, load and faults.
#[derive(Clone, Debug)]
struct Plan {
    servers: u64,
    clients: u64,
    users: u32,
    calls: u64,
    mix: Mix,
    limits: Limits,
    faults: Faults,
    link: Link,
    /// The time between two terminates of a server; it comes back at once.
    drains: Option<Duration>,
    drain_timeout: Duration,
    /// True if each call of a client is checked. Corrupted bytes may form calls that no client made.
    is_corrupting: bool,
}

/// The outcome of a simulation that broke no promise.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The checker's summary; `None` if bytes were corrupted, because corrupted calls prove nothing.
    pub summary: Summary,
    /// The virtual time that passed.
    pub took: Duration,
    /// A digest of all deliveries and their times.
    pub digest: u64,
}

/// Runs the simulation of a seed.
///
/// # Errors
///
/// Each broken promise, and the faults of nodes and links before it.
pub fn simulate(seed: u64) -> Result<Outcome, Failure> {
    sim::try_run(seed, |sim| async move { run(&sim).await })
}

async fn run(sim: &Sim) -> Outcome {
    let plan = Plan::draw(sim);
    let journal = Journal::in_memory();
    sim.set_links(plan.link.clone());
    let servers: Vec<Node> = (0..plan.servers)
        .map(|number| {
            let (plan, journal) = (plan.clone(), journal.clone());
            sim.node(&format!("server{number}"), move || {
                serve(plan.clone(), journal.clone())
            })
        })
        .collect();
    let clients = (0..plan.clients).map(|number| {
        let addresses = (0..plan.servers).map(|server| (number + server) % plan.servers);
        let mut addresses = addresses.map(|server| format!("tcp://server{server}:5005"));
        let first = addresses.next().unwrap_or_default();
        let builder = Client::builder(first).limits(plan.limits.clone());
        addresses
            .fold(builder, |builder, address| builder.fallback(address))
            .connect_lazy()
    });
    let clients: Vec<Client> = clients.collect();
    let load = Load::new(sim.draw(0..u64::MAX))
        .users(plan.users)
        .calls(plan.calls)
        .mix(plan.mix.clone())
        .start(clients.clone());
    sim.storm(plan.faults.clone());
    let progress = load.progress();
    let mut next_drain = plan.drains;
    while !progress.is_over() {
        tokio::time::sleep(TICK).await;
        if next_drain.is_some_and(|at| at <= sim.elapsed()) {
            next_drain = plan.drains.map(|every| sim.elapsed() + every);
            let server = format!("tcp://server{}:5005", sim.draw(0..plan.servers));
            tokio::spawn(async move {
                // The server may be down, or end before it replies.
                let _ = Client::connect_lazy(server).terminate().await;
            });
        }
        if sim.elapsed() > STORM {
            sim.calm();
            next_drain = None;
        }
        assert!(
            sim.elapsed() < PATIENCE,
            "the load is not over after {PATIENCE:?}: {} of {} calls have ended",
            progress.ended(),
            plan.calls
        );
    }
    sim.calm();
    let history = load.finish().await;
    let took = sim.elapsed();
    // Handlers that still run are dropped, and their journal says so.
    servers.iter().for_each(Node::kill);
    tokio::time::sleep(TICK).await;
    assert_eq!(journal.open(), 0, "handlers are left");
    let digest = sim.digest();
    if plan.is_corrupting {
        return Outcome {
            took,
            digest,
            ..Outcome::default()
        };
    }
    let records = journal.read().unwrap_or_default();
    let rules = Rules::always().handlers_end(true);
    match check(&records, &history, rules) {
        Ok(summary) => Outcome {
            summary,
            took,
            digest,
        },
        Err(violations) => {
            let stories: Vec<String> = violations.iter().take(10).map(ToString::to_string).collect();
            panic!("{} violations\n  {}", violations.len(), stories.join("\n  "))
        }
    }
}

/// Serves, and serves again after each drain.
async fn serve(plan: Plan, journal: Journal) {
    loop {
        let server = Server::builder()
            .service(probe::service(journal.clone()))
            .limits(plan.limits.clone().one_way_timeout(Duration::from_secs(600)))
            .terminate_policy(TerminatePolicy::custom(|_| true))
            .drain_timeout(plan.drain_timeout)
            .listener("tcp://0.0.0.0:5005");
        let report = server.serve().await;
        report.unwrap_or_else(|error| panic!("a server cannot serve: {error}"));
    }
}

impl Plan {
    fn draw(sim: &Sim) -> Self {
        let millis = |range| Duration::from_millis(sim.draw(range));
        let one_in = |n| sim.draw(0..n) == 0;
        let mut mix = Mix {
            compute: 0,
            block: 0,
            spin: 0,
            burst: 8,
            pause: 0..sim.draw(1..200_000) as u32,
            hang_limit: Some(millis(10..2000)),
            ..Mix::default()
        };
        if one_in(3) {
            mix.large = 40;
        }
        if one_in(3) {
            mix.streams = 60;
        }
        let mut limits = Limits::default();
        if one_in(2) {
            limits = limits
                .keep_alive(millis(100..5000))
                .dead_after(millis(100..5000))
                .ping_floor(millis(50..100));
        }
        if one_in(3) {
            limits = limits
                .call_bytes(64 << 10)
                .send_bytes(64 << 10)
                .high_water(16 << 10);
        }
        if one_in(3) {
            limits = limits.max_calls(16).stream_window(1024);
        }
        if one_in(4) {
            limits = limits.max_age(millis(500..10_000)).max_age_grace(millis(0..1000));
        }
        let is_corrupting = one_in(8);
        let faults = Faults::default()
            .every(millis(5..100)..=millis(100..3000))
            .lasting(millis(1..100)..=millis(100..5000))
            .links(!one_in(4))
            .nodes(!one_in(3))
            .corruption(is_corrupting);
        let link = match sim.draw(0..4) {
            0 => Link::default().latency(Duration::ZERO..=Duration::ZERO),
            1 => Link::default().latency(millis(1..50)..=millis(50..300)),
            2 => Link::default().rate(sim.draw(20_000..2_000_000)),
            _ => Link::default(),
        };
        Self {
            servers: sim.draw(1..4),
            clients: sim.draw(1..4),
            users: sim.draw(1..4) as u32,
            calls: sim.draw(20..800),
            mix,
            limits,
            faults,
            link,
            drains: one_in(2).then(|| millis(200..5000)),
            drain_timeout: millis(0..3000),
            is_corrupting,
        }
    }
}

/// The interval at which the scenario acts.
const TICK: Duration = Duration::from_millis(50);
/// The maximum duration of faults.
const STORM: Duration = Duration::from_secs(5 * 60);
/// The maximum virtual time of a load; each of its calls has a deadline.
const PATIENCE: Duration = Duration::from_secs(40 * 60);
