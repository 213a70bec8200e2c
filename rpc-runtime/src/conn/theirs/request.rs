//! Request: one request of the peer, from its first frame until its handler is gone.

use std::{fmt, mem};

use super::account::Fate;
use crate::{
    Code, Metadata, Priority,
    api::trace_context::TraceContext,
    conn::{
        Arrived, CallId, Time, Unwanted,
        assembly::Assembly,
        streams::{flow::Flow, inbox::InboxUse},
        types::charge,
        wakers::{Waiters, Woken},
    },
    metrics::CallCounts,
    wire::frame::Encoded,
};

/// A request of the peer.
#[derive(Debug)]
pub(in crate::conn) struct TheirRequest {
    pub(in crate::conn) one_way: bool,
    pub(in crate::conn) control: bool,
    pub(in crate::conn) procedure: u64,
    /// How many calls it is nested in.
    pub(in crate::conn) depth: u8,
    /// The priority of what is sent for it.
    pub(in crate::conn) priority: Priority,
    pub(in crate::conn) stage: RequestStage,
    pub(in crate::conn) unwanted: Option<Unwanted>,
    /// The tasks that wait until it is unwanted.
    pub(in crate::conn) waiters: Waiters,
    pub(in crate::conn) deadline: Option<Time>,
    /// What its sender was charged for it.
    pub(in crate::conn) charge: u64,
    /// How many bytes it holds.
    pub(in crate::conn) kept: IntakeUse,
    /// When its last byte was read; until then, when its first was.
    pub(in crate::conn) at: Time,
    /// Its streams, and what else only a few calls have.
    pub(in crate::conn) flow: Option<Box<Flow>>,
    /// Where it is counted; none if it is not.
    pub(in crate::conn) counts: Option<&'static CallCounts>,
}

/// How many bytes requests hold, and how many of them are metadata and trace contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::conn) struct IntakeUse {
    pub(in crate::conn) bytes: u64,
    pub(in crate::conn) metadata: u64,
}

impl IntakeUse {
    /// The bytes of a request whose payload has `len` bytes until now.
    pub(in crate::conn) const fn new(len: u64, metadata: u64) -> Self {
        Self {
            bytes: charge(len).saturating_add(metadata),
            metadata,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.metadata += other.metadata;
    }

    pub(super) fn remove(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.metadata -= other.metadata;
    }
}

/// Where a request of the peer stands.
///
/// ```text
/// Receiving -> Queued --> Taken -> Running --> (gone)
///     |          ^ |        ^         ^
///     |          | v        |         |
///     |        Starting --------------------> (gone)
///     |-> Discarding (one-way only) --------> (gone)
///     \-> Withdrawn (call, or Queued) ------> (gone)
/// ```
///
/// A request may go at every stage.
#[derive(Debug)]
pub(in crate::conn) enum RequestStage {
    /// More fragments come.
    Receiving(Box<PartialRequest>),
    /// More fragments come, and are dropped.
    Discarding(Fate),
    /// Complete; its handler waits for its turn.
    Queued(RequestBody),
    /// On its way to its handler, which was not polled yet, and asks before it starts.
    Taken,
    /// On its way to its handler, which starts without asking. It counts as executed since this time, until the handler says
    /// that it did not start.
    Starting(Time),
    /// Its handler runs; it was polled first at this time.
    Running(Time),
    /// A call that never starts: it keeps its slot until its REPLY has room. Otherwise calls that are cancelled at once
    /// would fill the output of a peer that does not read.
    Withdrawn(Withdrawn),
}

/// How a request is handed out to its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum HandOut {
    /// The handler asks before it starts.
    Asks,
    /// The handler starts at once; the time is now.
    Starts(Time),
}

/// The REPLY of a call that never started.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct Withdrawn {
    pub(in crate::conn) code: Code,
    pub(in crate::conn) text: &'static str,
    /// How long it waited, in microseconds.
    pub(in crate::conn) queue_us: u64,
}

/// What the handler of a request gets.
pub(in crate::conn) struct RequestBody {
    pub(in crate::conn) metadata: Metadata,
    pub(in crate::conn) trace: Option<TraceContext>,
    pub(in crate::conn) payload: Encoded,
}

