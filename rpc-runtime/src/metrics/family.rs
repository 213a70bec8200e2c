//! Family: one metric with its samples.

use std::borrow::Cow;

use super::histogram::Histogram;

/// One metric of a [`Snapshot`](super::Snapshot), with its samples.
///
/// ```
/// use rpc_runtime::metrics::{self, Value};
///
/// for family in metrics::snapshot().families() {
///     for sample in family.samples() {
///         if let Value::Number(number) = sample.value() {
///             println!("{} {:?} {number}", family.name(), sample.labels());
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Option<&'static str>,
    pub(super) samples: Vec<Sample>,
}

impl Family {
    /// Returns the name as Prometheus knows it: `rpc_server_started_total`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns what it means, in a sentence.
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// Returns how its numbers behave.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns its unit, which also stands in the name: `seconds`, `bytes` or `ratio`. None if it counts things.
    pub fn unit(&self) -> Option<&'static str> {
        self.unit
    }

    /// Returns the samples, each with other labels.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

/// How the numbers of a metric behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts durations in buckets.
    Histogram,
    /// It is always 1; its labels say something of the process.
    Info,
}

/// One value of a metric, and its labels.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Sample {
    pub(super) labels: Vec<(&'static str, Cow<'static, str>)>,
    pub(super) value: Value,
}

impl Sample {
    /// Returns the labels, each a name and a value.
    pub fn labels(&self) -> &[(&'static str, Cow<'static, str>)] {
        &self.labels
    }

    /// Returns the value of the label `name`; none if the sample does not have it.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| &**value)
    }

    /// Returns the value.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

/// The value of a [`Sample`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A whole number, such as a count.
    Count(u64),
    /// A number with a fraction, or one that may be negative.
    Number(f64),
    /// Durations in buckets.
    Histogram(Histogram),
}
