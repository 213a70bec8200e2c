//! Flow: the streams of one call.
//!
//! It is the same for both ends: what one sends from an [`Outflow`] the other reads into an [`Inflow`].

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    inbox::InboxUse,
    inflow::{Inflow, InflowLimits, StreamFault},
    outflow::Outflow,
};
use crate::{
    Metadata, Priority, Status,
    conn::{Next, Request, Settings, Time, Unsent, outbox::Outbox, step::Step, wakers::Woken},
    wire::frame::{Encoded, Flags, Frame},
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

/// What came of a look for the next message.
#[derive(Debug)]
pub(in crate::conn) struct NextRead {
    /// The message, or why there is none.
    pub(in crate::conn) next: Poll<Next>,
    /// True if the reader has taken anything.
    pub(in crate::conn) has_moved: bool,
    /// True if the peer is owed credit from now on.
    pub(in crate::conn) is_owed: bool,
}

impl NextRead {
    /// The reader has taken nothing.
    const fn nothing(next: Poll<Next>) -> Self {
        Self {
            next,
            has_moved: false,
            is_owed: false,
        }
    }
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

    /// Takes in a message of the peer, a row of them, or a fragment of one.
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

    /// Takes the next message of what is read, or the next row; short ones that come behind it go into `ahead`, if the reader has
    /// one.
    ///
    /// `held` is what all streams of this side hold.
    pub(in crate::conn) fn poll_next(
        &mut self,
        held: &mut InboxUse,
        ahead: Option<&mut VecDeque<Encoded>>,
        now: Time,
        cx: &Context<'_>,
    ) -> NextRead {
        let Some(inflow) = &mut self.inflow else {
            return NextRead::nothing(Poll::Ready(Next::End));
        };
        let mut read = inflow.settle();
        let message = inflow.take();
        if let Some(message) = &message {
            if !message.is_row() {
                read.bytes += message.len();
                read.messages += 1;
            }
            if let Some(ahead) = ahead {
                inflow.take_ahead(ahead);
            }
        }
        let has_moved = message.is_some() || read.messages > 0;
        let next = match message {
            Some(message) => Poll::Ready(Next::Message(message)),
            None if inflow.is_ended() => Poll::Ready(Next::End),
            None => {
                inflow.wait(cx);
                Poll::Pending
            }
        };
        if !has_moved {
            return NextRead::nothing(next);
        }
        held.remove(read);
        let is_owed = inflow.list();
        self.note_move(now);
        NextRead {
            next,
            has_moved,
            is_owed,
        }
    }

    /// Ready when a message of `len` bytes may be sent for call `id`: the peer has granted it, the message before it is in the
    /// output, and there is room.
    #[inline]
    pub(in crate::conn) fn poll_send(
        &mut self,
        id: u64,
        priority: Priority,
        len: u64,
        outbox: &mut Outbox,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        let Some(outflow) = self.outflow.as_mut().filter(|outflow| !outflow.is_ended()) else {
            return Poll::Ready(Err(Unsent::Over(None)));
        };
        if !outflow.may_send() || outbox.remainders().has(id) {
            outflow.wait(cx);
            return Poll::Pending;
        }
        if !outbox.has_room(priority, len) {
            // The end of the call is to wake it, too.
            outflow.wait(cx);
            outbox.wait(id, priority, len, None, cx);
            return Poll::Pending;
        }
        outbox.leave(id);
        Poll::Ready(Ok(()))
    }

    /// Notes that messages are sent which are charged `charged` bytes.
    #[inline]
    pub(in crate::conn) fn note_sent(&mut self, charged: u64, now: Time) {
        if let Some(outflow) = &mut self.outflow {
            outflow.charge(charged);
        }
        self.note_move(now);
    }

    /// Notes that the last fragment of a message is in the output: what waited for that goes on. True if END goes out now.
    #[must_use]
    pub(in crate::conn) fn message_finished(&mut self, woken: &mut Woken) -> bool {
        let Some(outflow) = &mut self.outflow else {
            return false;
        };
        outflow.wake(woken);
        let wants_end = outflow.wants_end();
        if wants_end {
            outflow.put_end();
        }
        wants_end
    }

    /// Takes the credit that the peer is owed; `spare` is how far the window may be widened, and `held` what all streams of
    /// this side hold.
    pub(in crate::conn) fn take_grant(
        &mut self,
        held: &mut InboxUse,
        max_window: u64,
        spare: u64,
        now: Time,
    ) -> Option<u64> {
        let (grant, widened) = self.inflow.as_mut()?.take_grant(max_window, spare, now)?;
        held.widened += widened;
        Some(grant)
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
