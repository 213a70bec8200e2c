//! The check: compares the history of the callers with the journal of the servers.

mod sends;
mod story;
mod streams;
mod summary;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, fmt, time::Duration};

use rpc_runtime::{Code, Executed};

pub use self::summary::Summary;
use self::{sends::Sends, story::Story};
use crate::{
    history::{History, Kind, Outcome, Record},
    journal::{Entry, Event, Records},
};

/// The rules of a check, apart from those that always hold.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Rules {
    replies_delivered: bool,
    handlers_end: bool,
    covered_sends_run: bool,
    covered_sends_are_told: bool,
    no_sends_in_doubt: bool,
    started_within: Option<Duration>,
}

impl Rules {
    /// Returns the rules that always hold.
    pub fn always() -> Self {
        Self::default()
    }

    /// Requires that each reply of an ended handler reaches its waiting caller. Default: no.
    ///
    /// For runs without cut connections and killed processes; drains are allowed.
    pub fn replies_delivered(mut self, wanted: bool) -> Self {
        self.replies_delivered = wanted;
        self
    }

    /// Requires that each started handler ends. Default: no.
    ///
    /// For runs without killed servers, after all handlers have ended.
    pub fn handlers_end(mut self, wanted: bool) -> Self {
        self.handlers_end = wanted;
        self
    }

    /// Requires that each one-way call covered by a barrier runs. Default: no.
    ///
    /// For runs whose servers drain with enough time; connections may be cut.
    pub fn covered_sends_run(mut self, wanted: bool) -> Self {
        self.covered_sends_run = wanted;
        self
    }

    /// Requires that each one-way call covered by a barrier runs, or that the account tells of its drop. Default: no.
    ///
    /// For runs whose servers never end; they may be overloaded.
    pub fn covered_sends_are_told(mut self, wanted: bool) -> Self {
        self.covered_sends_are_told = wanted;
        self
    }

    /// Forbids reports of one-way calls as perhaps executed. Default: no.
    ///
    /// For runs in which each connection ends by a drain with enough time.
    pub fn no_sends_in_doubt(mut self, wanted: bool) -> Self {
        self.no_sends_in_doubt = wanted;
        self
    }

    /// Requires that no handler of a call with a known deadline starts later than `slack` after it. Default: no.
    ///
    /// For simulations; a request may be on its way for as long as a fault lasts.
    pub fn started_within(mut self, slack: Duration) -> Self {
        self.started_within = Some(slack);
        self
    }
}

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A handler started more than once for one call.
    StartedTwice,
    /// A handler started more often for one call than its client may try it.
    StartedTooOften,
    /// A handler started long after the deadline of its call. ([`Rules::started_within`])
    StartedLate,
    /// A call that was `No` ran.
    NoThatRan,
    /// A call was Ok, but its handler did not succeed.
    OkWithoutRun,
    /// A call was `Yes`, but its handler did not fail.
    YesWithoutRun,
    /// A one-way call was refused, but not as `No`.
    RefusedSendNotNo,
    /// A call never ended.
    NeverEnded,
    /// A call got the reply of another call.
    WrongReply,
    /// Messages of a stream were out of order, repeated, missing, or of another stream.
    Disordered,
    /// More messages of a stream were read than were sent.
    MessagesFromNowhere,
    /// A handler read the end of a stream too early.
    EndTooEarly,
    /// A call was Ok, but not all messages of its streams were read.
    ShortSuccess,
    /// A call failed in its handler, and earlier messages were lost.
    MessagesLost,
    /// Two calls of the history have the same token: a fault of the test.
    TokenUsedTwice,
    /// A handler ran without a call.
    UnknownToken,
    /// The journal says call and the history says one-way call, or the reverse.
    OtherKind,
    /// The journal has an end without a start, or two ends: a fault of the test.
    SenselessJournal,
    /// A handler that started never ended. ([`Rules::handlers_end`])
    HandlerNeverEnded,
    /// A handler ended, but its waiting caller got no reply. ([`Rules::replies_delivered`])
    ReplyLost,
    /// More one-way calls were reported as lost than were made.
    MoreLostThanSent,
    /// One-way calls ran that were reported as lost and not executed.
    LostSendsRan,
    /// One-way calls covered by a barrier did not run. ([`Rules::covered_sends_run`],
    /// [`Rules::covered_sends_are_told`])
    CoveredSendsDidNotRun,
    /// One-way calls were reported as perhaps executed. ([`Rules::no_sends_in_doubt`])
    SendsInDoubt,
    /// An account counts more one-way calls than were made.
    WrongAccount,
    /// An event that must never happen.
    Strange,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartedTwice => "started more than once",
            Self::StartedTooOften => "may run twice, and ran more often than it may be tried",
            Self::StartedLate => "started long after its deadline",
            Self::NoThatRan => "was not executed, and ran",
            Self::OkWithoutRun => "was Ok, and its handler did not end well",
            Self::YesWithoutRun => "failed in its handler, which did not fail",
            Self::RefusedSendNotNo => "was refused as a send, and may have run",
            Self::NeverEnded => "never ended",
            Self::WrongReply => "got the reply of another call",
            Self::Disordered => "had messages that were not the next ones",
            Self::MessagesFromNowhere => "had messages that nobody sent",
            Self::EndTooEarly => "had a handler that read an end where there was none",
            Self::ShortSuccess => "was Ok, and some messages were not read",
            Self::MessagesLost => "failed in its handler, and lost messages that came before",
            Self::TokenUsedTwice => "has the token of another call",
            Self::UnknownToken => "ran, and nobody made it",
            Self::OtherKind => "was made as one kind, and came as the other",
            Self::SenselessJournal => "ended without a start, or twice",
            Self::HandlerNeverEnded => "has a handler that never ended",
            Self::ReplyLost => "had its reply lost",
            Self::MoreLostThanSent => "more sends lost than sent",
            Self::LostSendsRan => "sends ran that were lost and not executed",
            Self::CoveredSendsDidNotRun => "sends did not run that a barrier covered",
            Self::SendsInDoubt => "sends in doubt after a graceful end",
            Self::WrongAccount => "wrong account",
            Self::Strange => "strange",
        })
    }
}

