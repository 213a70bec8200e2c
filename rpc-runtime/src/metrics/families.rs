//! Families: all metrics with their names, from what was counted.

use std::borrow::Cow;

use super::{
    connections::{ConnectionTotals, connections},
    family::{Family, Kind, Sample, Value},
    labels::{ENDS, FATES, Protocol, Side},
    live::{self, ServerGauges},
    procedure_calls::ProcedureCalls,
    process::Process,
    totals::{ClientTotals, DRAINS, LIMITS, TlsTotals, Total},
    traffic,
};
use crate::api::{counters::Counters, server_limit::ServerLimit};

/// Returns all metrics that have a sample.
pub(super) fn all(procedures: &[ProcedureCalls]) -> Vec<Family> {
    let mut all = Families(Vec::new());
    for side in Side::ALL {
        calls(&mut all, side, procedures);
        connections_of(&mut all, side);
    }
    let (gauges, counters) = live::servers();
    servers(&mut all, procedures, &gauges, counters);
    clients(&mut all);
    process(&mut all);
    all.0.retain(|family| !family.samples.is_empty());
    all.0
}

struct Families(Vec<Family>);

impl Families {
    /// Adds a metric. Its unit is the end of its name.
    fn add(&mut self, kind: Kind, name: &'static str, help: &'static str) -> &mut Family {
        let stem = name.strip_suffix("_total").unwrap_or(name);
        let mut units = ["seconds", "bytes", "ratio"].into_iter();
        let family = Family {
            name,
            help,
            kind,
            unit: units.find(|unit| stem.ends_with(unit)),
            samples: Vec::new(),
        };
        self.0.push(family);
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.add(Kind::Counter, name, help)
    }

    fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.add(Kind::Gauge, name, help)
    }
}

type Label = (&'static str, &'static str);

impl Family {
    fn sample<const N: usize>(&mut self, labels: [Label; N], value: Value) {
        let labels = labels.map(|(name, value)| (name, Cow::Borrowed(value)));
        self.samples.push(Sample {
            labels: labels.into(),
            value,
        });
    }

    fn count<const N: usize>(&mut self, labels: [Label; N], count: u64) {
        self.sample(labels, Value::Count(count));
    }

    fn total<const N: usize>(&mut self, labels: [Label; N], total: &Total) {
        self.count(labels, total.get());
    }
}

/// The labels of a procedure.
fn of(calls: &ProcedureCalls) -> [Label; 3] {
    [
        ("service", calls.service()),
        ("method", calls.method()),
        ("protocol", calls.protocol().name()),
    ]
}

fn of_protocol(protocol: Protocol) -> [Label; 1] {
    [("protocol", protocol.name())]
}

/// Chooses the name of a metric that both sides have.
fn name(side: Side, server: &'static str, client: &'static str) -> &'static str {
    match side {
        Side::Server => server,
        Side::Client => client,
    }
}

fn calls(all: &mut Families, side: Side, procedures: &[ProcedureCalls]) {
    // A procedure of which there are only one-way calls has no calls.
    let has_calls = |calls: &&ProcedureCalls| calls.side() == side && calls.started() > 0;
    let calls = || procedures.iter().filter(has_calls);
    let started = all.counter(
        name(side, "rpc_server_started_total", "rpc_client_started_total"),
        "Calls that have begun, one-way calls left out.",
    );
    calls().for_each(|one| started.count(of(one), one.started()));
    let handled = all.counter(
        name(side, "rpc_server_handled_total", "rpc_client_handled_total"),
        "Calls that have ended, by their code.",
    );
    for one in calls() {
        let [service, method, protocol] = of(one);
        for (code, count) in one.codes() {
            handled.count([service, method, protocol, ("code", code.name())], count);
        }
    }
    let in_flight = all.gauge(
        name(side, "rpc_server_in_flight", "rpc_client_in_flight"),
        "Calls that have begun and not ended.",
    );
    calls().for_each(|one| in_flight.count(of(one), one.in_flight()));
    let seconds = all.add(
        Kind::Histogram,
        name(side, "rpc_server_handling_seconds", "rpc_client_handling_seconds"),
        match side {
            Side::Server => "Time from the last byte of the request until the handler has ended.",
            Side::Client => "Time from the beginning of the call until its outcome is there.",
        },
    );
    calls().for_each(|one| seconds.sample(of(one), Value::Histogram(one.latency().clone())));
}

