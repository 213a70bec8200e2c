//! RefusalLog: logs requests that a limit has refused, at a bounded rate.

use std::time::Duration;

use crate::{api::server_limit::ServerLimit, base::log_limit::Seldom};

/// Logs requests that a limit has refused: at most one line in ten seconds for each limit.
#[derive(Debug)]
pub(crate) struct RefusalLog([Seldom; ServerLimit::COUNT]);

impl Default for RefusalLog {
    fn default() -> Self {
        Self([const { Seldom::new(INTERVAL) }; ServerLimit::COUNT])
    }
}

impl RefusalLog {
    /// Logs that a request of `peer` was refused at `now`, of the server's time; `text` is what its caller gets.
    pub(crate) fn note(
        &self,
        limit: ServerLimit,
        peer: &str,
        procedure: Option<&str>,
        text: Option<&str>,
        now: Duration,
    ) {
        if let Some(unsaid) = self.0[limit as usize].turn(now) {
            let limit = limit.setting();
            tracing::warn!(peer, limit, procedure, text, unsaid, "a limit refuses requests");
        }
    }
}

/// The shortest time between two lines of one limit.
const INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_logged_once_in_ten_seconds_with_the_number_of_suppressed_lines() {
        let log = RefusalLog::default();
        let turn = |limit: ServerLimit, s| log.0[limit as usize].turn(Duration::from_secs(s));
        assert_eq!(turn(ServerLimit::MaxCalls, 0), Some(0));
        assert_eq!(turn(ServerLimit::MaxCalls, 9), None);
        assert_eq!(turn(ServerLimit::SendBytes, 9), Some(0), "another limit");
        assert_eq!(turn(ServerLimit::MaxCalls, 10), Some(1));
    }
}
