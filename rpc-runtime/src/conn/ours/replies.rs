//! Replies: what the peer answers to our calls.

use super::{
    Ours,
    calls::{CallLookup, IncomingData, OpenInfo, PartialReply},
    credit::CreditClaim,
};
use crate::{
    Code, Executed, Metadata, Status,
    conn::{
        Cause, ReceivedReply, Side,
        assembly::{WrongLength, whole},
        step::{Step, Violation, protocol},
        streams::inflow::{InflowLimits, StreamFault},
        types::{charge, status_len},
    },
    wire::frame::{Encoded, Flags, Frame},
};

impl Ours {
    /// Takes in a REPLY, or its first fragment; `inbox` is what the inbox holds for other calls.
    #[inline]
    pub(in crate::conn) fn receive_reply(
        &mut self,
        frame: &mut Frame,
        side: Side,
        inbox: u64,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        let id = frame.id;
        let Some(call) = self.find_open(frame, side, step)? else {
            return Ok(());
        };
        // The peer is done with the request, whatever of it is still to be sent.
        step.outbox.drop_fragments(id);
        if frame.code != 0 {
            if call.is_waiting {
                self.refused(id, frame, inbox, step);
            }
            self.close_call(id);
            return Ok(());
        }
        let fault = match call.is_waiting {
            true => self.find_fault(frame, call, step),
            false => None,
        };
        let is_wanted = call.is_waiting && fault.is_none();
        if let Some(cause) = fault {
            self.calls.fail(id, cause, Executed::Yes, step.wakes.woken());
        }
        if frame.flags.contains(Flags::MORE) {
            return self.begin_reply(frame, inbox, step);
        }
        if is_wanted {
            match whole(frame) {
                Ok(payload) => {
                    let metadata = frame.extra.take_metadata();
                    let reply = reply(payload, metadata, frame.queue_us, frame.run_us);
                    self.deliver(id, reply, inbox, step);
                    return Ok(());
                }
                Err(wrong) => self.fail_reply(id, wrong, step),
            }
        }
        self.close_call(id);
        Ok(())
    }

    /// The peer refuses a call, or its handler failed.
    #[cold]
    fn refused(&mut self, id: u64, frame: &mut Frame, inbox: u64, step: &mut Step<'_>) {
        let (executed, times) = (executed(frame.flags), (frame.queue_us, frame.run_us));
        let status = status(frame);
        let len = status_len(&status);
        let cause = match len == 0 || self.fill_inbox(len, inbox, step) {
            true => Cause::Replied(status),
            false => Cause::InboxFull {
                max: step.settings.inbox_bytes,
            },
        };
        self.calls
            .fail_after(id, cause, executed, times, step.wakes.woken());
    }

    /// Why a call cannot take a REPLY that says that its handler succeeded.
    #[inline(always)]
    fn find_fault(&self, frame: &Frame, call: OpenInfo, step: &Step<'_>) -> Option<Cause> {
        // Of most there is nothing else to be asked.
        let is_usual = frame.encoding == 0 && !call.has_streams;
        if is_usual && frame.message_len() <= step.settings.max_message {
            return None;
        }
        self.find_rare_fault(frame, call, step)
    }

    #[cold]
    fn find_rare_fault(&self, frame: &Frame, call: OpenInfo, step: &Step<'_>) -> Option<Cause> {
        let internal = |text: String| Some(Cause::Broken(Status::new(Code::Internal, text)));
        if !step.is_announced(frame.encoding) {
            return internal(format!(
                "compression {} of the reply was not announced",
                frame.encoding
            ));
        }
        let len = frame.message_len();
        let max = step.settings.max_message;
        if len > max {
            return Some(Cause::TooLong { len, max });
        }
        if !call.has_streams {
            return None;
        }
        let inflow = self.calls.flow(frame.id)?.inflow.as_ref()?;
        if len > 0 {
            let text = "the peer answers by one reply, and a stream was expected: is its .proto another?";
            return internal(text.to_owned());
        }
        if inflow.is_unfinished() {
            return internal("the stream ended within a message".to_owned());
        }
        None
    }

