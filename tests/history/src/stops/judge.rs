//! Judge: whether the report of a drain is true, by what the handlers and the callers wrote down.

use std::collections::{HashMap, HashSet};

use rpc_runtime::Executed;

use crate::{
    child::Report,
    history::{History, Kind, Outcome},
    journal::{Event, Records},
};

/// The evidence of a stop, apart from its report.
pub(super) struct Evidence<'a> {
    pub(super) journal: &'a Records,
    /// The outcomes that callers had seen when the stop was sent.
    pub(super) before: &'a History,
    /// Calls of which no byte was ever sent.
    pub(super) unsent: &'a HashSet<u64>,
    /// The number of clients that read. They have the lowest numbers.
    pub(super) readers: usize,
    /// The number of journal entries when each client that reads had learned of the drain.
    pub(super) told: usize,
}

/// Counts of requests by their ends, from the evidence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Handlers that may have ended after the drain began: all except those whose reply came before.
    ended_perhaps: u64,
    /// Handlers that ended after each client had learned of the drain.
    ended_surely: u64,
    /// Handlers that were dropped.
    calls: Cut,
    sends: Cut,
    /// One-way calls that were reported as lost.
    lost: u64,
}

/// Counts of calls or one-way calls that did not end.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    /// Handlers that were dropped.
    dropped: u64,
    /// Handlers that had neither ended nor been dropped at the end of the process.
    stuck: u64,
    /// Requests that may have reached the server, but whose handlers never started.
    unstarted: u64,
    /// Handlers of calls that ended in the moment of the drop, without a reply to the caller, and those that
    /// their callers dropped.
    untold: u64,
}

impl Counts {
    /// Makes the counts from the evidence and from the callers' outcomes at the end.
    pub(super) fn of(evidence: &Evidence<'_>, history: &History) -> Self {
        let had_reply: HashMap<u64, bool> = evidence
            .before
            .records
            .iter()
            .map(|record| {
                let replied = record.kind.is_awaited() && was_told_the_end(record.outcome);
                (record.token, replied)
            })
            .collect();
        let mut last: HashMap<u64, (usize, Event)> = HashMap::new();
        for (index, entry) in evidence.journal.entries.iter().enumerate() {
            last.insert(entry.token, (index, entry.event));
        }
        let stretches = &history.stretches;
        let mut counts = Self {
            lost: stretches
                .iter()
                .map(|stretch| stretch.lost_no + stretch.lost_maybe)
                .sum(),
            ..Self::default()
        };
        for record in &history.records {
            let cut = match record.kind {
                Kind::Call | Kind::Stream => &mut counts.calls,
                Kind::Send(_) => &mut counts.sends,
            };
            match last.get(&record.token) {
                None if record.kind.is_awaited() => {
                    cut.unstarted += u64::from(!evidence.unsent.contains(&record.token));
                }
                None => cut.unstarted += u64::from(record.outcome == Outcome::Ok),
                Some((_, Event::Started)) => cut.stuck += 1,
                // Its caller went away, which drops it at any time.
                Some((_, Event::Dropped)) if record.outcome == Outcome::Cancelled => cut.untold += 1,
                Some((_, Event::Dropped)) => cut.dropped += 1,
                Some((index, Event::Ended | Event::Failed | Event::Panicked)) => {
                    cut.untold += u64::from(record.kind.is_awaited() && !was_told_the_end(record.outcome));
                    if had_reply.get(&record.token) != Some(&true) {
                        counts.ended_perhaps += 1;
                    }
                    let was_told = (record.client as usize) < evidence.readers;
                    if was_told && *index >= evidence.told {
                        counts.ended_surely += 1;
                    }
                }
            }
        }
        counts
    }

