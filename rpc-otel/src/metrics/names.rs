//! Names: what OpenTelemetry calls a metric of the runtime, and its labels.

use std::borrow::Cow;

use rpc_runtime::metrics::{Family, Kind, Sample};

/// How the numbers of a metric behave, as OpenTelemetry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// It only grows.
    Counter,
    /// It goes up and down, and those of several processes may be added up.
    UpDownCounter,
    /// It goes up and down.
    Gauge,
}

/// What OpenTelemetry calls a metric.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: Cow<'static, str>,
    /// The unit in UCUM: `s`, `By`, `1` for a ratio, and empty for a count.
    pub(super) unit: &'static str,
    /// How numbers behave; a histogram has none.
    pub(super) behaviour: Behaviour,
}

/// What OpenTelemetry's conventions name: the runtime's name, theirs, the unit.
const BY_CONVENTION: [(&str, &str, &str, Behaviour); 5] = [
    (
        "rpc_server_handling_seconds",
        "rpc.server.call.duration",
        "s",
        Behaviour::Gauge,
    ),
    (
        "rpc_client_handling_seconds",
        "rpc.client.call.duration",
        "s",
        Behaviour::Gauge,
    ),
    (
        "process_cpu_seconds_total",
        "process.cpu.time",
        "s",
        Behaviour::Counter,
    ),
    (
        "process_resident_memory_bytes",
        "process.memory.usage",
        "By",
        Behaviour::UpDownCounter,
    ),
    (
        "process_open_fds",
        "process.unix.file_descriptor.count",
        "",
        Behaviour::UpDownCounter,
    ),
];

impl Name {
    /// Those of the conventions, and else the runtime's with dots: `rpc_server_received_bytes_total` is `rpc.server.received` with the unit
    /// `By`. So Prometheus, which writes the unit and `_total` behind it, has the runtime's name again.
    pub(super) fn of(family: &Family) -> Self {
        let known = BY_CONVENTION.iter().find(|(name, ..)| *name == family.name());
        if let Some(&(_, name, unit, behaviour)) = known {
            return Self {
                name: name.into(),
                unit,
                behaviour,
            };
        }
        let behaviour = match family.kind() {
            Kind::Counter => Behaviour::Counter,
            _ => Behaviour::Gauge,
        };
        let name = family.name();
        let name = name.strip_suffix("_total").unwrap_or(name);
        let (name, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, *unit)))
            .unwrap_or((name, ""));
        let (prefix, rest) = PREFIXES
            .iter()
            .find_map(|(ours, theirs)| Some((*theirs, name.strip_prefix(ours)?)))
            .unwrap_or(("", name));
        Self {
            name: format!("{prefix}{rest}").into(),
            unit,
            behaviour,
        }
    }
}

/// The units that stand in the names of the runtime, and how UCUM writes them.
const UNITS: [(&str, &str); 3] = [("_seconds", "s"), ("_bytes", "By"), ("_ratio", "1")];

const PREFIXES: [(&str, &str); 4] = [
    ("rpc_server_", "rpc.server."),
    ("rpc_client_", "rpc.client."),
    ("rpc_", "rpc."),
    ("process_", "process."),
];

/// The labels of a sample as attributes: those that spans have, too, by the same names.
pub(super) fn attributes(sample: &Sample) -> Vec<(&'static str, String)> {
    let mut attributes = Vec::with_capacity(sample.labels().len());
    for (label, value) in sample.labels() {
        let (name, value) = match (*label, &**value) {
            ("service", service) => ("rpc.method", method(service, sample.label("method"))),
            // It is in that of the service.
            ("method", _) => continue,
            ("protocol", "native") => ("rpc.system.name", "rustrpc".to_owned()),
            ("protocol", other) => ("rpc.system.name", other.to_owned()),
            ("code", code) => ("rpc.status_code", code.to_owned()),
            (other, value) => (other, value.to_owned()),
        };
        attributes.push((name, value));
    }
    attributes
}

/// The path of a procedure, as spans name it.
fn method(service: &str, method: Option<&str>) -> String {
    match (service, method) {
        ("_other", _) => "_OTHER".to_owned(),
        (service, Some(method)) => format!("{service}/{method}"),
        (service, None) => service.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rpc_runtime::metrics::snapshot;

    use super::*;

    /// What Prometheus makes of a name, by OpenTelemetry's rules.
    fn in_prometheus(name: &Name) -> String {
        let unit = match name.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            "1" => "_ratio",
            _ => "",
        };
        let total = match name.behaviour {
            Behaviour::Counter => "_total",
            _ => "",
        };
        format!("{}{unit}{total}", name.name.replace('.', "_"))
    }

    #[test]
    fn names_come_back_in_prometheus_but_for_those_of_the_conventions() {
        let snapshot = snapshot();
        assert!(snapshot.families().len() > 10);
        for family in snapshot.families() {
            let name = Name::of(family);
            let known = BY_CONVENTION.iter().find(|(ours, ..)| *ours == family.name());
            match known {
                Some((_, theirs, ..)) => assert_eq!(name.name, *theirs),
                None => assert_eq!(in_prometheus(&name), family.name()),
            }
        }
        let bytes = Name::of(snapshot.family("rpc_server_received_bytes_total").unwrap());
        assert_eq!(
            bytes,
            Name {
                name: "rpc.server.received".into(),
                unit: "By",
                behaviour: Behaviour::Counter,
            }
        );
    }

    #[test]
    fn calls_of_unknown_procedures_are_named_as_in_spans() {
        assert_eq!(method("_other", Some("_other")), "_OTHER");
        assert_eq!(method("kv.v1.Kv", Some("rpc_fetch")), "kv.v1.Kv/rpc_fetch");
    }
}
