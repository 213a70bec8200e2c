//! The report, in Markdown.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    count::WORK,
    losses::{losses, scenarios_behind},
    peers::{PEERS, Peer},
    results::{Results, number, ratio},
    scenarios::{Kind, SCENARIOS, Scenario},
    targets::{Met, targets},
};

/// Everything that the rows tell.
pub fn markdown(rows: &[Value]) -> String {
    let all = Results(rows);
    let mut out = String::new();
    let parts = [
        head(&all),
        target_table(&all),
        loss_table(&all),
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

fn head(all: &Results<'_>) -> String {
    let rows = all.0;
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
        all.rounds(),
        run["window_ms"]
    );
    if run["awake"] == true {
        out.push_str("| processors | kept awake by programs of idle priority |\n");
    }
    for row in rows.iter().filter(|row| row["skipped"].is_string()) {
        let (what, why) = (
            row["skipped"].as_str().unwrap_or_default(),
            row["reason"].as_str().unwrap_or_default(),
        );
        let _ = write!(out, "\n**Skipped: {what}**: {why}.\n");
    }
    for row in rows {
        if let Some(wrong) = row["got"]["wrong"].as_str() {
            let text = |name: &str| row[name].as_str().unwrap_or_default();
            let (peer, scenario) = (text("peer"), text("scenario"));
            let _ = write!(out, "\n**Not counted: {peer}, {scenario}**: it {wrong}.\n");
        }
    }
    out
}

fn target_table(all: &Results<'_>) -> String {
    let targets = targets(all);
    if targets.is_empty() {
        return String::new();
    }
    let met = targets.iter().filter(|target| target.met == Met::Yes).count();
    let mut out = format!(
        "## Targets of `rpc`: {met} of {} met\n\n| work | target | got | L1 | met |\n|---|---|--:|--:|---|\n",
        targets.len()
    );
    for target in targets {
        let met = match target.met {
            Met::Yes => "yes",
            Met::No => "**no**",
            Met::BeyondLimit => "beyond L1",
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {met} |",
            target.work,
            target.wanted,
            number(Some(target.got)),
            number(target.limit)
        );
    }
    out
}

/// Where another framework is ahead, and by what.
fn loss_table(all: &Results<'_>) -> String {
    let Some(_) = scenarios_behind(all) else {
        return String::new();
    };
    let losses = losses(all);
    if losses.is_empty() {
        return "## Where `rpc` loses\n\nTo no framework, in any of these scenarios.".into();
    }
    let mut out =
        String::from("## Where `rpc` loses\n\n| work | to | in | by a factor of |\n|---|---|---|--:|\n");
    for loss in losses {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.2} |",
            loss.scenario.title,
            loss.rival,
            loss.figure(),
            loss.factor
        );
    }
    out
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
        Kind::Delays => delay_rows(&mut out, all, scenario, &peers),
        Kind::Calls | Kind::Connects | Kind::Exchanges | Kind::Bytes | Kind::Messages => {
            rate_rows(&mut out, all, scenario, &peers);
        }
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

fn delay_rows(out: &mut String, all: &Results<'_>, scenario: &Scenario, peers: &[&Peer]) {
    out.push_str(
        "A message carries the time at which it was sent, and its handler compares. The shares are of the peer's own top rate. \
         Sent: the share of the planned messages that were sent. The times are p50 / p90 / p99 in µs.\n\n\
         | peer | top messages/s | at 10,000/s | sent % | at 10 % | sent % | at 50 % | sent % | at 90 % | sent % |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for peer in peers {
        let get = |field: &str| all.median(scenario.name, peer.label, field);
        let phases = ["at_10k", "at_10", "at_50", "at_90"].map(|phase| {
            let times =
                ["p50", "p90", "p99"].map(|percentile| number(get(&format!("{phase}_{percentile}_us"))));
            let sent = get(&format!("{phase}_sent")).map(|share| 100.0 * share);
            [times.join(" / "), number(sent)].join(" | ")
        });
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            peer.label,
            number(get("per_s")),
            phases.join(" | ")
        );
    }
}

fn rate_rows(out: &mut String, all: &Results<'_>, scenario: &Scenario, peers: &[&Peer]) {
    let unit = scenario.kind.unit().unwrap_or_default();
    let base = scenario.base();
    let _ = writeln!(
        out,
        "| peer | {unit} | spread % | p50 µs | p99 µs | server CPU µs | client CPU µs | both CPU µs \
         | ÷ {base} | ÷ tonic | server CPU ÷ tonic | both CPU ÷ tonic |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
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
            to(scenario.tonic(), &[scenario.field()]),
            to(scenario.tonic(), &cpu[..1]),
            to(scenario.tonic(), &cpu),
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
        "## Per call or message, whatever the machine's speed\n\nSystem calls and context switches by `perf stat`; user-space \
         instructions by callgrind and bytes by a relay, each as the difference of two numbers of calls or messages. 64 B, 1 \
         connection. Under callgrind one side is slow, so batches differ a little from full speed.\n\n",
    );
    let titles = fields.map(|(title, _)| title).join(" | ");
    let _ = writeln!(
        out,
        "| peer | work | in flight | {titles} |\n|---|---|{}",
        "--:|".repeat(fields.len() + 1)
    );
    for peer in PEERS.iter().filter(|peer| counted(peer)) {
        for (work, in_flight) in WORK {
            let cells = fields.map(|(_, field)| number(all.count(peer.label, work, in_flight, field)));
            if cells.iter().any(|cell| cell != "-") {
                let _ = writeln!(
                    out,
                    "| {} | {} | {in_flight} | {} |",
                    peer.label,
                    counted_work(work),
                    cells.join(" | ")
                );
            }
        }
    }
    out
}

fn counted_work(scenario: &str) -> &str {
    match scenario {
        "stream" => "server's stream",
        "upload" => "client's stream",
        "one-way" => "one-way",
        _ => "calls",
    }
}

fn method() -> String {
    "## How to read it\n\n\
     Each process has two worker threads, the same allocator and the same release profile; client and server share this \
     machine with the kernel between them. Medians over rounds; a ratio is taken within a round, then the median of the \
     ratios, for the machine drifts: trust ratios. The limits (L1 bare tokio frames, L2 blocking sockets, L3 and L4 \
     sketches with prost and none of the guarantees) are no frameworks. Volo-thrift has a pool, so that its \"1 \
     connection, N in flight\" are N connections. `A to B` is A's client with B's server, by gRPC. `-`: the peer has nothing of the kind, or failed. How to run it, and \
     what each peer is: [README.md](README.md)."
        .into()
}
