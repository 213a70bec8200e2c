//! What this project wants of itself, each a ratio within one run.

use crate::results::Results;

/// One wish, and what came of it.
pub struct Target {
    pub work: &'static str,
    pub wanted: String,
    /// None if the run did not measure it.
    pub got: Option<f64>,
    pub met: bool,
}

/// All of them, in the report's order.
pub fn targets(all: &Results<'_>) -> Vec<Target> {
    let rate = |scenario, base| all.ratio(scenario, "rpc", base, &["per_s"]);
    let bytes = |scenario, base| all.ratio(scenario, "rpc", base, &["mib_s"]);
    let cpu = ["server_cpu_us", "client_cpu_us"];
    let both = |what: [&str; 2]| Some(all.count("rpc", 64, what[0])? + all.count("rpc", 64, what[1])?);
    let one = "1 connection, 1 in flight, 64 B";
    let small = "1 connection, 64 in flight, 64 B";
    let more = "1 connection, 256 in flight, 64 B";
    let conns = "16 connections x 16 in flight, 64 B";
    vec![
        at_most(
            one,
            "p50 of L1",
            1.15,
            all.ratio("latency", "rpc", "L1 tokio", &["p50_us"]),
        ),
        at_least(one, "tonic's calls/s", 3.5, rate("latency", "tonic")),
        at_least(small, "L1's calls/s", 0.65, rate("small-64", "L1 tokio")),
        at_least(small, "tonic's", 18.0, rate("small-64", "tonic")),
        at_least(small, "tarpc's", 4.5, rate("small-64", "tarpc")),
        at_least(more, "L1's calls/s", 0.5, rate("small-256", "L1 tokio")),
        at_least(more, "tonic's", 25.0, rate("small-256", "tonic")),
        at_least(more, "tarpc's", 4.5, rate("small-256", "tarpc")),
        at_least(conns, "L1's calls/s", 0.6, rate("conns-16", "L1 tokio")),
        at_least(conns, "tonic's", 20.0, rate("conns-16", "tonic")),
        at_least(conns, "tarpc's", 5.5, rate("conns-16", "tarpc")),
        at_most(
            small,
            "tonic's CPU of both sides",
            0.04,
            all.ratio("small-64", "rpc", "tonic", &cpu),
        ),
        at_least(
            "64 KiB values, 16 in flight",
            "L1's MiB/s",
            0.95,
            bytes("large-64k", "L1 tokio"),
        ),
        at_least(
            "1 MiB values, 4 in flight",
            "L1's MiB/s",
            0.95,
            bytes("large-1m", "L1 tokio"),
        ),
        at_least(
            "64 KiB values, 4 connections",
            "L1's MiB/s",
            0.95,
            bytes("large-64k-x4", "L1 tokio"),
        ),
        at_least(
            "64 KiB values, 4 connections",
            "volo-thrift's",
            1.0,
            bytes("large-64k-x4", "volo-thrift"),
        ),
        at_least(
            "one-way, 64 B",
            "L1's messages/s",
            0.6,
            rate("one-way", "L1 tokio"),
        ),
        at_most(
            "idle connection",
            "bytes of the server",
            4096.0,
            all.median("idle", "rpc", "per_conn"),
        ),
        at_most(
            "small call beside 4 MiB bulk",
            "its p99 alone",
            3.0,
            all.ratio_to("beside", "rpc", "rpc", &["p99_us"], &["quiet_p99_us"]),
        ),
        at_most(
            small,
            "instructions, both sides",
            3500.0,
            both(["server_instructions", "client_instructions"]),
        ),
        at_most(
            small,
            "system calls, both sides",
            0.5,
            both(["server_syscalls", "client_syscalls"]),
        ),
        at_least(
            "handlers of 50 µs CPU",
            "what spawning each gets",
            0.9,
            rate("burn", "L4 spawn"),
        ),
    ]
}

fn at_least(work: &'static str, of: &str, limit: f64, got: Option<f64>) -> Target {
    let wanted = format!("at least {limit} of {of}");
    Target {
        work,
        wanted,
        got,
        met: got.is_some_and(|got| got >= limit),
    }
}

fn at_most(work: &'static str, of: &str, limit: f64, got: Option<f64>) -> Target {
    let wanted = format!("at most {limit} of {of}");
    Target {
        work,
        wanted,
        got,
        met: got.is_some_and(|got| got <= limit),
    }
}