    /// Returns what is not true of `report`, one line each.
    ///
    /// Some numbers must be within bounds only, because no observer outside knows the moment at which a drain begins and
    /// ends on each connection. Dropped and stuck handlers are exact, unless requests were refused before they ran.
    pub(super) fn judge(&self, report: &Report) -> Vec<String> {
        let stuck = self.calls.stuck + self.sends.stuck;
        // Handlers that could not be dropped in time, and ended or were dropped after the report.
        let late = report.left().saturating_sub(stuck);
        let mut lies = Vec::new();
        let check = |lies: &mut Vec<String>, what: &str, reported: u64, low: u64, high: u64| {
            if !(low..=high).contains(&reported) {
                lies.push(format!(
                    "{what}: {reported} reported, {low} to {high} by the journal"
                ));
            }
        };
        check(
            &mut lies,
            "completed",
            report.completed,
            self.ended_surely.saturating_sub(late),
            self.ended_perhaps,
        );
        check(
            &mut lies,
            "aborted",
            report.aborted,
            self.calls.low(),
            self.calls.high(late),
        );
        check(
            &mut lies,
            "one-ways dropped",
            report.one_way_dropped,
            self.sends.low(),
            self.sends.high(late),
        );
        let vanished = self.vanished(report);
        if vanished > 0 {
            lies.push(format!("{vanished} sends did not run, and nobody says so"));
        }
        check(
            &mut lies,
            "stuck or starved",
            report.left(),
            stuck,
            report.aborted + report.one_way_dropped,
        );
        lies
    }

    /// Returns the number of accepted one-way calls that did not run and that no side reports.
    fn vanished(&self, report: &Report) -> u64 {
        let dropped = report.one_way_dropped.saturating_sub(self.sends.low());
        self.sends.unstarted.saturating_sub(self.lost + dropped)
    }
}

/// Returns the number of accepted one-way calls that did not run and that no side has reported so far.
pub(super) fn vanished(journal: &Records, history: &History, report: &Report) -> u64 {
    let evidence = Evidence {
        journal,
        before: history,
        unsent: &HashSet::new(),
        readers: 0,
        told: 0,
    };
    Counts::of(&evidence, history).vanished(report)
}

impl Cut {
    /// Returns the minimum number that the drain has cut.
    fn low(&self) -> u64 {
        self.dropped + self.stuck
    }

    /// Returns the maximum number that the drain has cut.
    fn high(&self, late: u64) -> u64 {
        self.low() + self.unstarted + self.untold.max(late)
    }
}

