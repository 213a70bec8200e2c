//! The report, in Markdown.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    count::IN_FLIGHT,
    peers::{PEERS, Peer},
    results::{Results, number, ratio},
    scenarios::{Kind, SCENARIOS, Scenario},
    targets::targets,
};

/// Everything that the rows tell.
pub fn markdown(rows: &[Value]) -> String {
    let all = Results(rows);
    let mut out = String::new();
    let parts = [
        head(rows),
        target_table(&all),
        losses(&all),
        tables(&all),
        counts(&all),
        method(),
    ];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let _ = writeln!(out, "{}\n", part.trim_end());
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn head(rows: &[Value]) -> String {
    let run = rows
        .iter()
        .find(|row| row["machine"].is_string())
        .unwrap_or(&Value::Null);
    let text = |name: &str| run[name].as_str().unwrap_or("unknown");
    let mut out =
        String::from("# Results\n\n![Rates beside the best of each work](results.svg)\n\n| | |\n|---|---|\n");
    for name in ["date", "machine", "rustc", "commit", "versions"] {
        let _ = writeln!(out, "| {name} | {} |", text(name));
    }
    let _ = writeln!(out, "| load before the run | {} |", text("load"));
    let _ = writeln!(
        out,
        "| rounds | {} of {} ms for each peer and scenario |",
        run["rounds"], run["window_ms"]
    );
    for row in rows.iter().filter(|row| row["skipped"].is_string()) {
        let (what, why) = (
            row["skipped"].as_str().unwrap_or_default(),
            row["reason"].as_str().unwrap_or_default(),
        );
        let _ = write!(out, "\n**Skipped: {what}**: {why}.\n");
    }
    out
}

fn target_table(all: &Results<'_>) -> String {
    let measured: Vec<_> = targets(all)
        .into_iter()
        .filter(|target| target.got.is_some())
        .collect();
    if measured.is_empty() {
        return String::new();
    }
    let met = measured.iter().filter(|target| target.met).count();
    let mut out = format!(
        "## Targets of `rpc`: {met} of {} met\n\n| work | target | got | met |\n|---|---|--:|---|\n",
        measured.len()
    );
    for target in measured {
        let met = if target.met { "yes" } else { "**no**" };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {met} |",
            target.work,
            target.wanted,
            number(target.got)
        );
    }
    out
}

/// Who of the frameworks beats this project, and by what.
fn losses(all: &Results<'_>) -> String {
    let rivals = || PEERS.iter().filter(|peer| !peer.is_limit() && !is_ours(peer));
    let mut lines = Vec::new();
    for scenario in &SCENARIOS {
        let ours = if scenario.on_unix() { "rpc-unix" } else { "rpc" };
        for rival in rivals() {
            let less_is_better = matches!(scenario.kind, Kind::Beside | Kind::Idle);
            let mut fields = vec![(scenario.field(), less_is_better)];
            if matches!(scenario.kind, Kind::Calls | Kind::Bytes) {
                fields.extend([("p50_us", true), ("p99_us", true)]);
            }
            for (field, less_is_better) in fields {
                let Some(ratio) = all.ratio(scenario.name, ours, rival.label, &[field]) else {
                    continue;
                };
                let worse = if less_is_better { ratio } else { 1.0 / ratio };
                if worse >= 1.01 {
                    lines.push(format!(
                        "| {} | {} | {} | {worse:.2} |\n",
                        scenario.title,
                        rival.label,
                        label(field)
                    ));
                }
            }
        }
    }
    if all.median("small-64", "rpc", "per_s").is_none() && lines.is_empty() {
        return String::new();
    }
    if lines.is_empty() {
        return "## Where `rpc` loses\n\nTo no framework, in any of these scenarios.".into();
    }
    let head = "## Where `rpc` loses\n\n| work | to | in | by a factor of |\n|---|---|---|--:|\n";
    format!("{head}{}", lines.concat())
}

fn is_ours(peer: &Peer) -> bool {
    peer.binary == "peer-rpc"
}

fn label(field: &str) -> &str {
    match field {
        "per_s" => "rate",
        "mib_s" => "rate",
        "p50_us" => "p50",
        "p99_us" => "p99",
        _ => "bytes a connection",
    }
}

fn tables(all: &Results<'_>) -> String {
    let tables: Vec<_> = SCENARIOS
        .iter()
        .filter_map(|scenario| table(all, scenario))
        .collect();
    if tables.is_empty() {
        String::new()
    } else {
        format!("## By scenario\n\n{}", tables.join("\n"))
    }
}

fn table(all: &Results<'_>, scenario: &Scenario) -> Option<String> {
    let measured = |peer: &&Peer| all.median(scenario.name, peer.label, scenario.field()).is_some();
    let tried = |peer: &&Peer| {
        all.0
            .iter()
            .any(|row| row["scenario"] == scenario.name && row["peer"] == peer.label)
    };
    let peers: Vec<_> = PEERS.iter().filter(tried).collect();
    if !peers.iter().any(measured) {
        return None;
    }
    let mut out = format!("### {}\n\n", scenario.title);
    match scenario.kind {
        Kind::Idle => idle_rows(&mut out, all, scenario, &peers),
        Kind::Beside => beside_rows(&mut out, all, scenario, &peers),
        Kind::Calls | Kind::Bytes | Kind::Messages => rate_rows(&mut out, all, scenario, &peers),
    }
    Some(out)
}

