//! Summary: the numbers of a run in which every promise was kept.

use std::{fmt, ops::AddAssign};

use rpc_runtime::{Code, Executed};

use crate::{
    history::{History, Kind, Outcome, Record},
    journal::{Entry, Event, Records},
};

/// The numbers of a run in which every promise was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that awaited a reply.
    pub calls: u64,
    /// Calls that were Ok.
    pub ok: u64,
    /// Calls that failed and were not executed.
    pub no: u64,
    /// Calls that failed and were perhaps executed.
    pub maybe: u64,
    /// Calls that failed in their handler.
    pub yes: u64,
    /// Calls that their callers dropped.
    pub cancelled: u64,
    /// Calls with streams.
    pub streams: u64,
    /// The messages of streams that callers read.
    pub messages_read: u64,
    /// The messages of streams that handlers read, without killed handlers.
    pub messages_gathered: u64,
    /// Calls that ran more than once, because they may.
    pub repeated: u64,
    /// Calls that failed because their deadline had passed.
    pub expired: u64,
    /// Calls that failed because their connection or their server was lost.
    pub unavailable: u64,
    /// Perhaps executed calls whose handler ended in the moment in which the server dropped it.
    pub raced: u64,
    /// One-way calls.
    pub sends: u64,
    /// One-way calls that the connection accepted.
    pub accepted: u64,
    /// One-way calls that were refused.
    pub refused: u64,
    /// One-way calls that were reported as lost and not executed.
    pub lost_no: u64,
    /// One-way calls that were reported as lost and perhaps executed.
    pub lost_maybe: u64,
    /// Barriers that succeeded.
    pub barriers: u64,
    /// Handlers that started.
    pub started: u64,
    /// Handlers that succeeded.
    pub ended: u64,
    /// Handlers that failed or panicked.
    pub failed: u64,
    /// Handlers that were dropped.
    pub dropped: u64,
    /// Records that a killed server left incomplete.
    pub torn: u64,
}

impl Summary {
    /// Counts a journal and a history without comparing them.
    pub(super) fn new(journal: &Records, history: &History) -> Self {
        let mut summary = Self {
            torn: journal.torn as u64,
            ..Self::default()
        };
        for entry in &journal.entries {
            *match entry.event {
                Event::Started => &mut summary.started,
                Event::Ended => &mut summary.ended,
                Event::Failed | Event::Panicked => &mut summary.failed,
                Event::Dropped => &mut summary.dropped,
            } += 1;
        }
        for stretch in &history.stretches {
            summary.lost_no += stretch.lost_no;
            summary.lost_maybe += stretch.lost_maybe;
            summary.barriers += u64::from(stretch.account.is_some());
        }
        summary
    }

    pub(super) fn count(&mut self, record: &Record) {
        if let Kind::Send(_) = record.kind {
            self.sends += 1;
            match record.outcome {
                Outcome::Ok => self.accepted += 1,
                Outcome::Failed { .. } => self.refused += 1,
                _ => {}
            }
            return;
        }
        self.calls += 1;
        match record.outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Cancelled => self.cancelled += 1,
            Outcome::Failed { executed, code, .. } => {
                self.expired += u64::from(code == Code::DeadlineExceeded);
                self.unavailable += u64::from(code == Code::Unavailable);
                match executed {
                    Executed::No => self.no += 1,
                    Executed::Yes => self.yes += 1,
                    _ => self.maybe += 1,
                }
            }
            Outcome::Pending | Outcome::Wrong => {}
        }
    }
}

impl Summary {
    pub(super) fn count_messages(&mut self, record: &Record, ran: &[&Entry]) {
        self.streams += 1;
        self.messages_read += u64::from(record.flow.read);
        let moved = ran.iter().filter_map(|entry| entry.moved);
        self.messages_gathered += moved.map(|moved| u64::from(moved.got)).sum::<u64>();
    }
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        let Self {
            calls,
            ok,
            no,
            maybe,
            yes,
            cancelled,
            streams,
            messages_read,
            messages_gathered,
            repeated,
            expired,
            unavailable,
            raced,
            sends,
            accepted,
            refused,
            lost_no,
            lost_maybe,
            barriers,
            started,
            ended,
            failed,
            dropped,
            torn,
        } = other;
        self.calls += calls;
        self.ok += ok;
        self.no += no;
        self.maybe += maybe;
        self.yes += yes;
        self.cancelled += cancelled;
        self.streams += streams;
        self.messages_read += messages_read;
        self.messages_gathered += messages_gathered;
        self.repeated += repeated;
        self.expired += expired;
        self.unavailable += unavailable;
        self.raced += raced;
        self.sends += sends;
        self.accepted += accepted;
        self.refused += refused;
        self.lost_no += lost_no;
        self.lost_maybe += lost_maybe;
        self.barriers += barriers;
        self.started += started;
        self.ended += ended;
        self.failed += failed;
        self.dropped += dropped;
        self.torn += torn;
    }
}

/// Five lines.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, ok, no, .. } = self;
        let Self {
            maybe,
            yes,
            cancelled,
            ..
        } = self;
        writeln!(
            f,
            "calls     {calls}: {ok} Ok, {no} No, {maybe} Maybe, {yes} Yes, {cancelled} cancelled ({} expired, {} \
             unavailable, {} repeated)",
            self.expired, self.unavailable, self.repeated
        )?;
        writeln!(
            f,
            "streams   {} of the calls: {} messages read by callers, {} by handlers",
            self.streams, self.messages_read, self.messages_gathered
        )?;
        writeln!(
            f,
            "sends     {}: {} accepted, {} refused; {} barriers; lost: {} never executed, {} perhaps",
            self.sends, self.accepted, self.refused, self.barriers, self.lost_no, self.lost_maybe
        )?;
        writeln!(
            f,
            "handlers  {} started: {} ended, {} failed, {} dropped, {} killed",
            self.started,
            self.ended,
            self.failed,
            self.dropped,
            self.started
                .saturating_sub(self.ended + self.failed + self.dropped)
        )?;
        write!(
            f,
            "races     {} dropped while they ended; {} torn records",
            self.raced, self.torn
        )
    }
}
