//! Medians, spreads and ratios of what was measured.

use std::collections::HashMap;

use serde_json::Value;

/// The rows of a run.
pub struct Results<'a>(pub &'a [Value]);

impl Results<'_> {
    fn values(&self, scenario: &str, peer: &str, field: &str) -> Vec<f64> {
        self.rows(scenario, peer)
            .filter_map(|row| row["got"][field].as_f64())
            .collect()
    }

    fn rows(&self, scenario: &str, peer: &str) -> impl Iterator<Item = &Value> {
        self.0
            .iter()
            .filter(move |row| row["scenario"] == scenario && row["peer"] == peer)
    }

    pub fn median(&self, scenario: &str, peer: &str, field: &str) -> Option<f64> {
        median(self.values(scenario, peer, field))
    }

    /// The median over rounds of `peer`'s sum of `fields`, divided by `base`'s in the same round: the machine's speed
    /// drifts from round to round.
    pub fn ratio(&self, scenario: &str, peer: &str, base: &str, fields: &[&str]) -> Option<f64> {
        self.ratio_to(scenario, peer, base, fields, fields)
    }

    /// As [`Self::ratio`], to other fields of `base`.
    pub fn ratio_to(
        &self,
        scenario: &str,
        peer: &str,
        base: &str,
        fields: &[&str],
        to: &[&str],
    ) -> Option<f64> {
        let base = self.sums(scenario, base, to);
        let ratios = self.sums(scenario, peer, fields).into_iter();
        median(
            ratios
                .filter_map(|(round, sum)| Some(sum / base.get(&round)?))
                .collect(),
        )
    }

    fn sums(&self, scenario: &str, peer: &str, fields: &[&str]) -> HashMap<u64, f64> {
        let sum = |row: &Value| {
            fields
                .iter()
                .map(|field| row["got"][*field].as_f64())
                .sum::<Option<f64>>()
        };
        self.rows(scenario, peer)
            .filter_map(|row| Some((row["round"].as_u64()?, sum(row)?)))
            .collect()
    }

    /// (max - min) / median, in percent.
    pub fn spread(&self, scenario: &str, peer: &str, field: &str) -> Option<f64> {
        let values = self.values(scenario, peer, field);
        let max = values.iter().copied().fold(f64::MIN, f64::max);
        let min = values.iter().copied().fold(f64::MAX, f64::min);
        Some(100.0 * (max - min) / median(values)?)
    }

    /// A count per call or message of a scenario.
    pub fn count(&self, peer: &str, work: &str, in_flight: usize, field: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|row| row["counted"] == peer && row["work"] == work && row["in_flight"] == in_flight)?["got"]
            [field]
            .as_f64()
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (n > 0).then(|| f64::midpoint(values[(n - 1) / 2], values[n / 2]))
}

/// Three digits that say something, thousands apart.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value >= 1000.0 => grouped(&format!("{value:.0}")),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn grouped(digits: &str) -> String {
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(String::from_utf8_lossy)
        .collect();
    groups.join(",")
}

pub fn ratio(ratio: Option<f64>) -> String {
    match ratio {
        Some(ratio) if ratio >= 10.0 => format!("{ratio:.1}"),
        Some(ratio) if ratio >= 0.1 => format!("{ratio:.2}"),
        Some(ratio) => format!("{ratio:.3}"),
        None => "-".into(),
    }
}
