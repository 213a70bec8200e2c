//! OneWayAccount: what became of the peer's one-way requests.

use crate::{
    metrics::{CallCounts, FateLabel},
    wire::frame::control::{DropReason, Dropped, Progress},
};

/// Counts the peer's one-way requests since the connection began; only complete ones count. Small until the first one comes.
#[derive(Debug, Default)]
pub(in crate::conn) struct OneWayAccount(Option<Box<OneWayCounts>>);

#[derive(Debug, Default)]
struct OneWayCounts {
    last_id: u64,
    received: u64,
    handled: u64,
    failed: u64,
    expired: u64,
    dropped: [u64; REASONS.len()],
    /// True if something has happened that the peer was not told.
    news: bool,
}

/// What became of a one-way request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum Fate {
    /// Its handler ended well.
    Handled,
    /// Its handler failed.
    Failed,
    /// Its deadline passed.
    Expired,
    /// It was dropped.
    Dropped(DropReason),
}

impl Fate {
    /// What metrics call it; none for what they do not know.
    fn label(self) -> Option<FateLabel> {
        match self {
            Self::Handled => Some(FateLabel::HANDLED),
            Self::Failed => Some(FateLabel::FAILED),
            Self::Expired => Some(FateLabel::EXPIRED),
            Self::Dropped(reason) => FateLabel::dropped(reason.number()),
        }
    }
}

impl OneWayAccount {
    /// Counts a request whose last byte was read.
    pub(in crate::conn) fn received(&mut self, id: u64) {
        self.received_many(id, 1);
    }

    /// Counts `count` requests up to `last_id` whose last byte was read.
    pub(in crate::conn) fn received_many(&mut self, last_id: u64, count: u64) {
        let counts = self.0.get_or_insert_default();
        counts.last_id = counts.last_id.max(last_id);
        counts.received += count;
        counts.news = true;
    }

    /// Counts how a received request ended, also in the counters of its procedure.
    pub(in crate::conn) fn ended(&mut self, fate: Fate, procedure: Option<&'static CallCounts>) {
        self.ended_many(fate, 1, procedure);
    }

    /// Counts how `count` received requests of one procedure ended.
    pub(in crate::conn) fn ended_many(
        &mut self,
        fate: Fate,
        count: u64,
        procedure: Option<&'static CallCounts>,
    ) {
        if let (Some(procedure), Some(label)) = (procedure, fate.label()) {
            procedure.one_ways(label, count);
        }
        let counts = self.0.get_or_insert_default();
        counts.news = true;
        match fate {
            Fate::Handled => counts.handled += count,
            Fate::Failed => counts.failed += count,
            Fate::Expired => counts.expired += count,
            Fate::Dropped(reason) => {
                for (dropped, known) in counts.dropped.iter_mut().zip(REASONS) {
                    *dropped += if known == reason { count } else { 0 };
                }
            }
        }
    }

    /// True if something has happened that the peer was not told.
    pub(in crate::conn) fn has_news(&self) -> bool {
        self.0.as_ref().is_some_and(|counts| counts.news)
    }

    /// The counts as the peer reads them; it is told now.
    pub(in crate::conn) fn tell(&mut self) -> Progress {
        if let Some(counts) = &mut self.0 {
            counts.news = false;
        }
        self.progress()
    }

    /// The counts as the peer reads them.
    pub(in crate::conn) fn progress(&self) -> Progress {
        self.0
            .as_ref()
            .map(|counts| counts.progress())
            .unwrap_or_default()
    }
}

impl OneWayCounts {
    fn progress(&self) -> Progress {
        let dropped = REASONS.iter().zip(self.dropped).filter(|(_, count)| *count > 0);
        Progress {
            last_id: self.last_id,
            received: self.received,
            handled: self.handled,
            failed: self.failed,
            expired: self.expired,
            dropped: dropped
                .map(|(reason, count)| Dropped {
                    reason: reason.number(),
                    count,
                })
                .collect(),
        }
    }
}

const REASONS: [DropReason; 6] = [
    DropReason::UnknownProcedure,
    DropReason::BadPayload,
    DropReason::Overload,
    DropReason::Draining,
    DropReason::Aborted,
    DropReason::Refused,
];