    /// Takes in a further fragment of a REPLY, or a message of a call's stream.
    pub(in crate::conn) fn receive_data(
        &mut self,
        frame: &mut Frame,
        side: Side,
        limits: InflowLimits,
        inbox: u64,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        let (id, len, more) = (frame.id, frame.payload_len(), frame.flags.contains(Flags::MORE));
        let incoming = match side.gives(id) {
            true => self.calls.incoming(id),
            // The ids of the other side are in another table.
            false => IncomingData::Unopened,
        };
        let received = match incoming {
            IncomingData::Unopened => return unopened(frame),
            IncomingData::Over => return late(step),
            IncomingData::Reply => return self.receive_fragment(frame, inbox, step),
            _ if frame.flags.contains(Flags::END) => {
                return step.fault(|counts| &counts.other_faults, "END from the side that was called");
            }
            IncomingData::Stream(flow, held) => flow.receive(frame, limits, held, step),
            IncomingData::Nothing { is_waiting } => return self.unexpected_data(id, len, is_waiting, step),
        };
        if let Err(fault) = received {
            self.stream_fault(id, fault, step)?;
        }
        if len == 0 && more {
            return step.empty_frame("empty fragment");
        }
        step.faults.not_empty();
        Ok(())
    }

    /// Fails a call without a stream of replies for which a message of one came.
    #[cold]
    fn unexpected_data(
        &mut self,
        id: u64,
        len: usize,
        is_waiting: bool,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        if is_waiting {
            let text = "the peer answers by a stream, and one reply was expected: is its .proto another?";
            let cause = Cause::Broken(Status::new(Code::Internal, text));
            self.fail_stream(id, cause, step);
            // As much as it may have on its way by mistake.
            let settings = step.settings;
            let late = settings
                .stream_window
                .saturating_add(charge(settings.longest_item()));
            step.faults.expect_late(late);
            return Ok(());
        }
        match step.faults.spend_expected(len) {
            true => Ok(()),
            false => step.fault(|counts| &counts.late_frames, "DATA for a call without a stream"),
        }
    }

    /// Handles a fault of a call's stream: if it cannot go on, the call fails; the connection goes on.
    fn stream_fault(&mut self, id: u64, fault: StreamFault, step: &mut Step<'_>) -> Result<(), Violation> {
        // What comes late, or behind the end, no caller would have read.
        if !fault.is_late() {
            let cause = match fault {
                StreamFault::TooLong { len, max } => Cause::TooLong { len, max },
                StreamFault::InboxFull { max } => Cause::InboxFull { max },
                fault => Cause::Broken(fault.status()),
            };
            self.fail_stream(id, cause, step);
        }
        fault.count(step)
    }

    /// Fails a call by what the peer sent of its stream: the handler has begun, and is told to stop.
    fn fail_stream(&mut self, id: u64, cause: Cause, step: &mut Step<'_>) {
        self.calls.fail(id, cause, Executed::Maybe, step.wakes.woken());
        self.forget_stream(id);
        step.outbox.drop_fragments(id);
        if self.calls.is_open(id) {
            // A stream of replies comes only after the peer's HELLO.
            step.outbox.put_cancel(id);
        }
    }

    /// Finds the open call that a frame is about; it is a fault if there is none.
    #[inline(always)]
    fn find_open(
        &self,
        frame: &Frame,
        side: Side,
        step: &mut Step<'_>,
    ) -> Result<Option<OpenInfo>, Violation> {
        // The ids of the other side are in another table.
        let found = side.gives(frame.id).then(|| self.calls.find(frame.id));
        match found.unwrap_or(CallLookup::Unopened) {
            CallLookup::Open(call) => Ok(Some(call)),
            CallLookup::Over => late(step).map(|()| None),
            CallLookup::Unopened => unopened(frame).map(|()| None),
        }
    }

    #[cold]
    fn begin_reply(&mut self, frame: &mut Frame, inbox: u64, step: &mut Step<'_>) -> Result<(), Violation> {
        let id = frame.id;
        let partial = if self.calls.is_waiting(id) {
            let metadata = frame.extra.take_metadata();
            PartialReply::new(
                frame.length,
                frame.encoding,
                reply(Encoded::default(), metadata, frame.queue_us, frame.run_us),
            )
        } else {
            PartialReply::discard(frame.length)
        };
        self.calls.begin_reply(id, partial);
        self.receive_fragment(frame, inbox, step)
    }

    /// Adds the payload of a frame to a reply that has begun.
    fn receive_fragment(
        &mut self,
        frame: &mut Frame,
        inbox: u64,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        let id = frame.id;
        let len = frame.payload_len();
        let Some(partial) = self.calls.partial_reply(id) else {
            return Ok(());
        };
        let counted = !partial.assembly.is_discarded();
        step.fragments
            .fragment(id, len, frame.flags.contains(Flags::MORE), step.now);
        if counted && !self.fill_inbox(len as u64, inbox, step) {
            self.overflow(id, step);
        }
        if let Some(Err(wrong)) = self.push_fragment(frame) {
            self.fail_reply(id, wrong, step);
            self.calls.forget_reply(id);
        }
        if !frame.flags.contains(Flags::MORE) {
            self.finish_reply(id, inbox, step);
        }
        step.count_fragment(len)
    }