/// A broken promise with its story: `token 4294967297 was not executed, and ran: ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The fault.
    pub fault: Fault,
    /// The token of the call; `None` if several calls are involved.
    pub token: Option<u64>,
    /// The known facts, on one line.
    pub story: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.token {
            Some(token) => write!(f, "token {token} {}: {}", self.fault, self.story),
            None => write!(f, "{}: {}", self.fault, self.story),
        }
    }
}

/// Compares the history of the callers with the journal of the servers.
///
/// The run must be over: no caller and no server runs any more.
///
/// # Errors
///
/// Each broken promise.
pub fn check(journal: &Records, history: &History, rules: Rules) -> Result<Summary, Vec<Violation>> {
    let mut check = Check {
        rules,
        summary: Summary::new(journal, history),
        sends: Sends::new(history),
        violations: Vec::new(),
    };
    check.run(journal, history);
    check.sends.check(rules, &mut check.violations);
    for what in &history.strange {
        check.violations.push(Violation {
            fault: Fault::Strange,
            token: None,
            story: what.clone(),
        });
    }
    if check.violations.is_empty() {
        Ok(check.summary)
    } else {
        Err(check.violations)
    }
}

struct Check {
    rules: Rules,
    summary: Summary,
    sends: Sends,
    violations: Vec<Violation>,
}

