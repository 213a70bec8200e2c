//! Check: whether what a caller was told is true.

use std::collections::HashMap;

use super::{
    host::Ran,
    record::Traffic,
    session::{SHARING, Told},
    *,
};
use crate::{Code, Phase, conn::Uncovered};

/// Compares what the caller was told with what went through its stream, and with what ran.
pub(super) struct Check<'a> {
    plan: &'a Plan,
    ran: &'a HashMap<String, Ran>,
    /// What counts as taken by the OS.
    taken: Traffic,
    /// What went on to the peer.
    passed: Traffic,
    /// What was read.
    read: Traffic,
}

impl<'a> Check<'a> {
    pub(super) fn new(plan: &'a Plan, log: &Log, ran: &'a HashMap<String, Ran>) -> Self {
        Self {
            plan,
            ran,
            taken: Traffic::of(&log.counted),
            passed: Traffic::of(log.passed()),
            read: Traffic::of(&log.read),
        }
    }

    pub(super) fn all(&self, told: &Told, uncovered: Uncovered) {
        assert!(self.ran.values().all(|ran| ran.starts == 1), "{:?}", self.ran);
        for (token, outcome) in &told.outcomes {
            self.outcome(token, outcome);
        }
        for talk in &told.talks {
            self.talk(talk);
        }
        self.sends(told, uncovered);
        if matches!(self.plan.place, Place::Nowhere) {
            self.undisturbed(told, uncovered);
        }
    }

    fn outcome(&self, token: &str, outcome: &Result<ReceivedReply, CallFailure>) {
        let ran = self.ran.contains_key(token);
        let what = format!("{token}: ran {ran}, {outcome:?}; {:?}", self.plan);
        match outcome {
            Ok(reply) => {
                let message = <String as prost::Message>::decode(reply.payload.bytes().clone()).unwrap();
                assert_eq!(super::token(&message), token, "{what}");
                assert!(ran, "{what}");
            }
            Err(failure) => self.failure(token, failure, &what),
        }
    }

    fn failure(&self, token: &str, failure: &CallFailure, what: &str) {
        let ran = self.ran.contains_key(token);
        match failure.executed {
            Executed::No => assert!(!ran, "{what}"),
            Executed::Yes => assert!(ran, "{what}"),
            Executed::Maybe => {}
        }
        let id = self.taken.requests.get(token);
        let says_no = failure.executed == Executed::No;
        match &failure.cause {
            Cause::Replied(_) => {}
            Cause::Deadline => assert!(!says_no || id.is_none(), "{what}"),
            // What is in the output then may still be written.
            Cause::Lost { text, .. } if text.starts_with("no HELLO") => {
                assert!(!says_no || id.is_none(), "{what}");
            }
            Cause::Lost { .. } => {
                // G3, to the byte.
                assert_eq!(says_no, id.is_none(), "{what}");
                let replied = id.is_some_and(|id| self.read.replied.contains(id));
                assert!(!replied, "its reply was read: {what}");
            }
            Cause::Abandoned => {}
            _ => panic!("{what}"),
        }
    }

    fn talk(&self, talk: &Talk) {
        let nothing = Ran::default();
        let ran = self.ran.get(talk.token()).unwrap_or(&nothing);
        let what = format!("{talk:?}: {ran:?}; {:?}", self.plan);
        let id = self.taken.requests.get(talk.token());
        let whole = |traffic: &Traffic| id.and_then(|id| traffic.messages.get(id)).copied().unwrap_or(0);
        // Whatever became of it, both have read the beginning of what the other sent, in order, and each message once.
        assert!(ran.got <= talk.sent && ran.got <= whole(&self.taken), "{what}");
        assert!(talk.read <= ran.gave && talk.read <= whole(&self.read), "{what}");
        if ran.whole {
            assert!(talk.finished && ran.got == talk.sent, "an end too early: {what}");
        }
        match &talk.outcome {
            None => {}
            Some(Ok(reply)) => {
                assert_eq!(ran.end, Some(Ok(())), "{what}");
                assert_eq!(talk.read, ran.gave, "a short success: {what}");
                let reads_all = shape(talk.procedure).has_request_stream() && talk.procedure != QUIT;
                assert_eq!(ran.whole, reads_all, "{what}");
                let expected = if shape(talk.procedure).has_reply_stream() {
                    String::new()
                } else {
                    format!("{}.{}", talk.token(), ran.got)
                };
                let reply = <String as prost::Message>::decode(reply.payload.bytes().clone()).unwrap();
                assert_eq!(reply, expected, "{what}");
            }
            Some(Err(failure)) => {
                self.failure(talk.token(), failure, &what);
                if failure.executed == Executed::No {
                    assert_eq!(talk.read, 0, "{what}");
                }
                self.failed_talk(talk, ran, failure, &what);
            }
        }
    }

