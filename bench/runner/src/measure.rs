//! The rounds.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    Options,
    peers::Peer,
    process::{Server, client},
    scenarios::Scenario,
};

/// Goes over all peers in each scenario of each round, so that the machine's drift hits all of them.
pub fn time(options: &Options, peers: &[&'static Peer]) -> Vec<Value> {
    let mut turns = Vec::new();
    for round in 0..options.rounds {
        for scenario in options.scenarios() {
            // Each round starts with another peer, so that drift favours none.
            let first = round * 5 % peers.len().max(1);
            let order = peers[first..].iter().chain(&peers[..first]);
            turns.extend(
                order
                    .filter(|peer| scenario.applies(peer))
                    .map(|peer| (round, scenario, *peer)),
            );
        }
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} left, {msg}")
        .expect("the template is right");
    let bar = ProgressBar::new(turns.len() as u64).with_style(style);
    let rows = turns
        .into_iter()
        .map(|(round, scenario, peer)| {
            bar.set_message(format!("round {}, {}, {}", round + 1, scenario.name, peer.label));
            let got = turn(options, scenario, peer);
            bar.inc(1);
            json!({"round": round, "scenario": scenario.name, "peer": peer.label, "got": got})
        })
        .collect();
    bar.finish_and_clear();
    rows
}

fn turn(options: &Options, scenario: &Scenario, peer: &Peer) -> Value {
    let Some(server) = Server::start(&[], peer, scenario) else {
        return Value::Null;
    };
    let times = [
        ("window-ms", options.window_ms.to_string()),
        ("warmup-ms", options.warmup_ms.to_string()),
    ];
    let limit = Duration::from_secs(60) + Duration::from_millis(2 * (options.window_ms + options.warmup_ms));
    let got = client(&[], peer, &server.client_args(scenario, &times), limit);
    server.stop();
    got
}
