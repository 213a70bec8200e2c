//! Sends: compares the reports of flushes and barriers with the one-way calls that ran.

use std::collections::HashMap;

use super::{Fault, Rules, Violation};
use crate::{
    history::{History, Numbers, Outcome, Record, Stretch},
    journal::{Entry, Event},
};

/// The one-way calls of a run, by stretch.
pub(super) struct Sends {
    stretches: Vec<(Stretch, Tally)>,
}

/// Counts of one-way calls by their ends.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Calls that the connection accepted.
    accepted: u64,
    /// Calls that the connection may have accepted, because their futures were dropped.
    cancelled: u64,
    /// Accepted calls whose deadline may have passed before they ran.
    hurried: u64,
    /// Accepted or dropped calls that ran.
    ran: u64,
    ended: u64,
    failed: u64,
}

impl Tally {
    /// Returns the maximum number of calls.
    fn most(&self) -> u64 {
        self.accepted + self.cancelled
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.cancelled += other.cancelled;
        self.hurried += other.hurried;
        self.ran += other.ran;
        self.ended += other.ended;
        self.failed += other.failed;
    }
}

impl Sends {
    pub(super) fn new(history: &History) -> Self {
        let stretches = history.stretches.iter();
        Self {
            stretches: stretches.map(|stretch| (*stretch, Tally::default())).collect(),
        }
    }

    pub(super) fn add(&mut self, stretch: u32, record: &Record, ran: &[&Entry]) {
        let Some((_, tally)) = self.stretches.get_mut(stretch as usize) else {
            return;
        };
        match record.outcome {
            Outcome::Ok => {
                tally.accepted += 1;
                tally.hurried += u64::from(record.hurried);
            }
            Outcome::Cancelled => tally.cancelled += 1,
            // A refused call that ran is a fault of its own.
            _ => return,
        }
        let has = |event| u64::from(ran.iter().any(|entry| entry.event == event));
        tally.ran += has(Event::Started);
        tally.ended += has(Event::Ended);
        tally.failed += has(Event::Failed) + has(Event::Panicked);
    }

    pub(super) fn check(&self, rules: Rules, violations: &mut Vec<Violation>) {
        for (number, (stretch, tally)) in self.stretches.iter().enumerate() {
            let faults = faults(stretch, tally, rules);
            violations.extend(faults.into_iter().map(|fault| Violation {
                fault,
                token: None,
                story: format!("stretch {number}: {stretch:?}, {tally:?}"),
            }));
        }
        let mut clients: HashMap<u32, Tally> = HashMap::new();
        for (stretch, tally) in &self.stretches {
            // An account may count earlier calls, but no later ones.
            let sum = clients.entry(stretch.client).or_default();
            sum.add(tally);
            let Some(account) = stretch.account else { continue };
            if !is_possible(account, sum) {
                violations.push(Violation {
                    fault: Fault::WrongAccount,
                    token: None,
                    story: format!("client {}: {account:?}; all it sent: {sum:?}", stretch.client),
                });
            }
        }
    }
}

fn faults(stretch: &Stretch, tally: &Tally, rules: Rules) -> Vec<Fault> {
    let mut faults = Vec::new();
    let lost = stretch.lost_no + stretch.lost_maybe;
    if lost > tally.most() {
        faults.push(Fault::MoreLostThanSent);
    } else if tally.ran + stretch.lost_no > tally.most() {
        faults.push(Fault::LostSendsRan);
    }
    if rules.no_sends_in_doubt && stretch.lost_maybe > 0 {
        faults.push(Fault::SendsInDoubt);
    }
    // A call that was neither lost nor late must have run.
    let must_run = tally.accepted.saturating_sub(lost + tally.hurried);
    if let Some(account) = stretch.account {
        // The account may count drops of earlier stretches.
        let told = must_run.saturating_sub(account.dropped);
        if rules.covered_sends_run && tally.ran < must_run || rules.covered_sends_are_told && tally.ran < told
        {
            faults.push(Fault::CoveredSendsDidNotRun);
        }
    }
    faults
}

/// True if the account of a connection is possible after all calls that its client has sent.
fn is_possible(account: Numbers, sent: &Tally) -> bool {
    let over = account.handled + account.failed + account.expired + account.dropped;
    over <= account.received
        && account.received <= sent.most()
        && account.handled <= sent.ended
        && account.failed <= sent.failed
}
