//! Render: metrics as text, for Prometheus and in OpenMetrics.

use std::fmt::Write;

use super::family::{Family, Kind, Sample, Value};

/// The text in which metrics are rendered.
///
/// ```
/// use rpc_runtime::metrics::Format;
///
/// // What Prometheus 2 and 3 send.
/// let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
/// assert_eq!(Format::of_accept(accept), Format::OpenMetrics);
/// assert_eq!(Format::of_accept("*/*"), Format::Prometheus);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The text of Prometheus, version 0.0.4: the default.
    #[default]
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The content type of [`Format::Prometheus`].
    pub const PROMETHEUS: &'static str = "text/plain; version=0.0.4; charset=utf-8";
    /// The content type of [`Format::OpenMetrics`].
    pub const OPEN_METRICS: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Returns the content type, for the header of that name.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => Self::PROMETHEUS,
            Self::OpenMetrics => Self::OPEN_METRICS,
        }
    }

    /// Chooses by the header `Accept` of an HTTP request: OpenMetrics if the header names it and ranks it no lower than plain text.
    #[must_use]
    pub fn of_accept(accept: &str) -> Self {
        let open_metrics = quality(accept, "application/openmetrics-text");
        match open_metrics > 0 && open_metrics >= quality(accept, "text/plain") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }
}

/// How much the header wants this type, in thousandths; 0 if it does not name it.
fn quality(accept: &str, wanted: &str) -> u32 {
    let ranges = accept.split(',').map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        let quality = quality.map_or(1.0, |quality| quality.parse::<f64>().unwrap_or(0.0));
        if is_it {
            (quality.clamp(0.0, 1.0) * 1000.0) as u32
        } else {
            0
        }
    });
    ranges.max().unwrap_or(0)
}

/// Renders metrics.
pub(super) fn text(families: &[Family], format: Format) -> String {
    let mut text = Text {
        out: String::with_capacity(16 * 1024),
        format,
    };
    families.iter().for_each(|family| text.family(family));
    if format == Format::OpenMetrics {
        text.out.push_str("# EOF\n");
    }
    text.out
}

struct Text {
    out: String,
    format: Format,
}

impl Text {
    fn family(&mut self, family: &Family) {
        let name = self.family_name(family);
        self.line("TYPE", name, self.kind(family.kind));
        if let (Some(unit), Format::OpenMetrics) = (family.unit, self.format) {
            self.line("UNIT", name, unit);
        }
        let help = escaped(family.help, self.format == Format::OpenMetrics);
        self.line("HELP", name, &help);
        for sample in &family.samples {
            match &sample.value {
                Value::Count(count) => self.sample(family.name, "", sample, None, &count.to_string()),
                Value::Number(number) => self.sample(family.name, "", sample, None, &number.to_string()),
                Value::Histogram(histogram) => {
                    for (bound, below) in histogram.buckets() {
                        let bound = bound.map(|bound| bound.as_secs_f64().to_string());
                        let bound = bound.as_deref().unwrap_or("+Inf");
                        self.sample(family.name, "_bucket", sample, Some(bound), &below.to_string());
                    }
                    let sum = histogram.sum().as_secs_f64().to_string();
                    self.sample(family.name, "_sum", sample, None, &sum);
                    self.sample(
                        family.name,
                        "_count",
                        sample,
                        None,
                        &histogram.count().to_string(),
                    );
                }
            }
        }
    }

    /// The name in the lines about a metric: OpenMetrics leaves what only its samples have.
    fn family_name(&self, family: &Family) -> &'static str {
        let end = match family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        match self.format {
            Format::Prometheus => family.name,
            Format::OpenMetrics => family.name.strip_suffix(end).unwrap_or(family.name),
        }
    }

    fn kind(&self, kind: Kind) -> &'static str {
        match (kind, self.format) {
            (Kind::Counter, _) => "counter",
            (Kind::Gauge, _) | (Kind::Info, Format::Prometheus) => "gauge",
            (Kind::Histogram, _) => "histogram",
            (Kind::Info, Format::OpenMetrics) => "info",
        }
    }

    fn line(&mut self, what: &str, name: &str, says: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.out, "# {what} {name} {says}");
    }

    fn sample(&mut self, name: &str, end: &str, sample: &Sample, bound: Option<&str>, value: &str) {
        self.out.push_str(name);
        self.out.push_str(end);
        let labels = sample.labels.iter().map(|(name, value)| (*name, &**value));
        let mut before = '{';
        for (name, value) in labels.chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.out, "{before}{name}=\"{}\"", escaped(value, true));
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

