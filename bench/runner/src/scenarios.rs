//! What is measured.

use crate::{Options, peers::Peer};

/// What a scenario's figures are.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Calls per second, and their times.
    Calls,
    /// As `Calls`, by MiB per second.
    Bytes,
    /// Messages per second that nobody answers one by one.
    Messages,
    /// The times of small calls, alone and beside bulk.
    Beside,
    /// The server's memory.
    Idle,
}

pub struct Scenario {
    pub name: &'static str,
    pub title: &'static str,
    pub kind: Kind,
    pub command: &'static str,
    pub value: &'static str,
    /// `PEER_WORK` of the server.
    pub work: &'static str,
    pub conns: usize,
    pub in_flight: usize,
}

const fn calls(name: &'static str, title: &'static str, conns: usize, in_flight: usize) -> Scenario {
    Scenario {
        name,
        title,
        kind: Kind::Calls,
        command: "load",
        value: "64B",
        work: "",
        conns,
        in_flight,
    }
}

impl Scenario {
    const fn value(mut self, class: &'static str) -> Self {
        self.value = class;
        self.kind = Kind::Bytes;
        self
    }

    const fn work(mut self, work: &'static str) -> Self {
        self.work = work;
        self
    }

    const fn command(mut self, command: &'static str, kind: Kind) -> Self {
        self.command = command;
        self.kind = kind;
        self
    }

    pub fn on_unix(&self) -> bool {
        self.name.starts_with("unix")
    }

    /// The limit that this scenario's ratios are to.
    pub fn base(&self) -> &'static str {
        match self.name {
            _ if self.on_unix() => "L1 unix",
            "await" => "L3 sketch",
            "burn" => "L4 spawn",
            _ => "L1 tokio",
        }
    }

    /// Whether a peer can do it at all, and says something by it.
    pub fn applies(&self, peer: &Peer) -> bool {
        if peer.on_unix() != self.on_unix() {
            return false;
        }
        match peer.label {
            // A thread per connection, one call at a time.
            "L2 std" => matches!(self.name, "latency" | "idle"),
            "L4 spawn" => self.name == "burn",
            "rpc workers" => {
                matches!(self.name, "latency" | "small-64" | "burn") || self.name.starts_with("conns")
            }
            "rpc 4 conns" => {
                matches!(self.name, "latency" | "mixed")
                    || self.name.starts_with("small")
                    || self.name.starts_with("large")
            }
            // It cannot wait for a handler.
            "L4 proto" => self.name != "await",
            // It has no handlers, and its replies come in order.
            "L1 tokio" => !matches!(self.name, "await" | "beside"),
            _ => true,
        }
    }

    /// The figure that ratios are taken of.
    pub fn field(&self) -> &'static str {
        match self.kind {
            Kind::Calls | Kind::Messages => "per_s",
            Kind::Bytes => "mib_s",
            Kind::Beside => "p99_us",
            Kind::Idle => "per_conn",
        }
    }
}

pub const SCENARIOS: [Scenario; 20] = [
    calls("latency", "1 connection, 1 in flight, 64 B", 1, 1),
    calls("small-64", "1 connection, 64 in flight, 64 B", 1, 64),
    calls("small-256", "1 connection, 256 in flight, 64 B", 1, 256),
    calls("conns-1", "1 connection x 16 in flight, 64 B", 1, 16),
    calls("conns-4", "4 connections x 16 in flight, 64 B", 4, 16),
    calls("conns-16", "16 connections x 16 in flight, 64 B", 16, 16),
    calls("conns-64", "64 connections x 16 in flight, 64 B", 64, 16),
    calls("large-64k", "1 connection, 16 in flight, 64 KiB", 1, 16).value("64KiB"),
    calls("large-64k-x4", "4 connections x 4 in flight, 64 KiB", 4, 4).value("64KiB"),
    calls("large-1m", "1 connection, 4 in flight, 1 MiB", 1, 4).value("1MiB"),
    calls(
        "mixed",
        "1 connection, 16 in flight, 16 B to 1 MiB, heavy-tailed",
        1,
        16,
    )
    .value("mixed"),
    calls("one-way", "one-way messages, 1 connection, 64 B", 1, 1).command("one-way", Kind::Messages),
    calls("stream", "a server's stream of 64 B messages, 1 connection", 1, 1)
        .command("watch", Kind::Messages),
    calls(
        "beside",
        "a small call beside 2 transfers of 4 MiB values, 1 connection",
        1,
        1,
    )
    .command("beside", Kind::Beside),
    calls(
        "await",
        "1 connection, 256 in flight, handlers await a 1 ms timer",
        1,
        256,
    )
    .work("await"),
    calls(
        "burn",
        "1 connection, 64 in flight, handlers compute for 50 µs",
        1,
        64,
    )
    .work("burn"),
    calls("unix-latency", "Unix socket, 1 in flight, 64 B", 1, 1),
    calls("unix-64", "Unix socket, 64 in flight, 64 B", 1, 64),
    calls("idle", "1,000 idle connections", 1_000, 1).command("idle", Kind::Idle),
    calls("idle-10k", "10,000 idle connections", 10_000, 1).command("idle", Kind::Idle),
];

impl Options {
    /// The chosen scenarios.
    pub fn scenarios(&self) -> impl Iterator<Item = &'static Scenario> {
        SCENARIOS.iter().filter(|one| {
            self.scenarios
                .as_ref()
                .is_none_or(|names| names.iter().any(|name| name == one.name))
        })
    }
}