fn connections_of(all: &mut Families, side: Side) {
    let known = connections();
    let known = || known.iter().filter(|((of, ..), _)| *of == side);
    let labels = |(_, protocol, transport): (Side, Protocol, &'static str)| {
        [("transport", transport), ("protocol", protocol.name())]
    };
    let open = all.gauge(
        name(side, "rpc_server_connections", "rpc_client_connections"),
        "Open connections.",
    );
    known().for_each(|(&kind, totals)| open.count(labels(kind), totals.open()));
    let opened = all.counter(
        name(
            side,
            "rpc_server_connections_opened_total",
            "rpc_client_connections_opened_total",
        ),
        "Connections that were opened.",
    );
    known().for_each(|(&kind, totals)| opened.count(labels(kind), totals.opened));
    let closed = all.counter(
        name(
            side,
            "rpc_server_connections_closed_total",
            "rpc_client_connections_closed_total",
        ),
        "Connections that have ended, by why.",
    );
    for (&kind, ConnectionTotals { ended, .. }) in known() {
        let [transport, protocol] = labels(kind);
        for (end, &count) in ENDS.into_iter().zip(ended).filter(|(_, count)| **count > 0) {
            closed.count([transport, protocol, ("end", end)], count);
        }
    }
    let received = all.counter(
        name(
            side,
            "rpc_server_received_bytes_total",
            "rpc_client_received_bytes_total",
        ),
        "Bytes that were read, within TLS.",
    );
    for protocol in Protocol::ALL {
        received.count(of_protocol(protocol), traffic::bytes(side, protocol).0);
    }
    let sent = all.counter(
        name(side, "rpc_server_sent_bytes_total", "rpc_client_sent_bytes_total"),
        "Bytes that were written, within TLS.",
    );
    for protocol in Protocol::ALL {
        sent.count(of_protocol(protocol), traffic::bytes(side, protocol).1);
    }
    let handshakes = all.counter(
        name(
            side,
            "rpc_server_tls_handshakes_total",
            "rpc_client_tls_handshakes_total",
        ),
        "TLS handshakes that have ended.",
    );
    let totals = TlsTotals::of(side);
    handshakes.total([("result", "ok")], &totals.ok);
    handshakes.total([("result", "failed")], &totals.failed);
    let expiry = all.gauge(
        name(
            side,
            "rpc_server_certificate_expires_in_seconds",
            "rpc_client_certificate_expires_in_seconds",
        ),
        "Seconds until the certificate expires that this side shows; negative when it has expired.",
    );
    for (_, certificate, seconds) in live::certificates().into_iter().filter(|(of, ..)| *of == side) {
        expiry.samples.push(Sample {
            labels: vec![("certificate", certificate.into())],
            value: Value::Number(seconds as f64),
        });
    }
}

