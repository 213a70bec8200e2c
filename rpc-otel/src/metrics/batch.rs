//! Batch: a snapshot of the runtime as a message of OTLP.
//!
//! The SDK's own instruments take single measurements and no finished histogram, so the messages are made here. Counts and buckets are
//! those of the snapshot, and so are exact.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ScopeMetrics,
        Sum, metric::Data, number_data_point,
    },
};
use rpc_runtime::metrics::{self, Family, Kind, Sample, Snapshot, Value};

use super::names::{Behaviour, Name, attributes};

/// All metrics of a snapshot that was taken just now.
pub(super) fn of(snapshot: &Snapshot) -> ScopeMetrics {
    let times = Times {
        start: start(snapshot),
        now: nanos(SystemTime::now()),
    };
    ScopeMetrics {
        scope: Some(InstrumentationScope {
            name: "rpc-otel".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        }),
        metrics: snapshot
            .families()
            .iter()
            .map(|family| times.metric(family))
            .collect(),
        schema_url: String::new(),
    }
}

/// The times of a batch, in nanoseconds since 1970.
#[derive(Clone, Copy)]
struct Times {
    /// When counting began; 0 where that is not known.
    start: u64,
    now: u64,
}

impl Times {
    fn metric(self, family: &Family) -> Metric {
        let Name {
            name,
            unit,
            behaviour,
        } = Name::of(family);
        let aggregation_temporality = AggregationTemporality::Cumulative as i32;
        let numbers = || {
            let points = family.samples().iter();
            points.filter_map(|sample| self.number(sample)).collect()
        };
        let data = match (family.kind(), behaviour) {
            (Kind::Histogram, _) => Data::Histogram(Histogram {
                data_points: {
                    let points = family.samples().iter();
                    points.filter_map(|sample| self.histogram(sample)).collect()
                },
                aggregation_temporality,
            }),
            (_, Behaviour::Gauge) => Data::Gauge(Gauge {
                data_points: numbers(),
            }),
            (_, Behaviour::Counter | Behaviour::UpDownCounter) => Data::Sum(Sum {
                data_points: numbers(),
                aggregation_temporality,
                is_monotonic: behaviour == Behaviour::Counter,
            }),
        };
        Metric {
            name: name.into_owned(),
            description: family.help().to_owned(),
            unit: unit.to_owned(),
            metadata: Vec::new(),
            data: Some(data),
        }
    }

    /// None for what is no number.
    fn number(self, sample: &Sample) -> Option<NumberDataPoint> {
        let value = match sample.value() {
            Value::Count(count) => match i64::try_from(*count) {
                Ok(count) => number_data_point::Value::AsInt(count),
                Err(_) => number_data_point::Value::AsDouble(*count as f64),
            },
            Value::Number(number) => number_data_point::Value::AsDouble(*number),
            _ => return None,
        };
        Some(NumberDataPoint {
            attributes: key_values(sample),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            value: Some(value),
            ..Default::default()
        })
    }

    /// None for what is no histogram.
    fn histogram(self, sample: &Sample) -> Option<HistogramDataPoint> {
        let Value::Histogram(histogram) = sample.value() else {
            return None;
        };
        let (explicit_bounds, bucket_counts) = buckets(histogram);
        Some(HistogramDataPoint {
            attributes: key_values(sample),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            count: histogram.count(),
            sum: Some(histogram.sum().as_secs_f64()),
            bucket_counts,
            explicit_bounds,
            ..Default::default()
        })
    }
}

/// The bounds in seconds, and how many durations are between them: one number more than bounds.
fn buckets(histogram: &metrics::Histogram) -> (Vec<f64>, Vec<u64>) {
    let (mut bounds, mut counts) = (Vec::new(), Vec::new());
    let mut before = 0;
    for (bound, below) in histogram.buckets() {
        bounds.extend(bound.map(|bound| bound.as_secs_f64()));
        counts.push(below - before);
        before = below;
    }
    (bounds, counts)
}

fn key_values(sample: &Sample) -> Vec<KeyValue> {
    let attributes = attributes(sample).into_iter();
    attributes
        .map(|(key, value)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue {
                value: Some(any_value::Value::StringValue(value)),
            }),
            ..Default::default()
        })
        .collect()
}

/// When the process began, and so its counters; 0 where that is not known.
fn start(snapshot: &Snapshot) -> u64 {
    let family = snapshot.family("process_start_time_seconds");
    match family
        .and_then(|family| family.samples().first())
        .map(Sample::value)
    {
        Some(Value::Number(seconds)) => (seconds * 1e9) as u64,
        _ => 0,
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