    fn failed_talk(&self, talk: &Talk, ran: &Ran, failure: &CallFailure, what: &str) {
        let id = self.taken.requests.get(talk.token());
        let came = id.and_then(|id| self.read.messages.get(id)).copied().unwrap_or(0);
        match &failure.cause {
            Cause::Lost { .. } => {
                // To the byte: what was read whole before the loss is not lost.
                assert_eq!(talk.read, came, "{what}");
                let moved = talk.read > 0 || talk.sent > 0;
                let may_have_moved = moved || self.plan.talk == Talks::LongStreams;
                let is_streaming = failure.phase == Phase::Stream;
                assert!(if is_streaming { may_have_moved } else { !moved }, "{what}");
            }
            Cause::Replied(_) if failure.executed == Executed::Yes => {
                assert_eq!(ran.end, Some(Err(())), "{what}");
                assert_eq!(talk.read, came, "{what}");
                // The last one may have been in the middle of its fragments: they are discarded.
                let is_short = talk.procedure != LONG_BREAK;
                assert!(
                    talk.read == ran.gave || !is_short && talk.read + 1 == ran.gave,
                    "{what}"
                );
            }
            _ => {}
        }
    }

    fn sends(&self, told: &Told, uncovered: Uncovered) {
        let what = format!("{:?}, {uncovered:?}; {:?}; {:?}", told.sends, self.ran, self.plan);
        let ran = |token: &&&str| self.ran.contains_key(**token);
        let accepted = told.sends.len() as u64;
        let covered = accepted - uncovered.no - uncovered.maybe;
        let started = told.sends.iter().filter(ran).count() as u64;
        assert!(
            covered <= started && started <= covered + uncovered.maybe,
            "{what}"
        );
        assert!(covered >= told.covered as u64, "{what}");
        assert_eq!(told.refused.iter().filter(ran).count(), 0, "{what}");
        let is_taken = |token: &&&str| self.taken.requests.contains_key(**token);
        let taken = told.sends.iter().filter(is_taken).count() as u64;
        // To the byte.
        assert_eq!(uncovered.no, accepted - taken, "{what}");
        assert!(
            told.sends[..told.flushed]
                .iter()
                .all(|token| self.passed.requests.contains_key(*token)),
            "{what}"
        );
    }

    /// Nothing was cut: all is as it should be.
    fn undisturbed(&self, told: &Told, uncovered: Uncovered) {
        assert_eq!(uncovered, Uncovered::default(), "a graceful end covers all sends");
        assert!(told.refused.is_empty() && told.covered > 0);
        assert!(self.taken.packed_sends >= SHARING.len(), "they share a frame");
        if matches!(self.plan.talk, Talks::Streams | Talks::LongStreams) {
            self.undisturbed_talks(told);
        }
        for (token, outcome) in &told.outcomes {
            let is = match (*token, outcome) {
                (
                    "fail",
                    Err(CallFailure {
                        cause: Cause::Replied(status),
                        executed: Executed::Yes,
                        ..
                    }),
                ) => status.code() == Code::NotFound,
                (
                    "refuse",
                    Err(CallFailure {
                        cause: Cause::Replied(status),
                        executed: Executed::No,
                        ..
                    }),
                ) => status.code() == Code::Unimplemented,
                ("never", Err(failure)) => {
                    matches!(failure.cause, Cause::Deadline) && failure.executed == Executed::Maybe
                }
                (_, outcome) => outcome.is_ok(),
            };
            assert!(is, "{token}: {outcome:?}");
        }
    }

    /// Nothing was cut: all is as it should be, and everything was there that can be.
    fn undisturbed_talks(&self, told: &Told) {
        for talk in &told.talks {
            assert!(talk::undisturbed(talk), "{talk:?}");
        }
        let id_of = |procedure| self.taken.requests[name(procedure)];
        let is_long = self.plan.talk == Talks::LongStreams;
        let (sum, list, gone) = if is_long {
            (LONG_SUM, LONG_LIST, LONG_CANCEL)
        } else {
            (SUM, LIST, ENDLESS)
        };
        assert!(self.taken.ended.contains(&id_of(sum)), "END was written");
        assert!(self.taken.granted.contains(&id_of(list)), "credit was given");
        let was_granted = self.read.granted.contains(&id_of(sum));
        assert!(was_granted || is_long, "credit was taken");
        assert!(
            self.taken.cancelled.contains(&id_of(gone)),
            "a call was cancelled"
        );
    }
}
