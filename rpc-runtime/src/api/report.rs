//! DrainReport: the outcomes of the calls that were open when a drain began.

use std::{
    fmt,
    process::{ExitCode, Termination},
};

/// The outcomes of the requests that were open when a server began to terminate, and of requests that arrived later.
///
/// `main` may return it; its exit code is [`DrainReport::exit_code`].
///
/// ```no_run
/// # async fn serve(service: impl rpc_runtime::server::Service) -> Result<(), rpc_runtime::Error> {
/// use rpc_runtime::Server;
///
/// let report = Server::builder().service(service).listener("tcp://127.0.0.1:5005").serve().await?;
/// println!("{report}"); // drained: 3 completed, 0 aborted, 0 one-ways dropped, 0 stuck, 0 starved
/// if !report.is_clean() {
///     eprintln!("{} calls were cut off", report.aborted());
/// }
/// # Ok(())
/// # }
/// ```
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

    /// Adds handlers for which no thread had time.
    pub(crate) fn with_starved(self, starved: u64) -> Self {
        Self { starved, ..self }
    }

    /// The number of handlers that ran to their end since the drain began, including those that failed.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// The number of calls that were cut off or refused when the drain's time was over.
    pub fn aborted(&self) -> u64 {
        self.aborted
    }

    /// The number of one-way requests that were dropped when the drain's time was over.
    pub fn one_way_dropped(&self) -> u64 {
        self.one_way_dropped
    }

    /// The number of handlers that still blocked their thread 0.9 s after the drain's time was over.
    ///
    /// They were in the middle of a poll and could not be dropped. They also count as aborted or dropped.
    pub fn stuck(&self) -> u64 {
        self.stuck
    }

    /// The number of handlers that waited at an await, and were not dropped within 0.9 s either.
    ///
    /// No thread of their runtime had time: the machine was too busy, or another task blocks the thread that drops such a
    /// handler. They also count as aborted or dropped.
    pub fn starved(&self) -> u64 {
        self.starved
    }

    /// Returns true if every request ran to its end.
    pub fn is_clean(&self) -> bool {
        self.aborted == 0 && self.one_way_dropped == 0 && self.stuck == 0 && self.starved == 0
    }

    /// The exit code for a process whose server was drained: 0 if the drain was clean, otherwise 6.
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

/// The exit code of a drain that cut calls: different from the codes of shells, panics and signals.
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
