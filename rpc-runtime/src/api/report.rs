//! DrainReport: what became of the calls that a drain found open.

use std::{
    fmt,
    process::{ExitCode, Termination},
};

/// What became of the requests that were open when a server was told to terminate, and of those that still arrived.
///
/// ```
/// # fn show(report: &rpc_runtime::DrainReport) {
/// println!("{report}"); // drained: 3 completed, 0 aborted, 0 one-ways dropped, 0 stuck, 0 starved
/// # }
/// ```
///
/// A `main` may return it: its exit code is [`DrainReport::exit_code`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    completed: u64,
    aborted: u64,
    one_way_dropped: u64,
    stuck: u64,
    starved: u64,
}

impl DrainReport {
    pub(crate) fn new(completed: u64, aborted: u64, one_way_dropped: u64, stuck: u64) -> Self {
        Self {
            completed,
            aborted,
            one_way_dropped,
            stuck,
            starved: 0,
        }
    }

    /// The same, with handlers for which no thread had time.
    pub(crate) fn with_starved(self, starved: u64) -> Self {
        Self { starved, ..self }
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

    /// How many handlers blocked their thread: they were in the middle of a poll, and could not be dropped within 0.9 s
    /// of the end of the drain's time. They are counted as aborted or dropped, too.
    pub fn stuck(&self) -> u64 {
        self.stuck
    }

    /// How many handlers waited at an await, and were not dropped within 0.9 s either: no thread of their runtime had time
    /// for it. The machine was too busy, or a task of your own blocks the thread that such a handler waits for. They are
    /// counted as aborted or dropped, too.
    pub fn starved(&self) -> u64 {
        self.starved
    }

    /// Whether every request ran to its end.
    pub fn is_clean(&self) -> bool {
        self.aborted == 0 && self.one_way_dropped == 0 && self.stuck == 0 && self.starved == 0
    }

    /// What a process ends with whose server was drained: 0 if the drain was clean, otherwise 6.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.is_clean() { 0 } else { UNCLEAN })
    }
}

impl Termination for DrainReport {
    fn report(self) -> ExitCode {
        self.exit_code()
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "drained: {} completed, {} aborted, {} one-ways dropped, {} stuck, {} starved",
            self.completed, self.aborted, self.one_way_dropped, self.stuck, self.starved
        )
    }
}

/// The exit code of a drain that had to cut calls: none that a shell, a panic or a signal gives.
const UNCLEAN: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_and_clean_only_without_losses() {
        let clean = DrainReport::new(3, 0, 0, 0);
        assert!(clean.is_clean());
        assert_eq!(
            clean.to_string(),
            "drained: 3 completed, 0 aborted, 0 one-ways dropped, 0 stuck, 0 starved"
        );
        assert_eq!(clean.exit_code(), ExitCode::SUCCESS);
        for report in [
            DrainReport::new(0, 1, 0, 0),
            DrainReport::new(0, 0, 1, 0),
            DrainReport::new(0, 0, 0, 1),
            DrainReport::default().with_starved(1),
        ] {
            assert!(!report.is_clean());
            assert_eq!(report.exit_code(), ExitCode::from(6));
        }
    }
}
