//! Flow: the streams of one call.
//!
//! It is the same for both ends: what one sends from an [`Outflow`] the other reads into an [`Inflow`].

use std::time::Duration;

use super::{
    inbox::InboxUse,
    inflow::{Inflow, InflowLimits, StreamFault},
    outflow::Outflow,
};
use crate::{
    Metadata, Priority, Status,
    conn::{Request, Settings, Time, step::Step, wakers::Woken},
    wire::frame::{Flags, Frame},
};

/// The streams of one call. Boxed, so that a call without streams pays a pointer.
#[derive(Debug, Default)]
pub(in crate::conn) struct Flow {
    /// What is read.
    pub(in crate::conn) inflow: Option<Inflow>,
    /// What is sent.
    pub(in crate::conn) outflow: Option<Outflow>,
    /// Of a call of ours: the priority of what is sent.
    pub(in crate::conn) priority: Priority,
    /// How long nothing may move, if the caller bounds that.
    idle: Option<Duration>,
    /// When a message moved last.
    moved_at: Time,
    moved: bool,
    /// Of a handler's call: how it fails, whatever its handler returns.
    pub(in crate::conn) broken: Option<Status>,
    /// Of a handler's call: true if its streams have told the handler that it is no longer wanted.
    pub(in crate::conn) knows_unwanted: bool,
    /// Of a handler's call: what travels beside its reply.
    pub(in crate::conn) metadata: Metadata,
}

impl Flow {
    /// The streams of a call of ours.
    pub(in crate::conn) fn of_call(
        request: &Request<'_>,
        granted: u64,
        settings: &Settings,
        now: Time,
    ) -> Self {
        Self {
            inflow: request
                .shape
                .has_reply_stream()
                .then(|| Inflow::new(settings.stream_window, now)),
            outflow: request.shape.has_request_stream().then(|| Outflow::new(granted)),
            priority: request.priority,
            idle: request.idle,
            moved_at: now,
            ..Self::default()
        }
    }

    /// The streams of a request of the peer, which sends one.
    pub(in crate::conn) fn of_request(settings: &Settings, now: Time) -> Self {
        Self {
            inflow: Some(Inflow::new(settings.stream_window, now)),
            moved_at: now,
            ..Self::default()
        }
    }

    /// Notes that a message moved, in one direction or the other.
    pub(in crate::conn) fn note_move(&mut self, now: Time) {
        self.moved = true;
        self.moved_at = now;
    }

    /// Takes in a message of the peer, or a fragment of one.
    pub(in crate::conn) fn receive(
        &mut self,
        frame: &mut Frame,
        limits: InflowLimits,
        held: &mut InboxUse,
        step: &mut Step<'_>,
    ) -> Result<(), StreamFault> {
        let Some(inflow) = &mut self.inflow else {
            return Ok(());
        };
        let (len, more) = (frame.payload_len(), frame.flags.contains(Flags::MORE));
        if more || inflow.is_unfinished() {
            step.fragments.fragment(frame.id, len, more, step.now);
        }
        let added = inflow.push(frame, limits)?;
        held.add(added);
        if added.messages > 0 {
            inflow.wake(step.wakes.woken());
        }
        self.note_move(step.now);
        Ok(())
    }

    /// True if a message has moved.
    pub(in crate::conn) fn has_moved(&self) -> bool {
        self.moved
    }

    /// When nothing has moved for too long; none while messages wait for our reader.
    pub(in crate::conn) fn idle_at(&self) -> Option<Time> {
        let is_read = self.inflow.as_ref().is_none_or(Inflow::is_empty);
        let at = self.moved_at.saturating_add(self.idle?);
        is_read.then_some(at)
    }

    /// True if more fragments of a message of the peer are to come.
    pub(in crate::conn) fn is_unfinished(&self) -> bool {
        self.inflow.as_ref().is_some_and(Inflow::is_unfinished)
    }

    /// How long nothing may move.
    pub(in crate::conn) fn idle(&self) -> Option<Duration> {
        self.idle
    }

    /// Wakes the reader and the sender: something has happened to their call.
    pub(in crate::conn) fn wake(&mut self, woken: &mut Woken) {
        if let Some(inflow) = &mut self.inflow {
            inflow.wake(woken);
        }
        if let Some(outflow) = &mut self.outflow {
            outflow.wake(woken);
        }
    }

    /// Ends the streams, because the call has its outcome: whole messages may still be taken, and no more come.
    pub(in crate::conn) fn end(&mut self, held: &mut InboxUse, woken: &mut Woken) {
        if let Some(inflow) = &mut self.inflow {
            held.remove(inflow.cut());
        }
        self.wake(woken);
    }

    /// Drops what is here and what comes: no task reads any more.
    pub(in crate::conn) fn release(&mut self, held: &mut InboxUse) {
        if let Some(inflow) = &mut self.inflow {
            held.remove(inflow.forget());
        }
    }
}
