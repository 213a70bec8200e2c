//! The check: what callers saw against what servers wrote down.

mod sends;
mod story;
mod streams;
mod summary;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, fmt};

use rpc_runtime::{Code, Executed};

pub use self::summary::Summary;
use self::{sends::Sends, story::Story};
use crate::{
    history::{History, Kind, Outcome, Record},
    journal::{Entry, Event, Records},
};

/// What must hold beside that which always must.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Rules {
    replies_delivered: bool,
    handlers_end: bool,
    covered_sends_run: bool,
    no_sends_in_doubt: bool,
}

impl Rules {
    /// What holds whatever is cut or killed.
    pub fn always() -> Self {
        Self::default()
    }

    /// Whether each call whose handler ended had its reply delivered, if its caller still waited. Default: no.
    ///
    /// For runs in which no connection is cut and no process killed, however many drains there are.
    pub fn replies_delivered(mut self, wanted: bool) -> Self {
        self.replies_delivered = wanted;
        self
    }

    /// Whether each handler that started must have ended somehow. Default: no.
    ///
    /// For runs whose servers are not killed, and whose handlers have been waited for.
    pub fn handlers_end(mut self, wanted: bool) -> Self {
        self.handlers_end = wanted;
        self
    }

    /// Whether a send that a barrier covered must have run. Default: no.
    ///
    /// For runs in which servers end by drains that have time enough: connections may be cut.
    pub fn covered_sends_run(mut self, wanted: bool) -> Self {
        self.covered_sends_run = wanted;
        self
    }

    /// Whether no send may be reported as one that was perhaps executed. Default: no.
    ///
    /// For runs in which every connection ends by a drain that has time enough.
    pub fn no_sends_in_doubt(mut self, wanted: bool) -> Self {
        self.no_sends_in_doubt = wanted;
        self
    }
}

/// One way to break a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A handler started more than once for one call.
    StartedTwice,
    /// A call that was `No` ran.
    NoThatRan,
    /// A call was Ok, and its handler did not end well.
    OkWithoutRun,
    /// A call was `Yes`, and its handler did not end with an error.
    YesWithoutRun,
    /// A send was refused as something else than `No`.
    RefusedSendNotNo,
    /// A call never ended.
    NeverEnded,
    /// A call got the reply of another.
    WrongReply,
    /// Messages of a stream were out of order, repeated or missing, or those of another.
    Disordered,
    /// More messages of a stream were read than were sent.
    MessagesFromNowhere,
    /// A handler read the end of a stream that had not ended, or not there.
    EndTooEarly,
    /// A call was Ok, and not all messages of its streams were read.
    ShortSuccess,
    /// A call failed in its handler, and messages that came before were lost.
    MessagesLost,
    /// Two calls of the history have one token: the test is wrong.
    TokenUsedTwice,
    /// A handler ran for a call that nobody made.
    UnknownToken,
    /// The journal tells of a call and the history of a send, or the other way round.
    OtherKind,
    /// The journal tells of an end without a start, or of two ends: the test is wrong.
    SenselessJournal,
    /// A handler that started never ended. ([`Rules::handlers_end`])
    HandlerNeverEnded,
    /// A handler ended, and its waiting caller did not get the reply. ([`Rules::replies_delivered`])
    ReplyLost,
    /// More sends were reported as lost than there were.
    MoreLostThanSent,
    /// Of the sends that were reported as lost and not executed, some ran.
    LostSendsRan,
    /// Sends that a barrier covered did not run. ([`Rules::covered_sends_run`])
    CoveredSendsDidNotRun,
    /// Sends were reported as perhaps executed. ([`Rules::no_sends_in_doubt`])
    SendsInDoubt,
    /// An account tells of more than there was.
    WrongAccount,
    /// Something happened that must not, whatever became of the server.
    Strange,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartedTwice => "started more than once",
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

/// A promise that was broken: `token 4294967297 was not executed, and ran: ..`, with the whole story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// How.
    pub fault: Fault,
    /// By which call; none if it takes more than one.
    pub token: Option<u64>,
    /// What is known of it, on one line.
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

/// Compares what the callers saw with what the servers wrote down.
///
/// The run is over: nobody calls any more, and no server runs that could still start a handler.
///
/// # Errors
///
/// Every promise that was broken.
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
    /// Goes through both, token by token.
    fn run(&mut self, journal: &Records, history: &History) {
        let mut entries: Vec<&Entry> = journal.entries.iter().collect();
        // Stable: the entries of one call keep their order.
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
        if starts > 1 {
            faults.push(Fault::StartedTwice);
        } else if ends > 1 || ran.first().is_some_and(|first| first.event != Event::Started) {
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
                // The server itself says that it dropped the handler: it ended in the very moment of that.
                self.summary.raced += u64::from(remote);
                // A caller whose deadline has passed waits no more, nor does one that gave its stream up.
                let waited = !matches!(code, Code::DeadlineExceeded | Code::Cancelled);
                if self.rules.replies_delivered && waited && !remote {
                    faults.push(Fault::ReplyLost);
                }
            }
            _ => {}
        }
    }
}

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
