//! A checker that cannot fail is worth nothing: each fault, in a history made by hand.

mod streams;

use rpc_runtime::{Code, Executed};

use super::*;
use crate::{
    history::{Flow, Numbers, Stretch},
    journal::{Journal, Moved},
};

/// A run made by hand.
#[derive(Default)]
struct Run {
    journal: Option<Journal>,
    history: History,
    rules: Rules,
}

impl Run {
    fn new(rules: Rules) -> Self {
        Self {
            journal: Some(Journal::in_memory()),
            rules,
            ..Self::default()
        }
    }

    /// A call with a reply that ended so, after its handler had done this.
    fn call(mut self, token: u64, outcome: Outcome, handler: &[Event]) -> Self {
        self.record(token, Kind::Call, outcome);
        self.ran(token, false, handler)
    }

    /// A send in the last stretch.
    fn send(mut self, token: u64, outcome: Outcome, handler: &[Event]) -> Self {
        if self.history.stretches.is_empty() {
            self.history.stretches.push(Stretch::default());
        }
        let stretch = self.history.stretches.len() as u32 - 1;
        self.record(token, Kind::Send(stretch), outcome);
        self.ran(token, true, handler)
    }

    fn record(&mut self, token: u64, kind: Kind, outcome: Outcome) {
        self.history.records.push(Record {
            token,
            procedure: "echo",
            client: 0,
            kind,
            outcome,
            hurried: false,
            flow: Flow::default(),
            may_repeat: false,
            deadline: None,
        });
    }

    fn ran(self, token: u64, one_way: bool, handler: &[Event]) -> Self {
        let journal = self.journal.as_ref().unwrap();
        handler
            .iter()
            .for_each(|event| journal.write(token, *event, one_way));
        self
    }

    /// A call with streams that ended so: what its caller has moved, and its handler, if that started.
    fn stream(mut self, token: u64, outcome: Outcome, flow: Flow, handler: Option<(Event, Moved)>) -> Self {
        self.record(token, Kind::Stream, outcome);
        self.history.records.last_mut().unwrap().flow = flow;
        if let Some((event, moved)) = handler {
            let journal = self.journal.as_ref().unwrap();
            journal.write(token, Event::Started, false);
            journal.write_end(token, event, moved);
        }
        self
    }

    fn heard(mut self, stretch: Stretch) -> Self {
        *self.history.stretches.last_mut().unwrap() = stretch;
        self
    }

    fn check(&self) -> Result<Summary, Vec<Violation>> {
        check(
            &self.journal.as_ref().unwrap().read().unwrap(),
            &self.history,
            self.rules,
        )
    }

    #[track_caller]
    fn holds(self) -> Summary {
        self.check().unwrap()
    }

    #[track_caller]
    fn breaks(self, fault: Fault) {
        let violations = self.check().unwrap_err();
        let faults: Vec<_> = violations.iter().map(|violation| violation.fault).collect();
        assert_eq!(faults, [fault], "{violations:?}");
    }
}

fn run() -> Run {
    Run::new(Rules::always())
}

fn failed(executed: Executed) -> Outcome {
    Outcome::Failed {
        executed,
        code: Code::Unavailable,
        remote: false,
    }
}

const ENDED: [Event; 2] = [Event::Started, Event::Ended];
const FAILED: [Event; 2] = [Event::Started, Event::Failed];
const NO: Executed = Executed::No;
const MAYBE: Executed = Executed::Maybe;
const YES: Executed = Executed::Yes;

#[test]
fn a_correct_history_holds_and_is_counted() {
    let summary = run()
        .call(1, Outcome::Ok, &ENDED)
        .call(2, failed(NO), &[])
        .call(3, failed(MAYBE), &[])
        .call(4, failed(MAYBE), &[Event::Started])
        .call(5, failed(MAYBE), &ENDED)
        .call(6, failed(YES), &FAILED)
        .call(7, failed(YES), &[Event::Started, Event::Panicked])
        .call(8, Outcome::Cancelled, &[Event::Started, Event::Dropped])
        .call(9, Outcome::Cancelled, &[])
        .send(10, Outcome::Ok, &ENDED)
        .send(11, Outcome::Ok, &[])
        .send(12, failed(NO), &[])
        .send(13, Outcome::Cancelled, &FAILED)
        .holds();
    let expected = Summary {
        calls: 9,
        ok: 1,
        no: 1,
        maybe: 3,
        unavailable: 6,
        yes: 2,
        cancelled: 2,
        sends: 4,
        accepted: 2,
        refused: 1,
        started: 8,
        ended: 3,
        failed: 3,
        dropped: 1,
        ..Summary::default()
    };
    assert_eq!(summary, expected);
}

