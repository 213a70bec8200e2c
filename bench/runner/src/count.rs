//! What a call costs in counts, which hardly depend on the machine's speed and load: system calls and context switches
//! (perf), user instructions (callgrind), bytes on the wire (a relay).

use std::{fs, path::PathBuf, sync::atomic::Ordering, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::{
    peers::{Peer, is_installed},
    process::{Server, client},
    relay::{Relayed, relay},
    scenarios::{SCENARIOS, Scenario},
};

/// Calls in flight on the one connection.
pub const IN_FLIGHT: [usize; 4] = [1, 16, 64, 256];

/// The rows of all peers, and one for each tool that is missing.
pub fn count(peers: &[&'static Peer]) -> Vec<Value> {
    let peers = peers
        .iter()
        .filter(|peer| !peer.on_unix() && SCENARIOS[0].applies(peer));
    let turns: Vec<_> = peers
        .flat_map(|peer| IN_FLIGHT.map(|in_flight| (*peer, in_flight)))
        .filter(|(peer, in_flight)| *in_flight == 1 || SCENARIOS[1].applies(peer))
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
    for (peer, in_flight) in turns {
        bar.set_message(format!("{}, {in_flight} in flight", peer.label));
        let got = counts(peer, &calls_in_flight(in_flight));
        rows.push(json!({"counted": peer.label, "in_flight": in_flight, "got": got}));
        bar.inc(1);
    }
    bar.finish_and_clear();
    rows
}

fn calls_in_flight(in_flight: usize) -> Scenario {
    Scenario {
        in_flight,
        work: "",
        ..SCENARIOS[1]
    }
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
        put("server_instructions", instructions(peer, scenario, Side::Server));
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
    let calls = if scenario.in_flight == 1 { 30_000 } else { 200_000 };
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
    const FEW: u64 = 1_000;
    const MANY: u64 = 6_000;
    let all = |calls| callgrind(peer, scenario, calls, side);
    Some((all(MANY)? - all(FEW)?) / (MANY - FEW) as f64)
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
    const FEW: u64 = 2_000;
    const MANY: u64 = 12_000;
    let [few, many] = [FEW, MANY].map(|calls| relayed(peer, scenario, calls));
    let (few, many) = (few?, many?);
    Some([0, 1].map(|way| (many[way] as f64 - few[way] as f64) / (MANY - FEW) as f64))
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
