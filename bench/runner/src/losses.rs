//! Where another framework is ahead of this project.

use crate::{
    peers::{PEERS, Peer},
    results::Results,
    scenarios::{Kind, SCENARIOS, Scenario},
};

/// One figure of one scenario in which a framework is ahead.
pub struct Loss {
    pub scenario: &'static Scenario,
    pub rival: &'static str,
    field: &'static str,
    /// How often the rival's figure goes into ours, or ours into the rival's if less is better.
    pub factor: f64,
}

impl Loss {
    /// The figure, as the report names it.
    pub fn figure(&self) -> &'static str {
        match self.field {
            "per_s" | "mib_s" => "rate",
            "p50_us" => "p50",
            "p99_us" => "p99",
            "at_10k_p50_us" => "p50 at 10,000/s",
            "at_10k_p99_us" => "p99 at 10,000/s",
            _ => "bytes a connection",
        }
    }
}

/// All of them, in the order of the scenarios.
pub fn losses(all: &Results<'_>) -> Vec<Loss> {
    let mut losses = Vec::new();
    for scenario in &SCENARIOS {
        let ours = scenario.ours();
        for rival in rivals() {
            for field in fields(scenario) {
                let Some(ratio) = all.ratio(scenario.name, ours, rival.label, &[field]) else {
                    continue;
                };
                let more_is_better = matches!(field, "per_s" | "mib_s");
                let factor = if more_is_better { 1.0 / ratio } else { ratio };
                if factor >= BEHIND {
                    losses.push(Loss {
                        scenario,
                        rival: rival.label,
                        field,
                        factor,
                    });
                }
            }
        }
    }
    losses
}

/// In how many scenarios some framework's main figure is ahead. None if no framework was measured beside this project.
pub fn scenarios_behind(all: &Results<'_>) -> Option<usize> {
    let compared = |scenario: &&Scenario| {
        rivals().any(|rival| {
            all.ratio(scenario.name, "rpc", rival.label, &[scenario.field()])
                .is_some()
        })
    };
    SCENARIOS.iter().find(compared)?;
    let losses = losses(all);
    let behind = |scenario: &&Scenario| {
        losses
            .iter()
            .any(|loss| loss.scenario.name == scenario.name && loss.field == scenario.field())
    };
    Some(SCENARIOS.iter().filter(behind).count())
}

/// The other frameworks.
pub fn rivals() -> impl Iterator<Item = &'static Peer> {
    PEERS
        .iter()
        // A client that calls the server of another project is no framework.
        .filter(|peer| !peer.is_limit() && !peer.is_ours() && !peer.is_mixed())
}

/// The figures that are compared; the main one first.
fn fields(scenario: &Scenario) -> Vec<&'static str> {
    let more: &[_] = match scenario.kind {
        Kind::Calls | Kind::Connects | Kind::Exchanges | Kind::Bytes => &["p50_us", "p99_us"],
        Kind::Delays => &["at_10k_p99_us"],
        Kind::Messages | Kind::Beside | Kind::Idle => &[],
    };
    [&[scenario.field()], more].concat()
}

/// A smaller lead is none.
const BEHIND: f64 = 1.01;