#[test]
fn a_second_start_is_found_after_every_outcome() {
    let twice = [Event::Started, Event::Ended, Event::Started, Event::Ended];
    for outcome in [Outcome::Ok, Outcome::Cancelled, failed(MAYBE)] {
        run().call(1, outcome, &twice).breaks(Fault::StartedTwice);
    }
    run().send(1, Outcome::Ok, &twice).breaks(Fault::StartedTwice);
    let killed_between = [Event::Started, Event::Started, Event::Ended];
    run()
        .call(1, Outcome::Ok, &killed_between)
        .breaks(Fault::StartedTwice);
}

impl Run {
    /// The last call may run twice.
    fn may_repeat(mut self) -> Self {
        self.history.records.last_mut().unwrap().may_repeat = true;
        self
    }
}

#[test]
fn a_call_that_may_repeat_starts_four_times_at_most() {
    let (began, killed) = (Event::Started, Event::Dropped);
    let mut handlers = vec![began, killed, began, began, killed, began, Event::Ended];
    let summary = run().call(1, Outcome::Ok, &handlers).may_repeat().holds();
    assert_eq!(summary.repeated, 1);
    handlers.push(began);
    let often = run().call(1, Outcome::Ok, &handlers).may_repeat();
    often.breaks(Fault::StartedTooOften);
}

#[test]
fn a_covered_send_that_did_not_run_is_found_unless_the_account_tells_of_its_drop() {
    let covered = |dropped| {
        let account = Numbers {
            received: 1,
            dropped,
            ..Numbers::default()
        };
        let run = Run::new(Rules::always().covered_sends_are_told(true)).send(1, Outcome::Ok, &[]);
        run.heard(Stretch {
            account: Some(account),
            ..Stretch::default()
        })
    };
    covered(1).holds();
    covered(0).breaks(Fault::CoveredSendsDidNotRun);
}

#[test]
fn a_start_long_after_the_deadline_is_found() {
    let rules = || Rules::always().started_within(Duration::from_secs(1));
    // The wall clock is long after 1970.
    let with_deadline = |deadline| {
        let mut run = Run::new(rules()).call(1, Outcome::Ok, &ENDED);
        run.history.records[0].deadline = Some(deadline);
        run
    };
    with_deadline(7).breaks(Fault::StartedLate);
    with_deadline(u64::MAX / 2).holds();
}

#[test]
fn a_no_that_ran_is_found() {
    run().call(1, failed(NO), &ENDED).breaks(Fault::NoThatRan);
    run()
        .call(1, failed(NO), &[Event::Started])
        .breaks(Fault::NoThatRan);
    run()
        .send(1, failed(NO), &[Event::Started])
        .breaks(Fault::NoThatRan);
}

#[test]
fn an_ok_without_a_run_that_ended_well_is_found() {
    for handler in [
        &[][..],
        &[Event::Started],
        &FAILED,
        &[Event::Started, Event::Dropped],
    ] {
        run().call(1, Outcome::Ok, handler).breaks(Fault::OkWithoutRun);
    }
}

#[test]
fn a_yes_without_a_run_that_failed_is_found() {
    for handler in [
        &[][..],
        &[Event::Started],
        &ENDED,
        &[Event::Started, Event::Dropped],
    ] {
        run().call(1, failed(YES), handler).breaks(Fault::YesWithoutRun);
    }
}

#[test]
fn a_refused_send_that_may_have_run_is_found() {
    run().send(1, failed(MAYBE), &[]).breaks(Fault::RefusedSendNotNo);
    run()
        .send(1, failed(YES), &FAILED)
        .breaks(Fault::RefusedSendNotNo);
}

#[test]
fn a_call_that_never_ended_is_found() {
    run().call(1, Outcome::Pending, &ENDED).breaks(Fault::NeverEnded);
    run().send(1, Outcome::Pending, &[]).breaks(Fault::NeverEnded);
}

#[test]
fn the_reply_of_another_call_is_found() {
    run().call(1, Outcome::Wrong, &ENDED).breaks(Fault::WrongReply);
}

#[test]
fn a_run_without_a_call_is_found() {
    run()
        .call(1, Outcome::Ok, &ENDED)
        .ran(2, false, &ENDED)
        .breaks(Fault::UnknownToken);
}

#[test]
fn a_call_that_arrived_as_another_kind_is_found() {
    let mut run = run().ran(1, true, &ENDED);
    run.record(1, Kind::Call, Outcome::Ok);
    run.breaks(Fault::OtherKind);
}

#[test]
fn a_fault_of_the_test_itself_is_found() {
    run()
        .call(1, Outcome::Ok, &ENDED)
        .call(1, Outcome::Ok, &[])
        .breaks(Fault::TokenUsedTwice);
    let two_ends = [Event::Started, Event::Ended, Event::Dropped];
    run()
        .call(1, Outcome::Ok, &two_ends)
        .breaks(Fault::SenselessJournal);
    run()
        .call(1, Outcome::Ok, &[Event::Ended])
        .breaks(Fault::SenselessJournal);
}

#[test]
fn an_endless_handler_is_found_if_handlers_must_end() {
    let still_runs = || run().call(1, failed(MAYBE), &[Event::Started]);
    still_runs().holds();
    let mut run = still_runs();
    run.rules = Rules::always().handlers_end(true);
    run.breaks(Fault::HandlerNeverEnded);
}