impl Check {
    /// Compares both, token by token.
    fn run(&mut self, journal: &Records, history: &History) {
        let mut entries: Vec<&Entry> = journal.entries.iter().collect();
        // A stable sort, so that the entries of a call keep their order.
        entries.sort_by_key(|entry| entry.token);
        let mut records: Vec<&Record> = history.records.iter().collect();
        records.sort_by_key(|record| record.token);
        let (mut entries, mut records) = (&entries[..], &records[..]);
        loop {
            let order = match (records.first(), entries.first()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(record), Some(entry)) => record.token.cmp(&entry.token),
            };
            let token = match order {
                Ordering::Less | Ordering::Equal => records[0].token,
                Ordering::Greater => entries[0].token,
            };
            let made = take_while(&mut records, |record| record.token == token);
            let ran = take_while(&mut entries, |entry| entry.token == token);
            self.token(token, made, ran);
        }
    }

    fn token(&mut self, token: u64, made: &[&Record], ran: &[&Entry]) {
        let story = Story { made, ran };
        let mut faults = Vec::new();
        match made {
            [] => faults.push(Fault::UnknownToken),
            [record] => self.call(record, ran, &mut faults),
            _ => faults.push(Fault::TokenUsedTwice),
        }
        let starts = count(ran, Event::Started);
        let ends = ran.len() - starts;
        let may_repeat = made.iter().any(|record| record.may_repeat);
        if starts > 1 && !may_repeat {
            faults.push(Fault::StartedTwice);
        } else if starts > MOST_TRIES {
            faults.push(Fault::StartedTooOften);
        } else if ends > starts.max(1) || ran.first().is_some_and(|first| first.event != Event::Started) {
            faults.push(Fault::SenselessJournal);
        } else if self.rules.handlers_end && ends < starts {
            faults.push(Fault::HandlerNeverEnded);
        }
        self.violations.extend(faults.into_iter().map(|fault| Violation {
            fault,
            token: Some(token),
            story: story.to_string(),
        }));
    }

    fn call(&mut self, record: &Record, ran: &[&Entry], faults: &mut Vec<Fault>) {
        self.summary.count(record);
        let one_way = matches!(record.kind, Kind::Send(_));
        if ran.iter().any(|entry| entry.one_way != one_way) {
            faults.push(Fault::OtherKind);
        }
        match record.outcome {
            Outcome::Pending => faults.push(Fault::NeverEnded),
            Outcome::Wrong => faults.push(Fault::WrongReply),
            Outcome::Failed {
                executed: Executed::No,
                ..
            } if !ran.is_empty() => {
                faults.push(Fault::NoThatRan);
            }
            _ => {}
        }
        let slack = self.rules.started_within.map(|slack| slack.as_micros() as u64);
        if let (Some(slack), Some(deadline)) = (slack, record.deadline) {
            let mut starts = ran.iter().filter(|entry| entry.event == Event::Started);
            if starts.any(|entry| entry.at > deadline + slack) {
                faults.push(Fault::StartedLate);
            }
        }
        match record.kind {
            Kind::Call => self.awaited(record, ran, faults),
            Kind::Stream => {
                self.awaited(record, ran, faults);
                self.summary.count_messages(record, ran);
                streams::check(record, ran, faults);
            }
            Kind::Send(stretch) => {
                self.sends.add(stretch, record, ran);
                if matches!(record.outcome, Outcome::Failed { executed, .. } if executed != Executed::No) {
                    faults.push(Fault::RefusedSendNotNo);
                }
            }
        }
    }

    /// Checks a call that awaited its reply.
    fn awaited(&mut self, record: &Record, ran: &[&Entry], faults: &mut Vec<Fault>) {
        self.summary.repeated += u64::from(count(ran, Event::Started) > 1);
        let ended_well = count(ran, Event::Ended) > 0;
        let failed = count(ran, Event::Failed) + count(ran, Event::Panicked) > 0;
        match record.outcome {
            Outcome::Ok if !ended_well => faults.push(Fault::OkWithoutRun),
            Outcome::Failed {
                executed: Executed::Yes,
                ..
            } if !failed => faults.push(Fault::YesWithoutRun),
            Outcome::Failed {
                executed: Executed::Maybe,
                code,
                remote,
            } if ended_well || failed => {
                // The server dropped the handler in the moment in which the handler ended.
                self.summary.raced += u64::from(remote);
                // A caller whose deadline has passed, or that dropped its stream, does not wait.
                let waited = !matches!(code, Code::DeadlineExceeded | Code::Cancelled);
                if self.rules.replies_delivered && waited && !remote {
                    faults.push(Fault::ReplyLost);
                }
            }
            _ => {}
        }
    }
}

/// A client of several servers may try a call once, and three times more for a token each.
const MOST_TRIES: usize = 4;

fn count(ran: &[&Entry], event: Event) -> usize {
    ran.iter().filter(|entry| entry.event == event).count()
}

/// Takes the first items of a slice for which `belongs` holds.
fn take_while<'a, T>(slice: &mut &'a [T], belongs: impl Fn(&T) -> bool) -> &'a [T] {
    let len = slice.iter().take_while(|item| belongs(item)).count();
    let (taken, rest) = slice.split_at(len);
    *slice = rest;
    taken
}
