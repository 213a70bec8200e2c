//! Drain state: how far a drain that this side began has come, and what is due next.
//!
//! What becomes of the peer's open calls stands in `theirs/open_at_drain`.

use std::time::Duration;

use crate::{
    conn::{
        Time,
        tuning::{ALL_CLOSED, CONTROL_ANSWERED, HANDLERS_GO},
        types::earliest,
    },
    wire::frame::control::Reason,
};

/// The end that this side has begun.
///
/// ```text
/// begin_drain -> Announced -> Final -> (aborted) -> closing
/// close ---------------------/
/// ```
#[derive(Debug)]
pub(in crate::conn) struct Drain {
    pub(in crate::conn) reason: Reason,
    pub(in crate::conn) text: String,
    pub(in crate::conn) step: DrainStep,
    /// How long open calls may still take, as the GOAWAY says. None for the drain of `close`, which announces no limit.
    pub(in crate::conn) announced: Option<Duration>,
    /// When open calls are aborted. None for never: only their own deadlines end them.
    pub(in crate::conn) until: Option<Time>,
    /// When the time for open calls was over.
    pub(in crate::conn) aborted: Option<Time>,
    /// After `aborted`: when to check next whether the connection can close.
    pub(in crate::conn) next_limit: Option<Time>,
    /// True if this side starts no new calls, too. Those that are open go on.
    pub(in crate::conn) own: bool,
    /// Until when this side waits for the peer to answer for our last one-way requests, if nothing else is open.
    pub(in crate::conn) answer_by: Option<Time>,
}

/// How far the two GOAWAYs of a drain have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum DrainStep {
    /// The peer is to start no more calls. Those that arrive before `until`, or before the answer to `ping`, are still taken.
    Announced { until: Time, ping: Option<u64> },
    /// No request with an id above `last_id` is taken.
    Final { last_id: u64 },
}

impl Drain {
    /// A drain that begins now, and gives open calls `time`.
    pub(in crate::conn) fn new(reason: Reason, text: &str, time: Duration, now: Time) -> Self {
        Self {
            reason,
            text: text.to_owned(),
            // The GOAWAY that goes out sets the first step.
            step: DrainStep::Final { last_id: 0 },
            announced: Some(time),
            until: Some(now.saturating_add(time)),
            aborted: None,
            next_limit: None,
            own: false,
            answer_by: None,
        }
    }

    /// The drain of `close`, for a side that has read requests up to `last_id`: final at once, and without a time limit.
    pub(in crate::conn) fn of_close(last_id: u64) -> Self {
        Self {
            step: DrainStep::Final { last_id },
            announced: None,
            until: None,
            own: true,
            ..Self::new(Reason::Drain, "", Duration::ZERO, Time::ZERO)
        }
    }

    /// When something is due.
    pub(in crate::conn) fn due(&self) -> Option<Time> {
        let step = match self.step {
            DrainStep::Announced { until, .. } => Some(until),
            DrainStep::Final { .. } => None,
        };
        match self.aborted {
            Some(_) => earliest([step, self.next_limit]),
            None => earliest([step, self.until, self.answer_by]),
        }
    }

    /// True once the peer was told the last id that is taken.
    pub(in crate::conn) fn is_final(&self) -> bool {
        matches!(self.step, DrainStep::Final { .. })
    }

    /// True if the peer has answered the PING behind our first GOAWAY, so it has read that.
    pub(in crate::conn) fn is_noticed_by(&self, answered: u64) -> bool {
        matches!(self.step, DrainStep::Announced { ping: Some(ping), .. } if ping <= answered)
    }

    /// Shortens the time for open calls: of several drains the shortest counts.
    pub(in crate::conn) fn shorten(&mut self, until: Time) {
        self.until = Some(self.until.map_or(until, |old| old.min(until)));
    }

    /// Notes that the calls that are left are aborted from now on; false if they are already.
    pub(in crate::conn) fn note_abort(&mut self, now: Time) -> bool {
        if self.aborted.is_some() {
            return false;
        }
        self.aborted = Some(now);
        self.next_limit = Some(now + HANDLERS_GO);
        true
    }

    /// When the connection is closed at the latest, once the drain's time is over.
    pub(in crate::conn) fn hard_limit(&self) -> Option<Time> {
        self.aborted.map(|aborted| aborted + ALL_CLOSED)
    }

    /// True if handlers that run on are waited for no longer.
    pub(in crate::conn) fn gives_handlers_up(&self, now: Time) -> bool {
        self.aborted.is_some_and(|aborted| now >= aborted + HANDLERS_GO)
    }

    /// True if this side now waits only for its output to be written.
    pub(in crate::conn) fn gives_all_up(&self, now: Time) -> bool {
        self.aborted
            .is_some_and(|aborted| now >= aborted + CONTROL_ANSWERED)
    }

    /// True while this side waits for the peer to answer for our last one-way requests: as long as it is in doubt about them,
    /// and until `dead_after` from the first such wait.
    pub(in crate::conn) fn wait_for_answer(
        &mut self,
        is_in_doubt: bool,
        dead_after: Time,
        now: Time,
    ) -> bool {
        let by = is_in_doubt.then(|| self.answer_by.unwrap_or_else(|| now.saturating_add(dead_after)));
        self.answer_by = by;
        by.is_some_and(|by| by > now)
    }

    /// Takes what is due now.
    pub(in crate::conn) fn take_due(&mut self, now: Time) -> DrainDue {
        if let Some(aborted) = self.aborted {
            if self.next_limit.is_some_and(|limit| limit <= now) {
                let last = aborted + CONTROL_ANSWERED;
                self.next_limit = (last > now).then_some(last);
            }
            return DrainDue::Nothing;
        }
        if self.until.is_some_and(|until| until <= now) {
            return DrainDue::Abort;
        }
        match self.step {
            DrainStep::Announced { until, .. } if until <= now => DrainDue::Finalise,
            _ => DrainDue::Nothing,
        }
    }
}

/// What is due in a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum DrainDue {
    /// Nothing.
    Nothing,
    /// The peer is told the last id that is taken.
    Finalise,
    /// The time for open calls is over.
    Abort,
}