#[test]
fn a_lost_reply_is_found_if_none_may_be_lost() {
    let rules = Rules::always().replies_delivered(true);
    for handler in [ENDED, FAILED] {
        run().call(1, failed(MAYBE), &handler).holds();
        Run::new(rules)
            .call(1, failed(MAYBE), &handler)
            .breaks(Fault::ReplyLost);
    }
    let (code, remote) = (Code::DeadlineExceeded, false);
    let late = Outcome::Failed {
        executed: MAYBE,
        code,
        remote,
    };
    let (code, remote) = (Code::Unavailable, true);
    let dropped = Outcome::Failed {
        executed: MAYBE,
        code,
        remote,
    };
    let summary = Run::new(rules)
        .call(1, late, &ENDED)
        .call(2, dropped, &ENDED)
        .call(3, failed(MAYBE), &[Event::Started, Event::Dropped])
        .call(4, Outcome::Cancelled, &ENDED)
        .holds();
    assert_eq!((summary.raced, summary.expired), (1, 1));
}

/// Three sends, of which two ran, and what was heard of them.
fn three_sends(rules: Rules, stretch: Stretch) -> Run {
    Run::new(rules)
        .send(1, Outcome::Ok, &ENDED)
        .send(2, Outcome::Ok, &FAILED)
        .send(3, Outcome::Ok, &[])
        .heard(stretch)
}

#[test]
fn sends_that_were_lost_and_yet_ran_are_found() {
    let lost = |no, maybe| Stretch {
        lost_no: no,
        lost_maybe: maybe,
        ..Stretch::default()
    };
    three_sends(Rules::always(), lost(1, 2)).holds();
    three_sends(Rules::always(), lost(2, 0)).breaks(Fault::LostSendsRan);
    three_sends(Rules::always(), lost(2, 2)).breaks(Fault::MoreLostThanSent);
    // A one-way call whose future was dropped may have been sent.
    let run = Run::new(Rules::always())
        .send(1, Outcome::Ok, &ENDED)
        .send(2, Outcome::Cancelled, &[])
        .heard(lost(1, 1));
    run.holds();
}

#[test]
fn sends_in_doubt_are_found_if_none_are_allowed() {
    let rules = Rules::always().no_sends_in_doubt(true);
    let lost = |no, maybe| Stretch {
        lost_no: no,
        lost_maybe: maybe,
        ..Stretch::default()
    };
    three_sends(rules, lost(1, 0)).holds();
    three_sends(Rules::always(), lost(0, 1)).holds();
    three_sends(rules, lost(0, 1)).breaks(Fault::SendsInDoubt);
}

#[test]
fn covered_sends_that_did_not_run_are_found_if_they_must_run() {
    let rules = Rules::always().covered_sends_run(true);
    let covered = Stretch {
        account: Some(Numbers::default()),
        ..Stretch::default()
    };
    three_sends(Rules::always(), covered).holds();
    three_sends(rules, covered).breaks(Fault::CoveredSendsDidNotRun);
    for excuse in [
        Stretch {
            account: None,
            ..covered
        },
        Stretch {
            lost_maybe: 1,
            ..covered
        },
    ] {
        three_sends(rules, excuse).holds();
    }
    let mut late = three_sends(rules, covered);
    late.history.records[2].hurried = true;
    late.holds();
}

#[test]
fn an_account_of_more_sends_than_were_made_is_found() {
    let told = |received, handled, failed, expired| {
        let account = Numbers {
            received,
            handled,
            failed,
            expired,
            dropped: 0,
        };
        let stretch = Stretch {
            account: Some(account),
            ..Stretch::default()
        };
        three_sends(Rules::always(), stretch)
    };
    told(3, 1, 1, 1).holds();
    told(2, 0, 0, 0).holds();
    for wrong in [
        told(4, 0, 0, 0),
        told(3, 2, 0, 0),
        told(3, 0, 2, 0),
        told(1, 1, 1, 0),
        told(2, 1, 0, 2),
    ] {
        wrong.breaks(Fault::WrongAccount);
    }
}

#[test]
fn unusual_outcomes_are_noted() {
    let mut run = run();
    run.history.strange.push("INTERNAL: nonsense".to_owned());
    run.breaks(Fault::Strange);
}

#[test]
fn a_violation_tells_the_whole_story_on_one_line() {
    let violations = run().call(5, failed(NO), &ENDED).check().unwrap_err();
    let [violation] = &violations[..] else {
        panic!("{violations:?}");
    };
    let text = violation.to_string();
    let beginning = "token 5 was not executed, and ran: call echo of client 0 failed UNAVAILABLE, executed No; \
                     server 0: started at ";
    assert!(text.starts_with(beginning), "{text}");
    assert!(text.contains(", ended "), "{text}");
    assert_eq!(text.lines().count(), 1);
}
