//! Sends: what flushes, barriers and accounts told, against what ran.

use std::collections::HashMap;

use super::{Fault, Rules, Violation};
use crate::{
    history::{History, Numbers, Outcome, Record, Stretch},
    journal::{Entry, Event},
};

/// The sends of a run, by stretch.
pub(super) struct Sends {
    stretches: Vec<(Stretch, Tally)>,
}

/// What became of some sends.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Those that were taken.
    accepted: u64,
    /// Those that may have been taken: their futures were dropped.
    cancelled: u64,
    /// Those taken ones whose deadline may have passed first.
    hurried: u64,
    /// Those of either kind that ran.
    ran: u64,
    ended: u64,
    failed: u64,
}

impl Tally {
    /// How many there were at most.
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
            // What was refused has a fault of its own if it ran.
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
            // A later account may tell of what was sent before, never of what was sent after.
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
    // What was neither lost nor late was admitted, and so it ran.
    let must_run = tally.accepted.saturating_sub(lost + tally.hurried);
    let is_covered = stretch.account.is_some();
    if rules.covered_sends_run && is_covered && tally.ran < must_run {
        faults.push(Fault::CoveredSendsDidNotRun);
    }
    faults
}

/// Whether the account of one connection fits what its client sent so far, by all of them.
fn is_possible(account: Numbers, sent: &Tally) -> bool {
    let over = account.handled + account.failed + account.expired + account.dropped;
    over <= account.received
        && account.received <= sent.most()
        && account.handled <= sent.ended
        && account.failed <= sent.failed
}
