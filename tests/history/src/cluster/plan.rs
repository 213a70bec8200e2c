//! Plan: what the simulation of a seed has, and does.

use std::time::Duration;

use rpc_runtime::{
    Client, Limits,
    balance::{First, LeastLoaded, Outliers, RingHash, RoundRobin},
    client::ClientBuilder,
    discover::Endpoint,
    sim::{Faults, Link, Sim},
};
use tokio::time::Instant;

use super::registry::{Answer, Registry};
use crate::load::Mix;

/// The number of servers.
pub(super) const SERVERS: u64 = 3;

/// The plan of a simulation, which follows from its seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) clients: u64,
    pub(super) users: u32,
    pub(super) calls: u64,
    pub(super) mix: Mix,
    pub(super) limits: Limits,
    pub(super) faults: Faults,
    pub(super) link: Link,
    /// The longest time between two changes of a registry; without one, each client knows all servers from the start.
    pub(super) churn: Option<Duration>,
    /// The time between two drains of a server, which comes back at once.
    pub(super) drains: Option<Duration>,
    pub(super) drain_timeout: Duration,
    /// True if no server and no connection ends by plan, so that each one-way call runs, is reported as lost, or is dropped in an account
    /// that its caller sees. What an old connection drops after its grace stands in an account that the next connection's replaces.
    pub(super) servers_stay: bool,
    connections: u64,
    balancer: u64,
    has_outliers: bool,
}

impl Plan {
    pub(super) fn draw(sim: &Sim) -> Self {
        let millis = |range| Duration::from_millis(sim.draw(range));
        let one_in = |n| sim.draw(0..n) == 0;
        let mut mix = Mix {
            compute: 0,
            block: 0,
            spin: 0,
            burst: 8,
            pause: 0..sim.draw(1..200_000) as u32,
            hang_limit: Some(millis(10..2000)),
            repeatable: [0, 30, 100][sim.draw(0..3) as usize],
            settles: one_in(2),
            since: Some(Instant::now()),
            ..Mix::default()
        };
        if one_in(3) {
            mix.large = 40;
        }
        if one_in(3) {
            mix.streams = 50;
        }
        if one_in(4) {
            mix.sends = 80;
        }
        let mut limits = Limits::default();
        if one_in(2) {
            limits = limits
                .keep_alive(millis(100..5000))
                .dead_after(millis(100..5000))
                .ping_floor(millis(50..100));
        }
        if one_in(4) {
            limits = limits
                .call_bytes(64 << 10)
                .send_bytes(64 << 10)
                .high_water(16 << 10);
        }
        if one_in(4) {
            limits = limits.max_calls(16).stream_window(1024);
        }
        let is_aging = one_in(4);
        if is_aging {
            limits = limits.max_age(millis(500..10_000)).max_age_grace(millis(0..1000));
        }
        let servers_stay = one_in(3);
        let faults = Faults::default()
            .every(millis(5..100)..=millis(100..3000))
            .lasting(millis(1..100)..=millis(100..5000))
            .links(servers_stay || !one_in(4))
            .nodes(!servers_stay && !one_in(5));
        let link = match sim.draw(0..4) {
            0 => Link::default().latency(Duration::ZERO..=Duration::ZERO),
            1 => Link::default().latency(millis(1..50)..=millis(50..300)),
            2 => Link::default().rate(sim.draw(20_000..2_000_000)),
            _ => Link::default(),
        };
        Self {
            clients: sim.draw(1..4),
            users: sim.draw(1..4) as u32,
            calls: sim.draw(20..600),
            mix,
            limits,
            faults,
            link,
            churn: (!one_in(5)).then(|| millis(100..5000)),
            drains: (!servers_stay && one_in(2)).then(|| millis(200..5000)),
            drain_timeout: millis(0..3000),
            servers_stay: servers_stay && !is_aging,
            connections: sim.draw(1..3),
            balancer: sim.draw(0..4),
            has_outliers: !one_in(3),
        }
    }

    /// Makes a client that follows `registry`.
    pub(super) fn client(&self, registry: &Registry) -> Client {
        let builder: ClientBuilder = Client::builder("registry:///probe");
        let builder = builder
            .resolver(registry.clone())
            .limits(self.limits.clone())
            .connections(self.connections as usize)
            .zone("zone0");
        let builder = match self.balancer {
            0 => builder.balancer(RoundRobin),
            1 => builder.balancer(First),
            2 => builder.balancer(RingHash),
            _ => builder.balancer(LeastLoaded),
        };
        let outliers = Outliers::default().time(Duration::from_secs(2));
        builder
            .outliers(self.has_outliers.then_some(outliers))
            .connect_lazy()
    }
}

/// The answer of a registry that knows all servers.
pub(super) fn all() -> Answer {
    Answer::Set((0..SERVERS).map(|number| endpoint(number, 1)).collect())
}

/// Draws the next answer of a registry.
pub(super) fn next_answer(sim: &Sim) -> Answer {
    let some = || {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for number in 0..SERVERS {
            match sim.draw(0..8) {
                0..3 => {}
                3 => endpoints.push(endpoint(number, 0)),
                4 => endpoints.insert(0, endpoint(number, 3)),
                5 => endpoints.push(endpoint(number, 1).with_zone(format!("zone{}", number % 2))),
                _ => endpoints.push(endpoint(number, 1)),
            }
        }
        if sim.draw(0..8) == 0 {
            // Nobody listens there.
            endpoints.push(Endpoint::new("server0:5006"));
        }
        endpoints
    };
    match sim.draw(0..12) {
        0 => Answer::Set(Vec::new()),
        1 => Answer::Failure,
        2 => Answer::Silence,
        3 => Answer::Panic,
        4 => Answer::SetOnce(some()),
        5 | 6 => all(),
        _ => Answer::Set(some()),
    }
}

fn endpoint(number: u64, weight: u32) -> Endpoint {
    Endpoint::new(format!("server{number}:5005")).with_weight(weight)
}
