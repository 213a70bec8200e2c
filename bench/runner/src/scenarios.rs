//! What is measured.

use crate::{
    Options,
    peers::{Peer, Transport},
};

/// What a scenario's figures are.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Calls per second, and their times.
    Calls,
    /// As `Calls`, by MiB per second.
    Bytes,
    /// As `Calls`, of messages that are answered on the two streams of one call.
    Exchanges,
    /// Messages per second that nobody answers one by one.
    Messages,
    /// The times of one-way messages from the sender to the handler, at fixed rates.
    Delays,
    /// The times of small calls, alone and beside bulk.
    Beside,
    /// Connections per second, each with one call.
    Connects,
    /// The server's memory.
    Idle,
}

impl Kind {
    /// What its rate counts; none if the main figure is no rate.
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::Calls => Some("calls/s"),
            Self::Bytes => Some("MiB/s"),
            Self::Exchanges => Some("exchanges/s"),
            Self::Messages => Some("messages/s"),
            Self::Connects => Some("connections/s"),
            Self::Delays | Self::Beside | Self::Idle => None,
        }
    }
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
    /// Whether `--brief` keeps it.
    pub brief: bool,
    /// Whether `--grpc` keeps it, and those peers have it whose client and server are of two projects.
    pub grpc: bool,
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
        brief: false,
        grpc: false,
    }
}

const fn messages(
    name: &'static str,
    title: &'static str,
    command: &'static str,
    value: &'static str,
) -> Scenario {
    Scenario {
        kind: Kind::Messages,
        command,
        value,
        ..calls(name, title, 1, 1)
    }
    .brief()
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

    const fn brief(mut self) -> Self {
        self.brief = true;
        self
    }

    const fn grpc(mut self) -> Self {
        self.grpc = true;
        self
    }

    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Whether the server counts what the client sends, so that the two counts can be compared.
    pub fn is_tallied(&self) -> bool {
        matches!(self.command, "one-way" | "upload" | "delay")
    }

    pub fn transport(&self) -> Transport {
        match self.name {
            name if name.starts_with("unix") => Transport::Unix,
            name if name.starts_with("tls") => Transport::Tls,
            _ => Transport::Tcp,
        }
    }

    /// This project, by this scenario's transport.
    pub fn ours(&self) -> &'static str {
        match self.transport() {
            Transport::Tcp => "rpc",
            Transport::Tls => "rpc-tls",
            Transport::Unix => "rpc-unix",
        }
    }

    /// tonic, by this scenario's transport, if it has it.
    pub fn tonic(&self) -> &'static str {
        match self.transport() {
            Transport::Tls => "tonic-tls",
            Transport::Tcp | Transport::Unix => "tonic",
        }
    }

    /// The limit that this scenario's ratios are to.
    pub fn base(&self) -> &'static str {
        match self.name {
            _ if self.transport() == Transport::Unix => "L1 unix",
            _ if self.transport() == Transport::Tls => "L1 tls",
            "await" => "L3 sketch",
            "burn" => "L4 spawn",
            _ => "L1 tokio",
        }
    }

    /// Whether a peer can do it at all, and says something by it.
    pub fn applies(&self, peer: &Peer) -> bool {
        if peer.transport() != self.transport() {
            return false;
        }
        match peer.label {
            // The server of this row is tonic's: its memory is in tonic's own row.
            "rpc to tonic" => self.grpc && self.kind != Kind::Idle,
            _ if peer.is_mixed() => self.grpc,
            "zeromq" => matches!(self.command, "one-way" | "delay"),
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
            Kind::Calls | Kind::Connects | Kind::Exchanges | Kind::Messages => "per_s",
            Kind::Bytes => "mib_s",
            Kind::Delays => "at_10k_p50_us",
            Kind::Beside => "p99_us",
            Kind::Idle => "per_conn",
        }
    }
}

