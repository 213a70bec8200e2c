//! What this project wants of itself, each a ratio within one run, or a count.

use crate::{
    losses::{rivals, scenarios_behind},
    results::Results,
    scenarios::Scenario,
};

/// One wish, and what came of it.
pub struct Target {
    pub work: String,
    pub wanted: String,
    pub got: f64,
    /// What L1 has in the same run: no framework can be expected to be ahead of it.
    pub limit: Option<f64>,
    pub met: Met,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Met {
    Yes,
    No,
    /// L1 misses it as well.
    BeyondLimit,
}

/// Those that the run has measured, in the report's order.
pub fn targets(all: &Results<'_>) -> Vec<Target> {
    WISHES.iter().filter_map(|wish| wish.target(all)).collect()
}

struct Wish {
    /// Whose wish it is, by its label.
    peer: &'static str,
    /// A scenario's name; empty for what goes over all of them.
    scenario: &'static str,
    figure: Figure,
    bound: Bound,
}

enum Figure {
    /// The scenario's main figure, beside that of this peer.
    Rate(&'static str),
    P50(&'static str),
    /// The scenario's main figure, beside that of the framework with the highest.
    RateOfBest,
    /// The p50, beside that of the framework with the lowest.
    P50OfBest,
    /// The CPU time of both sides.
    Cpu(&'static str),
    /// The CPU time of the server.
    ServerCpu(&'static str),
    /// The memory of an idle connection.
    Memory(&'static str),
    /// The p99 of small calls beside bulk, to the p99 of the same calls alone.
    Growth,
    /// A count of both sides, per call (64 in flight) or message.
    Count(&'static str, [&'static str; 2]),
    /// The scenarios in which a framework is ahead.
    Behind,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("at least {bound}"),
            Self::AtMost(bound) => format!("at most {bound}"),
        }
    }
}

impl Wish {
    /// None if the run did not measure it.
    fn target(&self, all: &Results<'_>) -> Option<Target> {
        let got = self.value(all, self.peer)?;
        let limit = self.value(all, LIMIT).filter(|_| self.is_bounded());
        let met = match limit {
            _ if self.bound.holds(got) => Met::Yes,
            Some(limit) if !self.bound.holds(limit) => Met::BeyondLimit,
            _ => Met::No,
        };
        let title = Scenario::named(self.scenario).map_or("all scenarios", |scenario| scenario.title);
        let work = match self.peer {
            OURS => title.to_owned(),
            peer => format!("{peer}: {title}"),
        };
        Some(Target {
            work,
            wanted: format!("{} {}", self.bound.text(), self.of()),
            got,
            limit,
            met,
        })
    }

    /// Whether L1 bounds it: not if it is a ratio to L1, and not if L1 does something else there.
    fn is_bounded(&self) -> bool {
        match self.figure {
            // L1 speaks no HTTP/2.
            _ if self.peer != OURS => false,
            Figure::Rate(base) | Figure::P50(base) | Figure::Cpu(base) => base != LIMIT,
            Figure::Count(..) => true,
            // A framework has reached it.
            Figure::RateOfBest | Figure::P50OfBest => false,
            Figure::ServerCpu(_) | Figure::Memory(_) | Figure::Growth | Figure::Behind => false,
        }
    }

    fn value(&self, all: &Results<'_>, peer: &str) -> Option<f64> {
        let scenario = self.scenario;
        match self.figure {
            Figure::Rate(base) => all.ratio(scenario, peer, base, &[Scenario::named(scenario)?.field()]),
            Figure::P50(base) => all.ratio(scenario, peer, base, &["p50_us"]),
            Figure::RateOfBest => {
                let field = Scenario::named(scenario)?.field();
                let ratios = rivals().filter_map(|rival| all.ratio(scenario, peer, rival.label, &[field]));
                ratios.reduce(f64::min)
            }
            Figure::P50OfBest => {
                let ratios = rivals().filter_map(|rival| all.ratio(scenario, peer, rival.label, &["p50_us"]));
                ratios.reduce(f64::max)
            }
            Figure::Cpu(base) => all.ratio(scenario, peer, base, &["server_cpu_us", "client_cpu_us"]),
            Figure::ServerCpu(base) => all.ratio(scenario, peer, base, &["server_cpu_us"]),
            Figure::Memory(base) => all.ratio(scenario, peer, base, &["per_conn"]),
            Figure::Growth => all.ratio_to(scenario, peer, peer, &["p99_us"], &["quiet_p99_us"]),
            Figure::Count(_, [server, client]) => {
                let in_flight = Scenario::named(scenario)?.in_flight;
                let count = |field| all.count(peer, scenario, in_flight, field);
                Some(count(server)? + count(client)?)
            }
            Figure::Behind => scenarios_behind(all).map(|count| count as f64),
        }
    }

    fn of(&self) -> String {
        match self.figure {
            Figure::Rate(base) => format!("of {base}'s rate"),
            Figure::P50(base) => format!("of {base}'s p50"),
            Figure::RateOfBest => "of the best framework's rate".into(),
            Figure::P50OfBest => "of the best framework's p50".into(),
            Figure::Cpu(base) => format!("of {base}'s CPU, both sides"),
            Figure::ServerCpu(base) => format!("of {base}'s server's CPU"),
            Figure::Memory(base) => format!("of {base}'s memory per connection"),
            Figure::Growth => "of its own p99 alone".into(),
            Figure::Count(what, _) => format!("{what}, both sides"),
            Figure::Behind => "in which a framework is ahead".into(),
        }
    }
}

const LIMIT: &str = "L1 tokio";
/// This project, by its own protocol.
const OURS: &str = "rpc";
/// tonic's client, which calls this project's gRPC port.
const TO_OURS: &str = "tonic to rpc";
/// This project's client, which calls tonic's server.
const FROM_OURS: &str = "rpc to tonic";

const fn rate(scenario: &'static str, base: &'static str, at_least: f64) -> Wish {
    Wish {
        peer: OURS,
        scenario,
        figure: Figure::Rate(base),
        bound: Bound::AtLeast(at_least),
    }
}

const fn at_most(scenario: &'static str, figure: Figure, bound: f64) -> Wish {
    Wish {
        peer: OURS,
        scenario,
        figure,
        bound: Bound::AtMost(bound),
    }
}

impl Wish {
    /// The same wish for another peer.
    const fn of_peer(mut self, peer: &'static str) -> Self {
        self.peer = peer;
        self
    }
}

/// At least 1.1 of the rate of the best framework, with its default client.
const fn ahead(scenario: &'static str) -> Wish {
    Wish {
        peer: OURS,
        scenario,
        figure: Figure::RateOfBest,
        bound: Bound::AtLeast(1.1),
    }
}

/// At least this part of tonic's rate, by tonic's client.
const fn grpc_rate(scenario: &'static str, at_least: f64) -> Wish {
    rate(scenario, "tonic", at_least).of_peer(TO_OURS)
}

/// At most nine tenths of the CPU time of tonic's server.
const fn grpc_cpu(scenario: &'static str) -> Wish {
    at_most(scenario, Figure::ServerCpu("tonic"), 0.9).of_peer(TO_OURS)
}

const INSTRUCTIONS: Figure = Figure::Count("instructions", ["server_instructions", "client_instructions"]);

/// A multiple of tonic that L1 does not have in the same run is no target: the report says "beyond L1".
const WISHES: [Wish; 42] = [
    rate("stream", "tonic", 2.0),
    rate("stream", LIMIT, 0.25),
    rate("upload", "tonic", 2.0),
    // One-ways of tonic are the messages of a client's stream.
    rate("one-way", "tonic", 1.5),
    rate("one-way", LIMIT, 0.5),
    rate("ping-pong-1", "tonic", 1.5),
    rate("ping-pong-16", "tonic", 1.5),
    at_most("latency", Figure::P50(LIMIT), 1.15),
    ahead("small-2"),
    ahead("small-4"),
    ahead("small-8"),
    at_most("small-2", Figure::P50OfBest, 1.0),
    at_most("small-4", Figure::P50OfBest, 1.0),
    at_most("small-8", Figure::P50OfBest, 1.0),
    rate("small-64", LIMIT, 0.8),
    rate("small-256", LIMIT, 0.55),
    rate("conns-16", LIMIT, 0.6),
    at_most("small-64", Figure::Cpu("tonic"), 0.08),
    rate("large-64k", LIMIT, 0.9),
    rate("large-64k-x4", LIMIT, 0.95),
    rate("large-1m", LIMIT, 0.95),
    at_most("beside", Figure::Growth, 2.5),
    rate("burn", "L4 spawn", 0.9),
    at_most("small-64", INSTRUCTIONS, 5500.0),
    at_most("stream", INSTRUCTIONS, 400.0),
    at_most("one-way", INSTRUCTIONS, 700.0),
    at_most(
        "small-64",
        Figure::Count("system calls", ["server_syscalls", "client_syscalls"]),
        0.5,
    ),
    at_most("", Figure::Behind, 0.0),
    grpc_rate("latency", 1.0),
    grpc_rate("small-64", 1.0),
    grpc_rate("conns-16", 0.95),
    grpc_rate("stream", 1.0),
    grpc_rate("large-64k", 1.0),
    grpc_rate("upload-64k", 1.0),
    grpc_cpu("latency"),
    grpc_cpu("small-64"),
    grpc_cpu("conns-16"),
    at_most("idle", Figure::Memory("tonic"), 1.0).of_peer(TO_OURS),
    rate("latency", "tonic", 1.0).of_peer(FROM_OURS),
    rate("small-64", "tonic", 1.0).of_peer(FROM_OURS),
    rate("conns-16", "tonic", 0.95).of_peer(FROM_OURS),
    rate("large-64k", "tonic", 1.0).of_peer(FROM_OURS),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The target for a client's stream, when each peer has this rate.
    fn upload([rpc, tonic, limit]: [f64; 3]) -> Target {
        let rows = [("rpc", rpc), ("tonic", tonic), (LIMIT, limit)].map(
            |(peer, rate)| json!({"round": 0, "scenario": "upload", "peer": peer, "got": {"per_s": rate}}),
        );
        targets(&Results(&rows)).remove(0)
    }

    #[test]
    fn target_that_l1_misses_is_beyond_it() {
        assert!(upload([20.0, 10.0, 10.0]).met == Met::Yes);
        assert!(upload([10.0, 10.0, 30.0]).met == Met::No);
        assert!(upload([10.0, 10.0, 19.0]).met == Met::BeyondLimit);
    }

    #[test]
    fn scenario_in_which_a_framework_is_ahead_counts() {
        let behind = |rows: &[_]| targets(&Results(rows)).pop().map(|target| target.got);
        let rows = |rpc: f64| {
            [("rpc", rpc), ("tonic", 10.0), (LIMIT, 90.0)].map(|(peer, rate)| {
                json!({"round": 0, "scenario": "upload", "peer": peer, "got": {"per_s": rate}})
            })
        };
        assert_eq!(behind(&rows(9.0)), Some(1.0));
        assert_eq!(behind(&rows(11.0)), Some(0.0));
    }

    #[test]
    fn best_framework_is_another_one_in_each_figure() {
        let row = |peer, rate: f64, p50: f64| json!({"round": 0, "scenario": "small-4", "peer": peer, "got": {"per_s": rate, "p50_us": p50}});
        let rows = [
            row("rpc", 33.0, 8.0),
            row("tonic", 30.0, 5.0),
            row("tarpc", 10.0, 4.0),
            // No framework.
            row(LIMIT, 99.0, 1.0),
        ];
        let targets = targets(&Results(&rows));
        let got = |wanted: &str| {
            targets
                .iter()
                .find(|target| target.wanted.contains(wanted))
                .map(|one| one.got)
        };
        assert_eq!(got("best framework's rate"), Some(1.1));
        assert_eq!(got("best framework's p50"), Some(2.0));
    }

    #[test]
    fn server_of_grpc_is_compared_by_its_own_cpu() {
        let row = |peer, server: f64, client: f64| {
            json!({"round": 0, "scenario": "small-64", "peer": peer,
                "got": {"per_s": 10.0, "server_cpu_us": server, "client_cpu_us": client}})
        };
        let rows = [
            row("tonic", 10.0, 10.0),
            row(TO_OURS, 8.0, 90.0),
            row("rpc", 1.0, 1.0),
        ];
        let targets = targets(&Results(&rows));
        let cpu = targets
            .iter()
            .find(|target| target.wanted.contains("server's CPU"));
        let cpu = cpu.expect("a target");
        assert_eq!((cpu.got, cpu.met == Met::Yes), (0.8, true));
        assert!(cpu.work.starts_with(TO_OURS), "{}", cpu.work);
    }

    #[test]
    fn every_wish_names_a_peer_and_a_scenario() {
        for wish in &WISHES {
            assert!(crate::peers::PEERS.iter().any(|peer| peer.label == wish.peer));
        }
        for wish in &WISHES {
            assert!(wish.scenario.is_empty() || Scenario::named(wish.scenario).is_some());
        }
    }
}
