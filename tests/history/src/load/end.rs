//! End: what must be true once all faults have ended, and servers are there.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Party, Running};
use crate::history::{Numbers, Outcome, Recorder};

impl Running {
    /// Checks, once all users have ended and there are no faults any more, that each client makes a good call within `limit`, and gets
    /// an account of its one-way calls.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the load at once.
    pub async fn recover(&self, limit: Duration) {
        for party in &self.parties {
            party.call_until_good(&self.recorder, limit).await;
            party.account(&self.recorder).await;
        }
    }
}

impl Party {
    async fn call_until_good(&self, recorder: &Recorder, limit: Duration) {
        let (log, began) = (recorder.user(), Instant::now());
        loop {
            let ticket = log.call(self.number, "refuse", true);
            let call = self.probe.send_recv().timeout(Duration::from_secs(5));
            let Err(error) = call.refuse(ticket.token()).await else {
                return recorder.strange("a refused call was Ok".to_owned());
            };
            ticket.end(Outcome::of(&error));
            if error.status().is_some_and(|status| status.message() == REFUSAL) {
                return;
            }
            if began.elapsed() > limit {
                let servers = self.probe.client().endpoints();
                return recorder.strange(format!(
                    "no call succeeds {limit:?} after the faults: {error}; {servers:?}"
                ));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks until all losses are told.
    async fn account(&self, recorder: &Recorder) {
        let _alone = self.turn.write().await;
        let mut failures = Vec::new();
        while failures.len() < MOST_FAILURES {
            match self.probe.settled().await {
                Ok(account) => return recorder.covered(self.number, Numbers::from(&account)),
                Err(error) => {
                    if let Some(lost) = error.lost_sends() {
                        recorder.lost(self.number, lost.no(), lost.maybe());
                    }
                    failures.push(error.to_string());
                }
            }
        }
        recorder.strange(format!("no account after the faults: {}", failures.join("; ")));
    }
}

/// The text of [`probe::refusal`](crate::probe::refusal).
const REFUSAL: &str = "on purpose";
/// Losses are told once, and calls that still ran when their server was lost once more. A call may hang until its deadline.
const MOST_FAILURES: usize = 5;