fn servers(all: &mut Families, procedures: &[ProcedureCalls], gauges: &[ServerGauges], counters: Counters) {
    let ages = all.add(
        Kind::Histogram,
        "rpc_server_queue_age_seconds",
        "Time from the last byte of the request until its handler is polled first.",
    );
    for protocol in Protocol::ALL {
        let of_protocol = traffic::queue_ages(protocol);
        if of_protocol.count() > 0 {
            ages.sample([("protocol", protocol.name())], Value::Histogram(of_protocol));
        }
    }
    let served = || procedures.iter().filter(|one| one.side() == Side::Server);
    let blocked = all.counter(
        "rpc_server_blocked_handlers_total",
        "Times that a handler blocked its thread for more than 2 ms.",
    );
    for one in served().filter(|one| one.blocked() > 0) {
        blocked.count(of(one), one.blocked());
    }
    let one_ways = all.counter(
        "rpc_server_one_ways_total",
        "One-way calls that have arrived, by what became of them.",
    );
    for one in served() {
        let [service, method, _] = of(one);
        for (fate, count) in one.one_ways() {
            one_ways.count([service, method, ("fate", fate)], count);
        }
    }
    let rejected = all.counter(
        "rpc_server_rejected_total",
        "Calls and one-way calls that were refused before their handlers began.",
    );
    for limit in ServerLimit::ALL {
        for (reason, one_way) in [("limit", false), ("one_way_limit", true)] {
            let labels = [("reason", reason), ("limit", limit.label())];
            rejected.count(labels, counters.refused(limit, one_way));
        }
    }
    rejected.count([("reason", "denied")], counters.calls_denied());
    let denied = all.counter(
        "rpc_server_connections_denied_total",
        "Connections that were drained because a policy has denied too many of their calls.",
    );
    denied.count([], counters.drained_by_denials());
    let limited = all.counter(
        "rpc_server_limited_total",
        "Calls that middleware of the module limit has refused, by which.",
    );
    limited.total([("limit", "rate")], &LIMITS.rate);
    limited.total([("limit", "concurrency")], &LIMITS.concurrency);
    limited.total([("limit", "shed")], &LIMITS.shed);
    let faults = all.counter(
        "rpc_server_faults_total",
        "Faults of peers that end no connection by themselves.",
    );
    faults.count([("kind", "unknown_procedure")], counters.unknown_procedures());
    faults.count([("kind", "malformed_message")], counters.malformed_messages());
    faults.count([("kind", "empty_frame")], counters.empty_frames());
    faults.count([("kind", "ignored_frame")], counters.ignored_frames());
    faults.count([("kind", "late_frame")], counters.late_frames());
    faults.count([("kind", "early_ping")], counters.early_pings());
    faults.count([("kind", "other")], counters.other_faults());
    let problems = all.counter(
        "rpc_server_accept_problems_total",
        "Trouble with accepting connections.",
    );
    problems.count([("kind", "max_connections")], counters.connections_delayed());
    problems.count([("kind", "memory")], counters.accepts_paused());
    problems.count([("kind", "os")], counters.accept_errors());
    problems.count([("kind", "lost")], counters.accepts_failed());
    problems.count([("kind", "proxy_header")], counters.proxy_headers_refused());
    let drains = all.counter("rpc_server_drains_total", "Drains of servers that have begun.");
    drains.total([], &DRAINS.begun);
    let drained = all.counter(
        "rpc_server_drained_calls_total",
        "What became of calls in drains that have ended.",
    );
    drained.total([("outcome", "completed")], &DRAINS.completed);
    drained.total([("outcome", "aborted")], &DRAINS.aborted);
    drained.total([("outcome", "one_ways_dropped")], &DRAINS.one_ways_dropped);
    drained.total([("outcome", "stuck")], &DRAINS.stuck);
    drained.total([("outcome", "starved")], &DRAINS.starved);
    if !gauges.is_empty() {
        live_servers(all, gauges);
    }
}

fn live_servers(all: &mut Families, gauges: &[ServerGauges]) {
    let sum = |of: fn(&ServerGauges) -> u64| gauges.iter().map(of).fold(0, u64::saturating_add);
    let draining = all.gauge(
        "rpc_server_draining",
        "Servers whose drain has begun and not ended.",
    );
    draining.count([], sum(|one| one.is_draining.into()));
    let buffered = all.gauge(
        "rpc_server_buffered_bytes",
        "What all connections of servers hold.",
    );
    buffered.count([], sum(|one| one.buffered));
    let limited = || {
        gauges
            .iter()
            .filter_map(|one| Some((one.buffered, one.buffered_limit?)))
    };
    if limited().next().is_some() {
        let limit = all.gauge(
            "rpc_server_buffered_limit_bytes",
            "What all connections may hold of the servers that have a limit.",
        );
        limit.count(
            [],
            limited().fold(0, |sum: u64, (_, limit)| sum.saturating_add(limit)),
        );
        let ratio = all.gauge(
            "rpc_server_buffered_ratio",
            "The part of its limit that the connections of a server hold, of the server where it is greatest.",
        );
        let greatest = limited().map(|(held, limit)| held as f64 / limit.max(1) as f64);
        ratio.sample([], Value::Number(greatest.fold(0.0, f64::max)));
    }
    let tasks = all.gauge(
        "rpc_server_handler_tasks",
        "Handlers with a task of their own, because they wait or compute.",
    );
    tasks.count([], sum(|one| one.handler_tasks));
    let limit = all.gauge(
        "rpc_server_handler_tasks_limit",
        "How many handlers may have a task of their own.",
    );
    limit.count([], sum(|one| one.handler_tasks_limit));
}