fn idle_rows(out: &mut String, all: &Results<'_>, scenario: &Scenario, peers: &[&Peer]) {
    out.push_str("| peer | server bytes a connection | server RSS before, MiB | server peak RSS, MiB |\n|---|--:|--:|--:|\n");
    for peer in peers {
        let get = |field| all.median(scenario.name, peer.label, field);
        let mib = |field| number(get(field).map(|bytes| bytes / f64::from(1 << 20)));
        let cells = [number(get("per_conn")), mib("rss_before"), mib("rss_peak")];
        let _ = writeln!(out, "| {} | {} |", peer.label, cells.join(" | "));
    }
}

fn beside_rows(out: &mut String, all: &Results<'_>, scenario: &Scenario, peers: &[&Peer]) {
    out.push_str("| peer | p50 alone, µs | p99 alone, µs | p50 beside bulk, µs | p99 beside bulk, µs | p99 ÷ p99 alone |\n");
    out.push_str("|---|--:|--:|--:|--:|--:|\n");
    for peer in peers {
        let get = |field| number(all.median(scenario.name, peer.label, field));
        let growth = all.ratio_to(
            scenario.name,
            peer.label,
            peer.label,
            &["p99_us"],
            &["quiet_p99_us"],
        );
        let cells = [
            get("quiet_p50_us"),
            get("quiet_p99_us"),
            get("p50_us"),
            get("p99_us"),
            ratio(growth),
        ];
        let _ = writeln!(out, "| {} | {} |", peer.label, cells.join(" | "));
    }
}

fn rate_rows(out: &mut String, all: &Results<'_>, scenario: &Scenario, peers: &[&Peer]) {
    let unit = match scenario.kind {
        Kind::Bytes => "MiB/s",
        Kind::Messages => "messages/s",
        _ => "calls/s",
    };
    let base = scenario.base();
    let _ = writeln!(
        out,
        "| peer | {unit} | spread % | p50 µs | p99 µs | server CPU µs | client CPU µs | both CPU µs \
         | ÷ {base} | ÷ tonic | both CPU ÷ tonic |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    let cpu = ["server_cpu_us", "client_cpu_us"];
    for peer in peers {
        let get = |field| all.median(scenario.name, peer.label, field);
        // Who sends without an answer has no time to tell.
        let timed = |field| number(get(field).filter(|_| scenario.kind != Kind::Messages));
        let spread = all.spread(scenario.name, peer.label, scenario.field());
        let both = get(cpu[0])
            .zip(get(cpu[1]))
            .map(|(server, client)| server + client);
        let to = |base, fields: &[&str]| ratio(all.ratio(scenario.name, peer.label, base, fields));
        let cells = [
            number(get(scenario.field())),
            spread.map_or_else(|| "-".into(), |spread| format!("{spread:.0}")),
            timed("p50_us"),
            timed("p99_us"),
            number(get(cpu[0])),
            number(get(cpu[1])),
            number(both),
            to(base, &[scenario.field()]),
            to("tonic", &[scenario.field()]),
            to("tonic", &cpu),
        ];
        let _ = writeln!(out, "| {} | {} |", peer.label, cells.join(" | "));
    }
}

fn counts(all: &Results<'_>) -> String {
    let counted = |peer: &Peer| all.0.iter().any(|row| row["counted"] == peer.label);
    if !PEERS.iter().any(counted) {
        return String::new();
    }
    let fields = [
        ("server syscalls", "server_syscalls"),
        ("client syscalls", "client_syscalls"),
        ("server switches", "server_switches"),
        ("client switches", "client_switches"),
        ("server instr.", "server_instructions"),
        ("client instr.", "client_instructions"),
        ("request bytes", "request_bytes"),
        ("reply bytes", "reply_bytes"),
    ];
    let mut out = String::from(
        "## Per call, whatever the machine's speed\n\nSystem calls and context switches by `perf stat`; user-space \
         instructions by callgrind and bytes by a relay, each as the difference of two numbers of calls. 64 B, 1 \
         connection. Under callgrind one side is slow, so batches differ a little from full speed.\n\n",
    );
    let titles = fields.map(|(title, _)| title).join(" | ");
    let _ = writeln!(
        out,
        "| peer | in flight | {titles} |\n|---|{}",
        "--:|".repeat(fields.len() + 1)
    );
    for peer in PEERS.iter().filter(|peer| counted(peer)) {
        for in_flight in IN_FLIGHT {
            let cells = fields.map(|(_, field)| number(all.count(peer.label, in_flight, field)));
            if cells.iter().any(|cell| cell != "-") {
                let _ = writeln!(out, "| {} | {in_flight} | {} |", peer.label, cells.join(" | "));
            }
        }
    }
    out
}

fn method() -> String {
    "## How to read it\n\n\
     Each process has two worker threads, the same allocator and the same release profile; client and server share this \
     machine with the kernel between them. Medians over rounds; a ratio is taken within a round, then the median of the \
     ratios, for the machine drifts: trust ratios. The limits (L1 bare tokio frames, L2 blocking sockets, L3 and L4 \
     sketches with prost and none of the guarantees) are no frameworks. Volo-thrift has a pool, so that its \"1 \
     connection, N in flight\" are N connections. `-`: the peer has nothing of the kind, or failed. How to run it, and \
     what each peer is: [README.md](README.md)."
        .into()
}
