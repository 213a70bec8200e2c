//! What the report says of the machine and of the versions.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{Options, peers::workspace};

/// The crates whose versions decide.
const CRATES: [&str; 11] = [
    "tokio",
    "prost",
    "tonic",
    "hyper",
    "h2",
    "tarpc",
    "ttrpc",
    "volo-grpc",
    "volo-thrift",
    "capnp-rpc",
    "connectrpc",
];

/// The first row of a run.
pub fn row(options: &Options) -> Value {
    json!({
        "machine": machine(),
        "date": line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        "rustc": line("rustc", &["--version"]),
        "commit": line("git", &["-C", &workspace().display().to_string(), "rev-parse", "--short=12", "HEAD"]),
        "load": first_word("/proc/loadavg"),
        "versions": versions(),
        "rounds": options.rounds,
        "awake": options.awake,
        "window_ms": options.window_ms,
    })
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let memory =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let memory = memory.unwrap_or_default() / f64::from(1 << 20);
    format!(
        "{cpu}, {cores} cores, {memory:.0} GiB, Linux {}",
        first_word("/proc/sys/kernel/osrelease")
    )
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split(':').nth(1)?.trim().to_owned())
}

fn first_word(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn line(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".into())
}

fn versions() -> String {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap_or_default();
    let version = |name: &str| {
        let package = lock
            .split("[[package]]")
            .find(|text| text.contains(&format!("\nname = \"{name}\"\n")))?;
        let line = package.lines().find(|line| line.starts_with("version"))?;
        Some(format!("{name} {}", line.split('"').nth(1)?))
    };
    let libzmq = line("pkg-config", &["--modversion", "libzmq"]);
    let crates = CRATES.iter().filter_map(|name| version(name));
    crates
        .chain([format!("libzmq {libzmq}")])
        .collect::<Vec<_>>()
        .join(", ")
}
