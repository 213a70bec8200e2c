//! Cluster: simulations of three servers behind each client, which finds and balances them, while servers and links fail, and resolvers change
//! their minds.
//!
//! Everything follows from the seed, as in [`simulation`](crate::simulation).

mod plan;
mod registry;

use std::time::Duration;

use rpc_runtime::{
    Client, Server,
    server::TerminatePolicy,
    sim::{self, Failure, Node, Sim},
};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, sleep},
};

use self::{
    plan::{Plan, SERVERS, all, next_answer},
    registry::Registry,
};
use crate::{
    check::{Rules, check},
    journal::Journal,
    load::Load,
    probe,
    simulation::Outcome,
};

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
    let servers: Vec<Node> = (0..SERVERS)
        .map(|number| start(sim, number, &plan, &journal))
        .collect();
    let registries: Vec<Registry> = (0..plan.clients).map(|_| Registry::new()).collect();
    let clients = registries.iter().map(|registry| plan.client(registry)).collect();
    registries.iter().for_each(|registry| registry.answer(all()));
    let load = Load::new(sim.draw(0..u64::MAX))
        .users(plan.users)
        .calls(plan.calls)
        .mix(plan.mix.clone())
        .start(clients);
    sim.storm(plan.faults.clone());
    let progress = load.progress();
    let mut others = JoinSet::new();
    let mut next_drain = plan.drains;
    let mut next_churn = plan.churn;
    while !progress.is_over() {
        sleep(TICK).await;
        let now = sim.elapsed();
        if next_drain.is_some_and(|at| at <= now) {
            next_drain = plan.drains.map(|every| now + every);
            others.spawn(drain(sim.draw(0..SERVERS)));
        }
        if let Some(most) = plan.churn.filter(|_| next_churn.is_some_and(|at| at <= now)) {
            let registry = &registries[sim.draw(0..plan.clients) as usize];
            registry.answer(next_answer(sim));
            next_churn = Some(now + most.mul_f64(sim.draw(0..1000) as f64 / 1000.0));
        }
        if now > STORM {
            sim.calm();
            registries.iter().for_each(|registry| registry.answer(all()));
            (next_drain, next_churn) = (None, None);
        }
        assert!(
            now < PATIENCE,
            "the load is not over after {PATIENCE:?}: {} of {} calls have ended",
            progress.ended(),
            plan.calls
        );
    }
    sim.calm();
    registries.iter().for_each(|registry| registry.answer(all()));
    others.shutdown().await;
    load.recover(RECOVERY).await;
    let history = load.finish().await;
    drop(registries);
    let took = sim.elapsed();
    no_task_is_left().await;
    // Handlers that still run are dropped, and their journal says so.
    servers.iter().for_each(Node::kill);
    sleep(TICK).await;
    assert_eq!(journal.open(), 0, "handlers are left");
    let records = journal.read().unwrap_or_default();
    let rules = Rules::always()
        .handlers_end(true)
        .started_within(SLACK)
        .covered_sends_are_told(plan.servers_stay);
    match check(&records, &history, rules) {
        Ok(summary) => Outcome {
            summary,
            took,
            digest: sim.digest(),
        },
        Err(violations) => {
            let stories: Vec<String> = violations.iter().take(10).map(ToString::to_string).collect();
            panic!("{} violations\n  {}", violations.len(), stories.join("\n  "))
        }
    }
}

/// Starts a server, which serves again after each drain.
fn start(sim: &Sim, number: u64, plan: &Plan, journal: &Journal) -> Node {
    let (plan, journal, world) = (plan.clone(), journal.clone(), sim.clone());
    sim.node(&format!("server{number}"), move || {
        let (plan, journal) = (plan.clone(), journal.on_node(number as u32, world.elapsed()));
        async move {
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
    })
}

/// Drains a server, which may be down, or end before it replies.
async fn drain(server: u64) {
    let _ = Client::connect_lazy(format!("tcp://server{server}:5005"))
        .terminate()
        .await;
}

/// Waits until no task of the clients is left.
///
/// # Panics
///
/// If some are left.
async fn no_task_is_left() {
    let began = Instant::now();
    loop {
        let tasks = Handle::current().metrics().num_alive_tasks();
        if tasks == 0 {
            return;
        }
        assert!(began.elapsed() < LEFT, "{tasks} tasks of closed clients are left");
        sleep(TICK).await;
    }
}

/// The interval at which the scenario acts.
const TICK: Duration = Duration::from_millis(50);
/// The maximum duration of faults.
const STORM: Duration = Duration::from_secs(5 * 60);
/// The maximum virtual time of a load; each of its calls has a deadline.
const PATIENCE: Duration = Duration::from_secs(40 * 60);
/// The time after the last fault in which calls must be good again.
const RECOVERY: Duration = Duration::from_secs(60);
/// The longest time that a request may be on its way, or wait in a frozen server: several faults may follow each other.
const SLACK: Duration = Duration::from_secs(30);
/// The time in which the tasks of closed clients must end. A connection waits for a peer that is gone and does not say so.
const LEFT: Duration = Duration::from_secs(60);
