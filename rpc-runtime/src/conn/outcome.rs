//! Outcome: the peer's replies to our calls.

use bytes::Bytes;

use super::{
    Cause, Connection, Reply, Time,
    calls::{Open, PartialReply, Place},
    credit::{Wanted, charge},
    fragments::{WrongLength, whole},
    types::status_len,
};
use crate::{
    Code, Executed, Metadata, Status,
    wire::frame::{Encoded, Flags, Frame},
};

impl Connection {
    /// A REPLY, or its first fragment.
    #[inline]
    pub(super) fn receive_reply(&mut self, frame: &mut Frame, now: Time) {
        let id = frame.id;
        let Some(call) = self.find_open(frame, now) else {
            return;
        };
        // The peer is done with the request, whatever of it is still to be sent.
        self.drop_fragments(id);
        if frame.code != 0 {
            if call.is_waiting {
                self.refused(id, frame);
            }
            return self.close_call(id);
        }
        let fault = match call.is_waiting {
            true => self.find_fault(frame, call),
            false => None,
        };
        let is_wanted = call.is_waiting && fault.is_none();
        if let Some(cause) = fault {
            self.calls.fail(id, cause, Executed::Yes, &mut self.woken);
        }
        if frame.flags.contains(Flags::MORE) {
            return self.begin_reply(frame, now);
        }
        if is_wanted {
            match whole(frame) {
                Ok(payload) => {
                    let metadata = frame.extra.take_metadata();
                    return self.deliver(id, reply(payload, metadata, frame.queue_us, frame.run_us));
                }
                Err(wrong) => self.fail_reply(id, wrong.to_string()),
            }
        }
        self.close_call(id);
    }

    /// The peer refuses a call, or its handler failed.
    #[cold]
    fn refused(&mut self, id: u64, frame: &mut Frame) {
        let executed = executed(frame.flags);
        let status = status(frame);
        let len = status_len(&status);
        let cause = match len == 0 || self.fill_inbox(len) {
            true => Cause::Replied(status),
            false => Cause::InboxFull {
                max: self.settings.inbox_bytes,
            },
        };
        self.calls.fail(id, cause, executed, &mut self.woken);
    }

    /// Why a call cannot take a REPLY that says that its handler succeeded.
    #[inline(always)]
    fn find_fault(&self, frame: &Frame, call: Open) -> Option<Cause> {
        // Of most there is nothing else to be asked.
        let is_usual = frame.encoding == 0 && !call.has_streams;
        if is_usual && frame.message_len() <= self.settings.max_message {
            return None;
        }
        self.find_rare_fault(frame, call)
    }

