//! Drain: how a connection comes to its end without losing a call.

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
    /// The time for open calls that the GOAWAY announces; none if it announces none.
    pub(in crate::conn) announced: Option<Duration>,
    /// When that time is over; none if their own deadlines are enough.
    pub(in crate::conn) until: Option<Time>,
    /// When the time for open calls was over.
    pub(in crate::conn) aborted: Option<Time>,
    /// After that, when to look again whether everything is done.
    pub(in crate::conn) next_limit: Option<Time>,
    /// True if our own calls are to end, too: no more are started.
    pub(in crate::conn) own: bool,
    /// When nothing else is open: how long the peer is waited for to answer for our last one-way requests.
    pub(in crate::conn) answer_by: Option<Time>,
}

/// What the peer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum DrainStep {
    /// To start no more; what it has started until this time, or until it has answered this ping, is still taken.
    Announced { until: Time, ping: Option<u64> },
    /// That nothing above this id is taken.
    Final { last_id: u64 },
}

impl Drain {
    /// A drain that begins now, and gives open calls `time`.
    pub(in crate::conn) fn new(reason: Reason, text: &str, time: Duration, now: Time) -> Self {
        Self {
            reason,
            text: text.to_owned(),
            step: DrainStep::Final { last_id: 0 },
            announced: Some(time),
            until: Some(now.saturating_add(time)),
            aborted: None,
            next_limit: None,
            own: false,
            answer_by: None,
        }
    }

    /// That of a side that closes, and has read requests up to `last_id`: the deadlines of open calls are enough.
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

    /// True if the answer to this PING says that the peer has noticed the first GOAWAY.
    pub(in crate::conn) fn is_noticed_by(&self, answered: u64) -> bool {
        matches!(self.step, DrainStep::Announced { ping: Some(ping), .. } if ping <= answered)
    }

    /// Shortens the time for open calls: of several drains the shortest counts.
    pub(in crate::conn) fn shorten(&mut self, until: Time) {
        self.until = Some(self.until.map_or(until, |old| old.min(until)));
    }

    /// Begins to abort the calls that are left; false if that has begun already.
    pub(in crate::conn) fn abort(&mut self, now: Time) -> bool {
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

    /// True if nothing is waited for any longer but the output.
    pub(in crate::conn) fn gives_all_up(&self, now: Time) -> bool {
        self.aborted
            .is_some_and(|aborted| now >= aborted + CONTROL_ANSWERED)
    }

    /// True if this side waits for the peer to answer for our last one-way requests: as long as it is in doubt about them, and
    /// for `dead_after` at most.
    pub(in crate::conn) fn awaits_answer(&mut self, is_in_doubt: bool, dead_after: Time, now: Time) -> bool {
        let by = is_in_doubt.then(|| self.answer_by.unwrap_or_else(|| now.saturating_add(dead_after)));
        self.answer_by = by;
        by.is_some_and(|by| by > now)
    }

    /// What is due now.
    pub(in crate::conn) fn run(&mut self, now: Time) -> DrainDue {
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