/// True if the caller learned of the handler's end.
fn was_told_the_end(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Ok => true,
        Outcome::Failed { executed, .. } => executed == Executed::Yes,
        Outcome::Pending | Outcome::Wrong | Outcome::Cancelled => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Flow, Record, Stretch},
        journal::Entry,
    };

    /// The evidence of a stop with 4 open calls and 3 open one-way calls. Clients learned of the drain after the fourth entry.
    ///
    /// Call 1 had its reply before, 2 ended in the drain, 3 was dropped, 4 is stuck, 5 never began; send 11 ended in the
    /// drain, 12 was dropped, 13 never began: it may be one of the `lost` that the client learned of.
    fn counts(lost: u64) -> Counts {
        let entries = [
            (1, Event::Started),
            (1, Event::Ended),
            (2, Event::Started),
            (3, Event::Started),
            (4, Event::Started),
            (11, Event::Started),
            (12, Event::Started),
            (2, Event::Ended),
            (11, Event::Failed),
            (3, Event::Dropped),
            (12, Event::Dropped),
        ];
        let journal = Records {
            entries: entries.map(|(token, event)| entry(token, event)).into(),
            ..Records::default()
        };
        let maybe = Outcome::Failed {
            executed: Executed::Maybe,
            code: rpc_runtime::Code::Unavailable,
            remote: true,
        };
        let seen = |second| History {
            records: vec![
                record(1, Kind::Call, Outcome::Ok),
                record(2, Kind::Call, second),
                record(3, Kind::Call, maybe),
                record(4, Kind::Call, maybe),
                record(5, Kind::Call, maybe),
                record(11, Kind::Send(0), Outcome::Ok),
                record(12, Kind::Send(0), Outcome::Ok),
                record(13, Kind::Send(0), Outcome::Ok),
            ],
            stretches: vec![Stretch {
                lost_maybe: lost,
                ..Stretch::default()
            }],
            ..History::default()
        };
        let evidence = Evidence {
            journal: &journal,
            before: &seen(Outcome::Pending),
            unsent: &HashSet::new(),
            readers: 1,
            told: 7,
        };
        Counts::of(&evidence, &seen(Outcome::Ok))
    }

    fn entry(token: u64, event: Event) -> Entry {
        Entry {
            token,
            at: 0,
            instance: 0,
            event,
            one_way: token > 10,
            moved: None,
        }
    }

    fn record(token: u64, kind: Kind, outcome: Outcome) -> Record {
        Record {
            token,
            procedure: "echo",
            client: 0,
            kind,
            outcome,
            hurried: false,
            flow: Flow::default(),
            may_repeat: false,
            deadline: None,
        }
    }

    fn report(completed: u64, aborted: u64, one_way_dropped: u64, stuck: u64) -> Report {
        Report {
            completed,
            aborted,
            one_way_dropped,
            stuck,
            starved: 0,
        }
    }

    #[test]
    fn a_true_report_is_accepted() {
        // The refused call and send may be counted or not: perhaps they never reached the server.
        for (aborted, one_way_dropped) in [(2, 1), (3, 1), (2, 2), (3, 2)] {
            let lies = counts(1).judge(&report(2, aborted, one_way_dropped, 1));
            assert!(lies.is_empty(), "{lies:?}");
        }
        let starved = Report {
            starved: 1,
            ..report(2, 2, 1, 0)
        };
        let lies = counts(1).judge(&starved);
        assert!(lies.is_empty(), "{lies:?}");
    }

    #[test]
    fn every_wrong_number_in_a_report_is_found() {
        for (wrong, what) in [
            (report(1, 2, 1, 1), "completed: 1 reported, 2 to 2"),
            (report(3, 2, 1, 1), "completed: 3 reported, 2 to 2"),
            (report(2, 1, 1, 1), "aborted: 1 reported, 2 to 3"),
            (report(2, 4, 1, 1), "aborted: 4 reported, 2 to 3"),
            (report(2, 2, 0, 1), "one-ways dropped: 0 reported, 1 to 2"),
            (report(2, 2, 3, 1), "one-ways dropped: 3 reported, 1 to 2"),
            (report(2, 2, 1, 0), "stuck or starved: 0 reported, 1 to 3"),
            (report(2, 2, 1, 4), "stuck or starved: 4 reported, 1 to 3"),
        ] {
            let lies = counts(1).judge(&wrong);
            assert!(lies.iter().any(|lie| lie.starts_with(what)), "{what}: {lies:?}");
        }
    }

    #[test]
    fn a_send_that_neither_ran_nor_was_reported_is_found() {
        let lies = counts(0).judge(&report(2, 2, 1, 1));
        assert_eq!(lies, ["1 sends did not run, and nobody says so"]);
        let lies = counts(0).judge(&report(2, 2, 2, 1));
        assert!(lies.is_empty(), "the server has dropped it: {lies:?}");
    }

    #[test]
    fn a_call_that_was_never_sent_is_not_among_the_aborted() {
        let journal = Records::default();
        let history = History {
            records: vec![record(1, Kind::Call, Outcome::Cancelled)],
            ..History::default()
        };
        let evidence = Evidence {
            journal: &journal,
            before: &history,
            unsent: &HashSet::from([1]),
            readers: 1,
            told: 0,
        };
        let lies = Counts::of(&evidence, &history).judge(&report(0, 1, 0, 0));
        assert_eq!(lies.len(), 1, "{lies:?}");
    }

    #[test]
    fn a_handler_of_a_dropped_call_may_count_as_aborted() {
        let entries = [entry(1, Event::Started), entry(1, Event::Dropped)];
        let journal = Records {
            entries: entries.into(),
            ..Records::default()
        };
        let history = History {
            records: vec![record(1, Kind::Stream, Outcome::Cancelled)],
            ..History::default()
        };
        let evidence = Evidence {
            journal: &journal,
            before: &history,
            unsent: &HashSet::new(),
            readers: 1,
            told: 0,
        };
        let counts = Counts::of(&evidence, &history);
        for (aborted, lies) in [(0, 0), (1, 0), (2, 1)] {
            let judged = counts.judge(&report(0, aborted, 0, 0));
            assert_eq!(judged.len(), lies, "{aborted}: {judged:?}");
        }
    }
}