    #[cold]
    fn find_rare_fault(&self, frame: &Frame, call: Open) -> Option<Cause> {
        let internal = |text: String| Some(Cause::Broken(Status::new(Code::Internal, text)));
        if !self.is_announced(frame.encoding) {
            return internal(format!(
                "compression {} of the reply was not announced",
                frame.encoding
            ));
        }
        let len = frame.message_len();
        let max = self.settings.max_message;
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

    /// A further fragment of a REPLY.
    pub(super) fn receive_reply_data(&mut self, frame: &mut Frame, now: Time) {
        if self.find_open(frame, now).is_none() {
            return;
        }
        self.keep_alive.request_read();
        if self.calls.partial_reply(frame.id).is_some() {
            return self.receive_fragment(frame, now);
        }
        let is_stream = self
            .calls
            .flow(frame.id)
            .is_some_and(|flow| flow.inflow.is_some());
        if frame.flags.contains(Flags::END) {
            self.fault(
                |counts| &counts.other_faults,
                "END from the side that was called",
                now,
            );
        } else if is_stream {
            self.receive_message(frame, now);
        } else if self.calls.is_waiting(frame.id) {
            let text = "the peer answers by a stream, and one reply was expected: is its .proto another?";
            let cause = Cause::Broken(Status::new(Code::Internal, text));
            self.fail_stream(frame.id, cause);
            // As much as it may have on its way by mistake.
            let settings = &self.settings;
            let late = settings
                .stream_window
                .saturating_add(charge(settings.max_message));
            self.abuse.expect_late(late);
        } else if !self.abuse.is_expected(frame.payload_len()) {
            self.fault(
                |counts| &counts.late_frames,
                "DATA for a call without a stream",
                now,
            );
        }
    }

    /// The open call of ours that a frame is about; complains if there is none.
    #[inline(always)]
    fn find_open(&mut self, frame: &Frame, now: Time) -> Option<Open> {
        // The ids of the other side are in another table.
        let found = self.side.gives(frame.id).then(|| self.calls.find(frame.id));
        match found.unwrap_or(Place::Unopened) {
            Place::Open(call) => return Some(call),
            Place::Over => self.fault(|counts| &counts.late_frames, "frame for a call that is over", now),
            Place::Unopened => self.unopened(frame, now),
        }
        None
    }

    #[cold]
    fn unopened(&mut self, frame: &Frame, now: Time) {
        let (kind, id) = (frame.kind, frame.id);
        self.protocol_error(format!("{kind} for id {id}, which was never opened"), now);
    }

    #[cold]
    fn begin_reply(&mut self, frame: &mut Frame, now: Time) {
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
        self.receive_fragment(frame, now);
    }

    /// Adds the payload of a frame to a reply that has begun.
    fn receive_fragment(&mut self, frame: &mut Frame, now: Time) {
        let id = frame.id;
        let len = frame.payload_len();
        let Some(partial) = self.calls.partial_reply(id) else {
            return;
        };
        let counted = !partial.assembly.is_discarded();
        self.slow
            .fragment(id, len, frame.flags.contains(Flags::MORE), now);
        if counted && !self.fill_inbox(len as u64) {
            self.overflow(id);
        }
        if let Some(Err(wrong)) = self.push_fragment(frame) {
            self.wrong_reply(id, wrong);
        }
        if !frame.flags.contains(Flags::MORE) {
            self.finish_reply(id);
        }
        if len == 0 {
            self.empty_frame("empty fragment", now);
        } else {
            self.abuse.not_empty();
        }
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
    fn finish_reply(&mut self, id: u64) {
        let Some(mut partial) = self.calls.take_reply(id) else {
            return;
        };
        if !partial.assembly.is_discarded() && self.calls.is_waiting(id) {
            match partial.assembly.finish() {
                Ok(payload) => {
                    partial.head.payload = payload;
                    return self.deliver(id, partial.head);
                }
                Err(wrong) => self.fail_reply(id, wrong.to_string()),
            }
        }
        self.close_call(id);
    }

    /// Gives a call that is waited for its whole reply, if there is room for it.
    #[inline(always)]
    fn deliver(&mut self, id: u64, mut reply: Reply) {
        if !self.fill_inbox(reply.held_len()) {
            self.overflow(id);
            return self.close_call(id);
        }
        self.calls.unpin(&mut reply.payload);
        let used = self.calls.answer(id, reply, &mut self.woken);
        self.give_back(used);
    }

    /// Counts `len` bytes of a reply as undelivered; false if there is no room for them, and they are not counted.
    #[must_use]
    fn fill_inbox(&mut self, len: u64) -> bool {
        let fits = self.held().bytes.saturating_add(len) <= self.settings.inbox_bytes;
        if fits {
            self.calls.fill_inbox(len);
        }
        fits
    }

    /// There is no room for the reply of a call: it fails, and the rest of the reply is forgotten.
    fn overflow(&mut self, id: u64) {
        let max = self.settings.inbox_bytes;
        self.calls
            .fail(id, Cause::InboxFull { max }, Executed::Yes, &mut self.woken);
        self.calls.forget_reply(id);
    }

    fn wrong_reply(&mut self, id: u64, wrong: WrongLength) {
        self.fail_reply(id, wrong.to_string());
        self.calls.forget_reply(id);
    }

    /// A reply makes no sense: its handler has run all the same.
    fn fail_reply(&mut self, id: u64, text: String) {
        let cause = Cause::Broken(Status::new(Code::Internal, text));
        self.calls.fail(id, cause, Executed::Yes, &mut self.woken);
    }

    /// The REPLY of a call is here, or will never come: its slot and its credit are free.
    #[inline]
    pub(super) fn close_call(&mut self, id: u64) {
        let used = self.calls.close(id);
        self.give_back(used);
    }

    #[inline]
    fn give_back(&mut self, used: Option<Wanted>) {
        if let Some(wanted) = used {
            self.credit.give_back(wanted);
            self.lines.note_more();
        }
    }
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
    // Copied, because an error may be kept long, and a slice would pin the read buffer.
    let details = Bytes::copy_from_slice(&parts.details);
    Status::new(code, parts.message)
        .with_details_bytes(details)
        .with_metadata(parts.metadata)
}

/// A reply of which this stood in its frame.
#[inline]
fn reply(payload: Encoded, metadata: Metadata, queue_us: u64, run_us: u64) -> Reply {
    Reply {
        payload,
        metadata,
        queue_us,
        run_us,
    }
}