impl TheirRequest {
    /// A request of `len` bytes that never starts.
    pub(super) fn refused(
        stage: RequestStage,
        one_way: bool,
        control: bool,
        procedure: u64,
        len: u64,
        counts: Option<&'static CallCounts>,
        now: Time,
    ) -> Self {
        Self {
            one_way,
            control,
            counts,
            procedure,
            depth: 0,
            priority: Priority::Normal,
            stage,
            unwanted: None,
            waiters: Waiters::default(),
            deadline: None,
            charge: charge(len),
            kept: IntakeUse::default(),
            at: now,
            flow: None,
        }
    }

    /// Hands a queued request out.
    #[inline(always)]
    pub(super) fn take(&mut self, id: u64, how: HandOut) -> Option<Arrived> {
        if !matches!(self.stage, RequestStage::Queued(_)) {
            return None;
        }
        let stage = match how {
            HandOut::Asks => RequestStage::Taken,
            HandOut::Starts(now) => RequestStage::Starting(now),
        };
        let RequestStage::Queued(body) = mem::replace(&mut self.stage, stage) else {
            return None;
        };
        Some(Arrived {
            id: CallId(id),
            one_way: self.one_way,
            procedure: self.procedure,
            deadline: self.deadline,
            metadata: body.metadata,
            trace: body.trace,
            payload: body.payload,
            streams: self.reads_stream(),
            depth: self.depth,
        })
    }

    /// Frees its streams; returns what is to be counted.
    pub(super) fn leave(&mut self, streams: &mut InboxUse) -> Departure {
        if let Some(flow) = &mut self.flow {
            flow.release(streams);
        }
        Departure {
            one_way: self.one_way,
            control: self.control,
            charge: self.charge,
            kept: self.kept,
            counts: self.counts,
            at: match self.stage {
                RequestStage::Receiving(_) => LeftFrom::Receiving,
                RequestStage::Discarding(_) => LeftFrom::Discarding,
                RequestStage::Queued(_) => LeftFrom::Queued,
                RequestStage::Starting(_) | RequestStage::Running(_) => LeftFrom::Running,
                RequestStage::Taken | RequestStage::Withdrawn(_) => LeftFrom::Elsewhere,
            },
        }
    }

    /// Counts the end of a call whose handler was not polled. It waited for `queue_us` microseconds.
    pub(in crate::conn) fn count_unstarted(&self, code: Code, queue_us: u64) {
        if let Some(counts) = self.counts.filter(|_| !self.one_way) {
            counts.end(code, queue_us);
        }
    }

    /// Wakes the tasks that wait for its end or for its streams.
    pub(in crate::conn) fn wake(&mut self, woken: &mut Woken) {
        self.waiters.wake(woken);
        if let Some(flow) = &mut self.flow {
            flow.wake(woken);
        }
    }

    /// True if the caller sends a stream.
    pub(in crate::conn) fn reads_stream(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.inflow.is_some())
    }

    /// True if more of its stream may be sent.
    #[inline]
    pub(in crate::conn) fn may_stream(&self) -> bool {
        let is_broken = || self.flow.as_ref().is_some_and(|flow| flow.broken.is_some());
        self.unwanted.is_none() && !self.one_way && !is_broken()
    }

    /// True if something may still be sent for it.
    pub(in crate::conn) fn is_wanted(&self) -> bool {
        self.unwanted.is_none() && !matches!(self.stage, RequestStage::Withdrawn(_))
    }

    /// How many bytes of the caller's stream may still come.
    pub(in crate::conn) fn on_its_way(&self, longest_item: u64) -> u64 {
        let inflow = self.flow.as_ref().and_then(|flow| flow.inflow.as_ref());
        inflow.map_or(0, |inflow| inflow.on_its_way(longest_item))
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.payload.fmt(f)
    }
}

/// What to count when a request leaves the table.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct Departure {
    pub(in crate::conn) one_way: bool,
    pub(in crate::conn) control: bool,
    pub(super) charge: u64,
    pub(super) kept: IntakeUse,
    pub(in crate::conn) counts: Option<&'static CallCounts>,
    pub(super) at: LeftFrom,
}

/// The stage that a request left, as far as that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftFrom {
    Receiving,
    Discarding,
    Queued,
    Running,
    Elsewhere,
}

/// A request of which more fragments come.
#[derive(Debug)]
pub(in crate::conn) struct PartialRequest {
    pub(in crate::conn) metadata: Metadata,
    pub(in crate::conn) trace: Option<TraceContext>,
    pub(in crate::conn) assembly: Assembly,
}
