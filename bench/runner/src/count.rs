//! What a call or a message costs in counts, which hardly depend on the machine's speed and load: system calls and context switches
//! (perf), user instructions (callgrind), bytes on the wire (a relay).

use std::{fs, path::PathBuf, sync::atomic::Ordering, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::{
    Options,
    peers::{Peer, Transport, is_installed},
    process::{Server, client},
    relay::{Relayed, relay},
    scenarios::{Kind, Scenario},
};

/// What is counted: the scenario, and how many calls are in flight on the one connection.
pub const WORK: [(&str, usize); 7] = [
    (CALLS, 1),
    (CALLS, 16),
    (CALLS, 64),
    (CALLS, 256),
    ("stream", 1),
    ("upload", 1),
    ("one-way", 1),
];

const CALLS: &str = "small-64";

/// The rows of all peers, and one for each tool that is missing.
pub fn count(options: &Options, peers: &[&'static Peer]) -> Vec<Value> {
    let chosen = |name: &str, in_flight| {
        let is_kept = |scenario: &Scenario| !options.brief || scenario.in_flight == in_flight;
        options
            .scenarios()
            .any(|scenario| scenario.name == name && is_kept(scenario))
    };
    let turns: Vec<_> = peers
        .iter()
        .flat_map(|peer| WORK.map(|(name, in_flight)| (*peer, name, in_flight)))
        .filter(|(peer, name, in_flight)| chosen(name, *in_flight) && applies(peer, name, *in_flight))
        .collect();
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} counting, {msg}").expect("the template is right");
    let bar = ProgressBar::new(turns.len() as u64).with_style(style);
    let tools = ["perf", "valgrind"]
        .into_iter()
        .filter(|tool| !is_installed(tool));
    let mut rows: Vec<_> = tools
        .map(|tool| json!({"skipped": tool, "reason": "it is not installed, so what it counts is missing below"}))
        .collect();
    for (peer, name, in_flight) in turns {
        bar.set_message(format!("{name}, {in_flight} in flight, {}", peer.label));
        let got = counts(peer, &work(name, in_flight));
        rows.push(json!({"counted": peer.label, "work": name, "in_flight": in_flight, "got": got}));
        bar.inc(1);
    }
    bar.finish_and_clear();
    rows
}

/// A peer without pipelining makes one call at a time.
fn applies(peer: &Peer, name: &str, in_flight: usize) -> bool {
    let name = if in_flight == 1 && name == CALLS {
        "latency"
    } else {
        name
    };
    peer.transport() == Transport::Tcp && Scenario::named(name).is_some_and(|scenario| scenario.applies(peer))
}

fn work(name: &str, in_flight: usize) -> Scenario {
    let scenario = Scenario::named(name).expect("`WORK` names scenarios");
    Scenario {
        in_flight,
        ..*scenario
    }
}

/// So many calls or messages, and `factor` times as many: what both cost beside is not counted, as the difference of the
/// two runs has none of it. A message costs so little that it takes more of them.
fn few_and_many(scenario: &Scenario, few: u64, factor: u64) -> [u64; 2] {
    let few = if scenario.kind == Kind::Messages {
        20 * few
    } else {
        few
    };
    [few, factor * few]
}

fn counts(peer: &Peer, scenario: &Scenario) -> Value {
    let mut got = Map::new();
    let mut put =
        |name: &str, value: Option<f64>| got.insert(name.to_owned(), value.map_or(Value::Null, Value::from));
    let [server, client] = kernel_events(peer, scenario);
    put("server_syscalls", server.first().copied());
    put("client_syscalls", client.first().copied());
    put("server_switches", server.get(1).copied());
    put("client_switches", client.get(1).copied());
    if let Some([up, down]) = wire_bytes(peer, scenario) {
        put("request_bytes", Some(up));
        put("reply_bytes", Some(down));
    }
    // Callgrind is slow, and what it counts grows evenly.
    if matches!(scenario.in_flight, 1 | 64) && is_installed("valgrind") {
        // Valgrind does not run programs in Go.
        if !peer.server.is_go() {
            put("server_instructions", instructions(peer, scenario, Side::Server));
        }
        put("client_instructions", instructions(peer, scenario, Side::Client));
    }
    Value::Object(got)
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Server,
    Client,
}

/// System calls and context switches per call, of the server and of the client.
fn kernel_events(peer: &Peer, scenario: &Scenario) -> [Vec<f64>; 2] {
    if !is_installed("perf") {
        return [Vec::new(), Vec::new()];
    }
    let calls = match scenario.kind {
        Kind::Messages => 1_000_000,
        _ if scenario.in_flight == 1 => 30_000,
        _ => 200_000,
    };
    let files = ["server", "client"].map(|side| scratch(&format!("perf-{side}")));
    let tools = files.each_ref().map(|file| {
        let file = file.display().to_string();
        [
            "perf",
            "stat",
            "-x,",
            "-e",
            "raw_syscalls:sys_enter,context-switches",
            "-o",
            &file,
        ]
        .map(String::from)
    });
    let [on_server, on_client] = &tools;
    fixed(peer, scenario, calls, on_server, on_client);
    files.map(|file| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        let counts = text
            .lines()
            .filter_map(|line| line.split(',').next()?.parse::<f64>().ok());
        counts.map(|count| count / calls as f64).collect()
    })
}