/// Escapes a text so that it stands in one line, and between quotes if `is_quoted`.
fn escaped(text: &str, is_quoted: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if is_quoted => escaped.push_str("\\\""),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::histogram::{AtomicHistogram, Histogram};

    fn family(name: &'static str, kind: Kind, unit: Option<&'static str>, value: Value) -> Family {
        Family {
            name,
            help: "Says \"what\" it is.\nAnd \\ more.",
            kind,
            unit,
            samples: vec![Sample {
                labels: vec![("path", "a\\b\"c\nd".into())],
                value,
            }],
        }
    }

    #[test]
    fn a_counter_has_its_suffix_where_each_format_wants_it() {
        let counter = [family(
            "a_bytes_total",
            Kind::Counter,
            Some("bytes"),
            Value::Count(7),
        )];
        assert_eq!(
            text(&counter, Format::Prometheus),
            r#"# TYPE a_bytes_total counter
# HELP a_bytes_total Says "what" it is.\nAnd \\ more.
a_bytes_total{path="a\\b\"c\nd"} 7
"#
        );
        assert_eq!(
            text(&counter, Format::OpenMetrics),
            r#"# TYPE a_bytes counter
# UNIT a_bytes bytes
# HELP a_bytes Says \"what\" it is.\nAnd \\ more.
a_bytes_total{path="a\\b\"c\nd"} 7
# EOF
"#
        );
    }

    #[test]
    fn a_gauge_and_an_info_without_labels() {
        let mut families = [
            family("a_ratio", Kind::Gauge, Some("ratio"), Value::Number(-0.25)),
            family("b_info", Kind::Info, None, Value::Count(1)),
        ];
        families.iter_mut().for_each(|family| {
            family.samples[0].labels.clear();
            family.help = "What.";
        });
        let plain = text(&families, Format::Prometheus);
        assert!(plain.contains("\na_ratio -0.25\n"));
        assert!(plain.contains("# TYPE b_info gauge\n") && plain.ends_with("\nb_info 1\n"));
        let open = text(&families, Format::OpenMetrics);
        assert!(open.contains("# TYPE b info\n") && open.ends_with("\nb_info 1\n# EOF\n"));
    }

    #[test]
    fn a_histogram_has_its_buckets_its_sum_and_its_count() {
        let counted = AtomicHistogram::new();
        [49, 50, 1_500_000]
            .into_iter()
            .for_each(|micros| counted.record(micros));
        let mut histogram = Histogram::new();
        histogram.add(&counted);
        let mut of = family(
            "a_seconds",
            Kind::Histogram,
            Some("seconds"),
            Value::Histogram(histogram),
        );
        of.samples[0].labels = vec![("method", "m".into())];
        let text = text(&[of], Format::Prometheus);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 22);
        assert_eq!(lines[0], r#"a_seconds_bucket{method="m",le="0.00005"} 1"#);
        assert_eq!(lines[1], r#"a_seconds_bucket{method="m",le="0.0001"} 2"#);
        assert_eq!(lines[13], r#"a_seconds_bucket{method="m",le="1"} 2"#);
        assert_eq!(lines[14], r#"a_seconds_bucket{method="m",le="2.5"} 3"#);
        assert_eq!(
            lines[18..],
            [
                r#"a_seconds_bucket{method="m",le="100"} 3"#,
                r#"a_seconds_bucket{method="m",le="+Inf"} 3"#,
                r#"a_seconds_sum{method="m"} 1.500099"#,
                r#"a_seconds_count{method="m"} 3"#,
            ]
        );
    }

    #[test]
    fn the_accept_header_chooses_the_format() {
        for (accept, format) in [
            ("", Format::Prometheus),
            ("text/html, */*", Format::Prometheus),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            (
                "text/plain;version=0.0.4, application/openmetrics-text; q=0.9",
                Format::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            (
                "application/openmetrics-text;q=nonsense, text/plain",
                Format::Prometheus,
            ),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.5",
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(Format::of_accept(accept), format, "{accept}");
            assert!(format.content_type().contains("version="));
        }
    }
}
