//! CutLog: logs peers that the server cuts off, at a bounded rate.

use std::time::Duration;

use crate::{base::log_limit::Seldom, conn::Cut};

/// Logs peers that the server cuts off: at most one line a second for each reason.
#[derive(Debug)]
pub(crate) struct CutLog([Seldom; Cut::COUNT]);

impl Default for CutLog {
    fn default() -> Self {
        Self([const { Seldom::new(INTERVAL) }; Cut::COUNT])
    }
}

impl CutLog {
    /// Logs that `peer` was cut off at `now`, of the server's time; `text` says what was wrong.
    pub(crate) fn note(&self, cut: Cut, peer: &str, text: &str, now: Duration) {
        if let Some(unsaid) = self.0[cut as usize].turn(now) {
            tracing::warn!(peer, reason = %cut, text, unsaid, "connection cut off");
        }
    }
}

/// The shortest time between two lines of one reason.
const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_once_a_second_with_the_number_of_suppressed_lines() {
        let log = CutLog::default();
        let at = Duration::from_millis;
        assert_eq!(log.0[Cut::Excess as usize].turn(at(0)), Some(0));
        assert_eq!(log.0[Cut::Excess as usize].turn(at(1)), None);
        assert_eq!(
            log.0[Cut::Protocol as usize].turn(at(1)),
            Some(0),
            "another reason"
        );
        assert_eq!(log.0[Cut::Excess as usize].turn(at(999)), None);
        assert_eq!(log.0[Cut::Excess as usize].turn(at(1000)), Some(2));
        assert_eq!(log.0[Cut::Excess as usize].turn(at(2000)), Some(0));
    }
}