fn clients(all: &mut Families) {
    let totals = || Protocol::ALL.map(|protocol| (protocol.name(), ClientTotals::of(protocol)));
    let sent = all.counter(
        "rpc_client_one_ways_sent_total",
        "One-way calls that are in the output of a connection.",
    );
    for protocol in Protocol::ALL {
        sent.count(of_protocol(protocol), traffic::sends(protocol));
    }
    let told = all.counter(
        "rpc_client_one_ways_total",
        "One-way calls of which the server has told what became of them.",
    );
    for protocol in Protocol::ALL {
        let fates = FATES.into_iter().zip(traffic::told_fates(protocol));
        for (fate, count) in fates.filter(|(_, count)| *count > 0) {
            told.count([("protocol", protocol.name()), ("fate", fate)], count);
        }
    }
    let reconnects = all.counter(
        "rpc_client_reconnects_total",
        "Connections that were made after an earlier one to the same service.",
    );
    for (protocol, of) in totals() {
        reconnects.total([("protocol", protocol)], &of.reconnects);
    }
    let failures = all.counter(
        "rpc_client_connect_failures_total",
        "Attempts to connect that failed on all addresses of a client.",
    );
    for (protocol, of) in totals() {
        failures.total([("protocol", protocol)], &of.connect_failures);
    }
    let retries = all.counter("rpc_client_retries_total", "Calls that were sent again, by why.");
    for (protocol, of) in totals() {
        let labels = |reason| [("protocol", protocol), ("reason", reason)];
        retries.total(labels("connection"), &of.retries_of_connection);
        retries.total(labels("hint"), &of.retries_of_hint);
    }
    let denied = all.counter(
        "rpc_client_retries_denied_total",
        "Calls that were not sent again because the retry budget was empty.",
    );
    for (protocol, of) in totals() {
        denied.total([("protocol", protocol)], &of.retries_denied);
    }
    let budget = all.gauge(
        "rpc_client_retry_budget_ratio",
        "The part of the retry budget that is left, of the client that has least.",
    );
    if let Some(least) = live::least_retry_budget() {
        budget.sample([], Value::Number(least));
    }
}

fn process(all: &mut Families) {
    let info = all.add(
        Kind::Info,
        "rpc_build_info",
        "The version of rpc-runtime, its compiler, and its features.",
    );
    let features: Vec<&'static str> = FEATURES
        .iter()
        .filter(|(_, is_on)| *is_on)
        .map(|(name, _)| *name)
        .collect();
    info.samples.push(Sample {
        labels: vec![
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("rustc", env!("RPC_RUNTIME_RUSTC").into()),
            ("features", features.join(",").into()),
        ],
        value: Value::Count(1),
    });
    let process = Process::read();
    let numbers = [
        (
            Kind::Gauge,
            "process_start_time_seconds",
            "When the process began, in seconds since 1970.",
            process.start_time,
        ),
        (
            Kind::Counter,
            "process_cpu_seconds_total",
            "CPU time of the process.",
            process.cpu,
        ),
    ];
    for (kind, name, help, number) in numbers {
        if let Some(number) = number {
            all.add(kind, name, help).sample([], Value::Number(number));
        }
    }
    let counts = [
        ("process_open_fds", "Open file descriptors.", process.open_fds),
        (
            "process_max_fds",
            "The limit of file descriptors.",
            process.max_fds,
        ),
        (
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM.",
            process.resident_bytes,
        ),
    ];
    for (name, help, count) in counts {
        if let Some(count) = count {
            all.gauge(name, help).count([], count);
        }
    }
}

/// The features of this crate, and whether they are on.
const FEATURES: [(&str, bool); 8] = [
    ("zstd", cfg!(feature = "zstd")),
    ("lz4", cfg!(feature = "lz4")),
    ("json", cfg!(feature = "json")),
    ("sim", cfg!(feature = "sim")),
    ("tower", cfg!(feature = "tower")),
    ("tls", cfg!(feature = "tls")),
    ("tls-ring", cfg!(feature = "tls-ring")),
    ("tls-dev", cfg!(feature = "tls-dev")),
];