    /// Adds to the reply; what is not kept leaves the inbox again.
    fn push_fragment(&mut self, frame: &mut Frame) -> Option<Result<(), WrongLength>> {
        let len = frame.payload_len();
        let partial = self.calls.partial_reply(frame.id)?;
        let counted = !partial.assembly.is_discarded();
        let result = partial.assembly.push(frame);
        if counted && result.is_err() {
            self.calls.empty_inbox(len);
        }
        Some(result)
    }

    /// The last fragment of a reply has come.
    fn finish_reply(&mut self, id: u64, inbox: u64, step: &mut Step<'_>) {
        let Some(mut partial) = self.calls.take_reply(id) else {
            return;
        };
        if !partial.assembly.is_discarded() && self.calls.is_waiting(id) {
            match partial.assembly.finish() {
                Ok(payload) => {
                    partial.head.payload = payload;
                    return self.deliver(id, partial.head, inbox, step);
                }
                Err(wrong) => self.fail_reply(id, wrong, step),
            }
        }
        self.close_call(id);
    }

    /// Gives a call that is waited for its whole reply, if there is room for it.
    #[inline(always)]
    fn deliver(&mut self, id: u64, mut reply: ReceivedReply, inbox: u64, step: &mut Step<'_>) {
        if !self.fill_inbox(reply.held_len(), inbox, step) {
            self.overflow(id, step);
            return self.close_call(id);
        }
        self.calls.unpin(&mut reply.payload);
        let used = self.calls.answer(id, reply, step.wakes.woken());
        self.give_back(used);
    }

    /// Counts `len` bytes of a reply as undelivered; false if there is no room for them, and they are not counted.
    #[must_use]
    fn fill_inbox(&mut self, len: u64, inbox: u64, step: &Step<'_>) -> bool {
        let held = self.held().bytes.saturating_add(inbox);
        let fits = held.saturating_add(len) <= step.settings.inbox_bytes;
        if fits {
            self.calls.fill_inbox(len);
        }
        fits
    }

    /// There is no room for the reply of a call: it fails, and the rest of the reply is forgotten.
    fn overflow(&mut self, id: u64, step: &mut Step<'_>) {
        let max = step.settings.inbox_bytes;
        self.calls
            .fail(id, Cause::InboxFull { max }, Executed::Yes, step.wakes.woken());
        self.calls.forget_reply(id);
    }

    /// A reply makes no sense: its handler has run all the same.
    fn fail_reply(&mut self, id: u64, wrong: WrongLength, step: &mut Step<'_>) {
        let cause = Cause::Broken(Status::new(Code::Internal, wrong.to_string()));
        self.calls.fail(id, cause, Executed::Yes, step.wakes.woken());
    }

    /// The REPLY of a call is here, or will never come: its slot and its credit are free.
    #[inline]
    pub(in crate::conn) fn close_call(&mut self, id: u64) {
        let used = self.calls.close(id);
        self.give_back(used);
    }

    #[inline]
    fn give_back(&mut self, used: Option<CreditClaim>) {
        if let Some(claim) = used {
            self.credit.give_back(claim);
            self.queues.note_more();
        }
    }
}

#[cold]
fn late(step: &mut Step<'_>) -> Result<(), Violation> {
    step.fault(|counts| &counts.late_frames, "frame for a call that is over")
}

#[cold]
fn unopened(frame: &Frame) -> Result<(), Violation> {
    let (kind, id) = (frame.kind, frame.id);
    protocol(format!("{kind} for id {id}, which was never opened"))
}

/// Whether the handler ran, as the flags of a refusal say.
fn executed(flags: Flags) -> Executed {
    if flags.contains(Flags::NOT_EXECUTED) {
        Executed::No
    } else if flags.contains(Flags::ABORTED) {
        Executed::Maybe
    } else {
        Executed::Yes
    }
}

fn status(frame: &mut Frame) -> Status {
    let code = Code::from_number(frame.code);
    let parts = frame.extra.take();
    Status::new(code, parts.message)
        .with_details_bytes(parts.details)
        .with_metadata(parts.metadata)
}

/// A reply of which this stood in its frame.
#[inline]
fn reply(payload: Encoded, metadata: Metadata, queue_us: u64, run_us: u64) -> ReceivedReply {
    ReceivedReply {
        payload,
        metadata,
        queue_us,
        run_us,
    }
}