/// User instructions per call: the difference of a long and a short run.
fn instructions(peer: &Peer, scenario: &Scenario, side: Side) -> Option<f64> {
    let [few, many] = few_and_many(scenario, 1_000, 6);
    let all = |calls| callgrind(peer, scenario, calls, side);
    Some((all(many)? - all(few)?) / (many - few) as f64)
}

fn callgrind(peer: &Peer, scenario: &Scenario, calls: u64, side: Side) -> Option<f64> {
    let log = scratch("callgrind");
    let log_option = format!("--log-file={}", log.display());
    let tool = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        &log_option,
    ]
    .map(String::from);
    match side {
        Side::Server => fixed(peer, scenario, calls, &tool, &[]),
        Side::Client => fixed(peer, scenario, calls, &[], &tool),
    };
    let text = fs::read_to_string(&log).ok()?;
    let _ = fs::remove_file(&log);
    let line = text.lines().find(|line| line.contains("Collected"))?;
    line.split(':').next_back()?.trim().parse().ok()
}

/// Bytes per call to the server and to the client: again the difference of two runs.
fn wire_bytes(peer: &Peer, scenario: &Scenario) -> Option<[f64; 2]> {
    let counts = few_and_many(scenario, 2_000, 6);
    let [few, many] = counts.map(|calls| relayed(peer, scenario, calls));
    let (few, many) = (few?, many?);
    let more = (counts[1] - counts[0]) as f64;
    Some([0, 1].map(|way| (many[way] as f64 - few[way] as f64) / more))
}

fn relayed(peer: &Peer, scenario: &Scenario, calls: u64) -> Option<[u64; 2]> {
    let mut server = Server::start(&[], peer, scenario)?;
    let relay = relay(&server.addr);
    let counted = relay.and_then(|(addr, relayed)| {
        server.addr = addr;
        let Relayed { to_server, to_client } = relayed;
        let args = server.client_args(scenario, &[("calls", calls.to_string())]);
        let succeeded = !client(&[], peer, &args, Duration::from_secs(60)).is_null();
        succeeded.then(|| [to_server, to_client].map(|bytes| bytes.load(Ordering::Relaxed)))
    });
    server.stop();
    counted
}

/// Makes so many calls, each process under its tool.
fn fixed(peer: &Peer, scenario: &Scenario, calls: u64, on_server: &[String], on_client: &[String]) {
    if let Some(server) = Server::start(on_server, peer, scenario) {
        let args = server.client_args(scenario, &[("calls", calls.to_string())]);
        client(on_client, peer, &args, Duration::from_secs(120));
        server.stop();
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("bench-{}-{name}", std::process::id()))
}
