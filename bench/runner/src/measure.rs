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
    let had = server.stop();
    checked(scenario, got, had)
}

/// What the client has measured with what the server adds. If the server has not had exactly the messages that the client
/// has sent, only that is told: a peer that loses messages is not quick.
fn checked(scenario: &Scenario, mut got: Value, mut had: Value) -> Value {
    if !scenario.is_tallied() || got.is_null() {
        return got;
    }
    let [sent, handled] = [&got, &had].map(|one| one["tally"].as_u64());
    if sent.is_none() || sent != handled {
        let messages = |tally: Option<u64>| tally.unwrap_or(0) & u64::from(u32::MAX);
        let wrong = format!(
            "sent {} messages, handled {}, or others",
            messages(sent),
            messages(handled)
        );
        return json!({"wrong": wrong});
    }
    if let (Some(got), Some(had)) = (got.as_object_mut(), had.as_object_mut()) {
        got.append(had);
    }
    got
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_way() -> &'static Scenario {
        Scenario::named("one-way").expect("a scenario of this name")
    }

    #[test]
    fn messages_that_did_not_arrive_take_the_figures_away() {
        let got = json!({"per_s": 1e9, "tally": 5_u64 << 32 | 2});
        let checked = checked(one_way(), got, json!({"tally": 3_u64 << 32 | 1}));
        assert_eq!(checked, json!({"wrong": "sent 2 messages, handled 1, or others"}));
    }

    #[test]
    fn other_messages_than_those_sent_take_the_figures_away() {
        let got = json!({"per_s": 1e9, "tally": 5_u64 << 32 | 2});
        let checked = checked(one_way(), got, json!({"tally": 4_u64 << 32 | 2}));
        assert_eq!(checked["per_s"], Value::Null);
    }

    #[test]
    fn server_that_does_not_report_takes_the_figures_away() {
        let got = json!({"per_s": 1e9, "tally": 0});
        assert_eq!(checked(one_way(), got, Value::Null)["per_s"], Value::Null);
    }

    #[test]
    fn figures_of_client_and_server_are_put_together() {
        let got = json!({"per_s": 10.0, "tally": 7});
        let checked = checked(one_way(), got, json!({"tally": 7, "at_10_p50_us": 3.0}));
        assert_eq!(checked, json!({"per_s": 10.0, "tally": 7, "at_10_p50_us": 3.0}));
    }
}