pub const SCENARIOS: [Scenario; 38] = [
    calls("latency", "1 connection, 1 in flight, 64 B", 1, 1)
        .brief()
        .grpc(),
    calls("small-2", "1 client, 2 in flight, 64 B", 1, 2),
    calls("small-4", "1 client, 4 in flight, 64 B", 1, 4),
    calls("small-8", "1 client, 8 in flight, 64 B", 1, 8),
    calls("small-64", "1 connection, 64 in flight, 64 B", 1, 64)
        .brief()
        .grpc(),
    calls("small-256", "1 connection, 256 in flight, 64 B", 1, 256).brief(),
    calls("conns-1", "1 connection x 16 in flight, 64 B", 1, 16),
    calls("conns-4", "4 connections x 16 in flight, 64 B", 4, 16),
    calls("conns-16", "16 connections x 16 in flight, 64 B", 16, 16)
        .brief()
        .grpc(),
    calls("conns-64", "64 connections x 16 in flight, 64 B", 64, 16),
    calls("large-64k", "1 connection, 16 in flight, 64 KiB", 1, 16)
        .value("64KiB")
        .brief()
        .grpc(),
    calls("large-64k-x4", "4 connections x 4 in flight, 64 KiB", 4, 4).value("64KiB"),
    calls("large-1m", "1 connection, 4 in flight, 1 MiB", 1, 4).value("1MiB"),
    calls(
        "mixed",
        "1 connection, 16 in flight, 16 B to 1 MiB, heavy-tailed",
        1,
        16,
    )
    .value("mixed"),
    messages(
        "one-way-16",
        "one-way messages, 1 connection, 16 B",
        "one-way",
        "16B",
    ),
    messages(
        "one-way",
        "one-way messages, 1 connection, 64 B",
        "one-way",
        "64B",
    ),
    messages(
        "one-way-1k",
        "one-way messages, 1 connection, 1 KiB",
        "one-way",
        "1KiB",
    ),
    messages(
        "stream",
        "a server's stream of 64 B messages, 1 connection",
        "watch",
        "64B",
    )
    .grpc(),
    messages(
        "stream-1k",
        "a server's stream of 1 KiB messages, 1 connection",
        "watch",
        "1KiB",
    ),
    messages(
        "upload",
        "a client's stream of 64 B messages, 1 connection",
        "upload",
        "64B",
    ),
    messages(
        "upload-1k",
        "a client's stream of 1 KiB messages, 1 connection",
        "upload",
        "1KiB",
    ),
    calls(
        "upload-64k",
        "a client's stream of 64 KiB messages, 1 connection",
        1,
        1,
    )
    .value("64KiB")
    .command("upload", Kind::Messages)
    .grpc(),
    calls(
        "ping-pong-1",
        "ping-pong on the streams of one call, 1 outstanding, 64 B",
        1,
        1,
    )
    .command("ping-pong", Kind::Exchanges)
    .brief(),
    calls(
        "ping-pong-16",
        "ping-pong on the streams of one call, 16 outstanding, 64 B",
        1,
        16,
    )
    .command("ping-pong", Kind::Exchanges)
    .brief(),
    calls(
        "delay",
        "one-way messages at fixed rates, from the sender to the handler, 64 B",
        1,
        1,
    )
    .command("delay", Kind::Delays)
    .work("delays")
    .brief(),
    calls(
        "beside",
        "a small call beside 2 transfers of 4 MiB values, 1 connection",
        1,
        1,
    )
    .command("beside", Kind::Beside)
    .brief(),
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
    calls("tls-latency", "TLS, 1 in flight, 64 B", 1, 1),
    calls("tls-64", "TLS, 64 in flight, 64 B", 1, 64),
    calls("tls-large-64k", "TLS, 16 in flight, 64 KiB", 1, 16).value("64KiB"),
    calls(
        "tls-handshakes",
        "TLS, new connections, 8 at a time, whole handshakes",
        1,
        8,
    )
    .command("handshakes", Kind::Connects),
    calls(
        "tls-resumed",
        "TLS, new connections, 8 at a time, resumed sessions",
        1,
        8,
    )
    .command("resumed", Kind::Connects),
    calls("tls-idle", "TLS, 1,000 idle connections", 1_000, 1).command("idle", Kind::Idle),
    calls("idle", "1,000 idle connections", 1_000, 1)
        .command("idle", Kind::Idle)
        .grpc(),
    calls("idle-10k", "10,000 idle connections", 10_000, 1).command("idle", Kind::Idle),
];

impl Options {
    /// The chosen scenarios.
    pub fn scenarios(&self) -> impl Iterator<Item = &'static Scenario> {
        let kept = SCENARIOS
            .iter()
            .filter(|one| (one.brief || !self.brief) && (one.grpc || !self.grpc));
        kept.filter(|one| {
            self.scenarios
                .as_ref()
                .is_none_or(|names| names.iter().any(|name| name == one.name))
        })
    }
}
