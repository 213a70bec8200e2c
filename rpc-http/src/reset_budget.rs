//! ResetBudget: how many calls a caller may give up at once, before anything of their answers is there.

use std::time::Duration;

/// How many calls the caller of a connection may give up before anything of their answers is there.
///
/// A caller that makes calls and resets them at once ("rapid reset") makes work, and is never over the limit of open calls. At first it may
/// give up [`AT_ONCE`] times as many calls as may be open. Each second gives that number of open calls back, and each answer one call.
#[derive(Debug)]
pub(crate) struct ResetBudget {
    max_streams: u64,
    left: u64,
    /// The whole seconds of the connection that were counted.
    seconds: u64,
    is_exceeded: bool,
}

/// What a call's end means for the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CallEnd {
    /// It succeeded.
    Answered,
    /// The caller gave it up early: before anything of the answer, and before half of its time was over.
    GivenUp,
    /// Another end, which changes nothing.
    #[default]
    Other,
}

impl ResetBudget {
    /// The budget of a connection on which `max_streams` calls may be open.
    pub(crate) fn new(max_streams: u32) -> Self {
        let max_streams = u64::from(max_streams.max(1));
        Self {
            max_streams,
            left: max_streams * AT_ONCE,
            seconds: 0,
            is_exceeded: false,
        }
    }

    /// Notes the end of a call, when the connection has this `age`.
    pub(crate) fn note(&mut self, end: CallEnd, age: Duration) {
        let passed = age.as_secs().saturating_sub(self.seconds);
        self.seconds += passed;
        self.give_back(passed.saturating_mul(self.max_streams));
        match end {
            CallEnd::Answered => self.give_back(1),
            CallEnd::GivenUp => match self.left.checked_sub(1) {
                Some(left) => self.left = left,
                None => self.is_exceeded = true,
            },
            CallEnd::Other => {}
        }
    }

    /// True once more calls were given up than the budget has.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }

    fn give_back(&mut self, calls: u64) {
        self.left = self.left.saturating_add(calls).min(self.max_streams * AT_ONCE);
    }
}

/// How many times all open calls may be given up at once.
const AT_ONCE: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_STREAMS: u32 = 10;

    /// How many calls can be given up until it is too much.
    fn left(budget: &mut ResetBudget, age: Duration) -> u64 {
        (0..)
            .take_while(|_| {
                budget.note(CallEnd::GivenUp, age);
                !budget.is_exceeded()
            })
            .count() as u64
    }

    #[test]
    fn a_caller_may_give_up_all_open_calls_some_times() {
        let mut budget = ResetBudget::new(MAX_STREAMS);
        assert_eq!(left(&mut budget, Duration::ZERO), 40);
        assert!(budget.is_exceeded());
    }

    #[test]
    fn time_and_answers_give_calls_back_but_not_more_than_at_first() {
        let mut budget = ResetBudget::new(MAX_STREAMS);
        for _ in 0..40 {
            budget.note(CallEnd::GivenUp, Duration::ZERO);
        }
        budget.note(CallEnd::Answered, Duration::ZERO);
        budget.note(CallEnd::Other, Duration::ZERO);
        // One for the answer, and ten for each second.
        assert_eq!(left(&mut budget, Duration::from_secs(2)), 21);
        let mut budget = ResetBudget::new(MAX_STREAMS);
        budget.note(CallEnd::Answered, Duration::ZERO);
        assert_eq!(left(&mut budget, Duration::from_secs(3600)), 40);
    }
}
