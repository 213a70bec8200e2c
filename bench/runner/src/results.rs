//! Medians, spreads and ratios of what was measured.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// The rows of several runs as one: the rounds of each are numbered after those of the runs before it.
///
/// # Errors
///
/// If the runs are of different machines, compilers or commits.
pub fn joined(runs: Vec<Vec<Value>>) -> Result<Vec<Value>, String> {
    let mut all: Vec<Value> = Vec::new();
    for run in runs {
        if let (Some(first), Some(row)) = (all.first(), run.first()) {
            for what in ["machine", "rustc", "commit", "window_ms", "awake"] {
                if first[what] != row[what] {
                    return Err(format!(
                        "runs cannot be joined: {what} is {} in the first one and {} in another; measure again",
                        first[what], row[what]
                    ));
                }
            }
        }
        let next = all.iter().filter_map(|row| row["round"].as_u64()).max();
        let next = next.map_or(0, |last| last + 1);
        let had_machine = !all.is_empty();
        for mut row in run {
            if row["machine"].is_string() && had_machine {
                continue;
            }
            if let Some(round) = row["round"].as_u64() {
                row["round"] = (next + round).into();
            }
            all.push(row);
        }
    }
    let measured: HashSet<String> = all
        .iter()
        .filter(|row| row["got"].is_object())
        .filter_map(|row| row["peer"].as_str().map(str::to_owned))
        .collect();
    all.retain(|row| {
        !row["skipped"]
            .as_str()
            .is_some_and(|label| measured.contains(label))
    });
    Ok(all)
}

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

    /// How many rounds a peer had in a scenario: one number, or the least and the most.
    pub fn rounds(&self) -> String {
        let mut counts: HashMap<(&str, &str), u64> = HashMap::new();
        for row in self.0.iter().filter(|row| row["got"].is_object()) {
            if let (Some(scenario), Some(peer)) = (row["scenario"].as_str(), row["peer"].as_str()) {
                *counts.entry((scenario, peer)).or_default() += u64::from(row["round"].is_u64());
            }
        }
        let counts: Vec<u64> = counts.into_values().filter(|count| *count > 0).collect();
        match (counts.iter().min(), counts.iter().max()) {
            (Some(least), Some(most)) if least == most => least.to_string(),
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "none".to_owned(),
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rounds_of_a_later_run_are_further_rounds() {
        let turn = |round: u64, peer: &str, rate: f64| json!({"round": round, "scenario": "upload", "peer": peer, "got": {"per_s": rate}});
        let first = vec![
            json!({"machine": "one", "commit": "a"}),
            json!({"skipped": "tarpc", "reason": "why"}),
            turn(0, "rpc", 4.0),
            turn(0, "tonic", 2.0),
            turn(1, "rpc", 9.0),
            turn(1, "tonic", 3.0),
        ];
        let second = vec![
            json!({"machine": "one", "commit": "a"}),
            turn(0, "rpc", 20.0),
            turn(0, "tonic", 5.0),
            turn(0, "tarpc", 1.0),
        ];
        let other = vec![json!({"machine": "one", "commit": "b"})];
        assert!(joined(vec![first.clone(), other]).unwrap_err().contains("commit"));
        let rows = joined(vec![first, second]).unwrap();
        assert!(rows.iter().all(|row| row["skipped"].is_null()));
        assert_eq!(rows.iter().filter(|row| row["machine"].is_string()).count(), 1);
        let all = Results(&rows);
        assert_eq!(all.rounds(), "1 to 3");
        assert_eq!(all.ratio("upload", "rpc", "tonic", &["per_s"]), Some(3.0));
    }
}
