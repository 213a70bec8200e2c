//! DrainReport: what became of the calls that a drain found open.

use std::fmt;

/// What became of the requests that were open when a server was told to terminate, and of those that still arrived.
///
/// ```
/// # fn show(report: &rpc_runtime::DrainReport) {
/// println!("{report}"); // drained: 3 completed, 0 aborted, 0 one-ways dropped, 0 stuck
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    completed: u64,
    aborted: u64,
    one_way_dropped: u64,
    stuck: u64,
}

impl DrainReport {
    pub(crate) fn new(completed: u64, aborted: u64, one_way_dropped: u64, stuck: u64) -> Self {
        Self {
            completed,
            aborted,
            one_way_dropped,
            stuck,
        }
    }

    /// How many handlers ran to their end since the drain began, failed ones included.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// How many calls the end of the drain's time cut off or refused.
    pub fn aborted(&self) -> u64 {
        self.aborted
    }

    /// How many one-way requests the end of the drain's time dropped.
    pub fn one_way_dropped(&self) -> u64 {
        self.one_way_dropped
    }

    /// How many handlers did not even let themselves be dropped: they block their thread.
    pub fn stuck(&self) -> u64 {
        self.stuck
    }

    /// Whether every request ran to its end.
    pub fn is_clean(&self) -> bool {
        self.aborted == 0 && self.one_way_dropped == 0 && self.stuck == 0
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "drained: {} completed, {} aborted, {} one-ways dropped, {} stuck",
            self.completed, self.aborted, self.one_way_dropped, self.stuck
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_and_clean_only_without_losses() {
        let clean = DrainReport::new(3, 0, 0, 0);
        assert!(clean.is_clean());
        assert_eq!(
            clean.to_string(),
            "drained: 3 completed, 0 aborted, 0 one-ways dropped, 0 stuck"
        );
        for report in [
            DrainReport::new(0, 1, 0, 0),
            DrainReport::new(0, 0, 1, 0),
            DrainReport::new(0, 0, 0, 1),
        ] {
            assert!(!report.is_clean());
        }
    }
}
