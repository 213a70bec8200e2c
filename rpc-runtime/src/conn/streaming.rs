//! Streaming: what both ends of a call do with its streams.
//!
//! An id's parity tells whose call it is: the same methods serve callers and handlers.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    CallId, Cause, Connection, Failure, Next, Time, Unsent, Unwanted,
    calls::Reach,
    fragments::Part,
    handler::dropped_status,
    requests::Request,
    stream::{Bounds, Fault, Flow, Held, Outflow},
};
use crate::{
    Code, Executed, Priority, Status,
    wire::frame::{Encoded, Flags, Frame, Header, Kind, Payload, Size},
};

/// What who reads and who sends does.
impl Connection {
    /// The next message of a stream of the peer; short ones that come behind it go into `ahead`, if the reader has one and all
    /// that it was given before is read.
    ///
    /// One task may wait for it. Taking a message gives its credit back; of what is `ahead`, the next time.
    pub(crate) fn poll_message(
        &mut self,
        id: CallId,
        ahead: Option<&mut VecDeque<Encoded>>,
        now: Time,
        cx: &Context<'_>,
    ) -> Poll<Next> {
        let id = id.number();
        let ours = self.side.gives(id);
        if !ours {
            if let Some(status) = self.broken_status(id) {
                self.tell_handler(id);
                return Poll::Ready(Next::Broken(status));
            }
        }
        let Some((flow, held)) = self.flow_mut(id) else {
            return Poll::Ready(Next::End);
        };
        let Some(inflow) = &mut flow.inflow else {
            return Poll::Ready(Next::End);
        };
        let mut read = inflow.settle();
        let message = inflow.take();
        if let Some(message) = &message {
            read.bytes += message.len();
            read.messages += 1;
            if let Some(ahead) = ahead {
                inflow.take_ahead(ahead);
            }
        }
        let next = match message {
            Some(message) => Poll::Ready(Next::Message(message)),
            None if inflow.is_ended() => Poll::Ready(Next::End),
            None => {
                inflow.wait(cx);
                Poll::Pending
            }
        };
        if read.messages > 0 {
            held.remove(read);
            let is_owed = inflow.list();
            flow.note_move(now);
            let idle_at = flow.idle_at();
            if is_owed {
                self.owing.push(id);
            }
            if self.calls.is_waiting(id) {
                self.watch(idle_at);
            }
            if self.share.is_told() {
                self.note_held();
            }
        }
        next
    }

    /// Puts a message of a stream of ours into the output, as soon as the peer takes it and there is room.
    ///
    /// One task may wait for it.
    pub(crate) fn poll_data<P: Payload>(
        &mut self,
        id: CallId,
        message: &P,
        now: Time,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        let id = id.number();
        let size = message.size();
        if let Some(priority) = self.data_goes_at_once(id, size.len as u64) {
            self.put_data(id, message, size, priority, now);
            return Poll::Ready(Ok(()));
        }
        if let Some(over) = self.find_end(id) {
            self.room.leave(id);
            self.tell_handler(id);
            return Poll::Ready(Err(over));
        }
        let len = size.len;
        let max = self.credit.max_message().unwrap_or(u64::MAX);
        if len as u64 > max {
            let len = len as u64;
            return Poll::Ready(Err(Unsent::TooLong { len, max }));
        }
        let is_unfinished = self.bulk.has(id);
        let priority = self.priority(id);
        let has_room = self.has_room(priority, len as u64);
        let Some(outflow) = self.outflow_mut(id) else {
            return Poll::Ready(Err(Unsent::Over(None)));
        };
        if outflow.is_ended() {
            return Poll::Ready(Err(Unsent::Over(None)));
        }
        if is_unfinished || !outflow.may_send() {
            outflow.wait(cx);
            return Poll::Pending;
        }
        if !has_room {
            // The end of the call is to wake it, too.
            outflow.wait(cx);
            self.room.wait(id, priority, len as u64, None, cx);
            return Poll::Pending;
        }
        self.put_data(id, message, size, priority, now);
        Poll::Ready(Ok(()))
    }

    /// Whether a message of a stream of ours that has begun goes at once, and with which priority: there is credit, room, and
    /// nothing to be said against it. Most are so, and [`Self::poll_data`] would come to the same result.
    #[inline]
    fn data_goes_at_once(&self, id: u64, len: u64) -> Option<Priority> {
        let (flow, priority) = if self.side.gives(id) {
            let flow = self.calls.waiting_flow(id)?;
            (flow, flow.priority)
        } else {
            let request = self.requests.get(id)?;
            let flow = request.flow.as_deref()?;
            let is_wanted = request.unwanted.is_none() && flow.broken.is_none();
            (is_wanted.then_some(flow)?, request.priority)
        };
        let may_send = flow.outflow.as_ref().is_some_and(Outflow::may_send);
        let is_short = self.credit.max_message().is_some_and(|max| len <= max);
        let goes =
            may_send && is_short && self.is_live() && !self.bulk.has(id) && self.has_room(priority, len);
        goes.then_some(priority)
    }

    fn put_data<P: Payload>(&mut self, id: u64, message: &P, size: Size, priority: Priority, now: Time) {
        self.room.leave(id);
        self.put_message(Header::new(Kind::Data, id), message, size, Part::Data, priority);
        if let Some((flow, _)) = self.flow_mut(id) {
            if let Some(outflow) = &mut flow.outflow {
                outflow.charge(size.len as u64);
            }
            flow.note_move(now);
        }
        self.keep_alive.request_sent();
        self.note_use(now);
    }

    /// Ready when nothing more of a stream of ours can be sent. Who waits for this does not wait for [`Self::poll_data`].
    pub(crate) fn poll_unsendable(&mut self, id: CallId, cx: &Context<'_>) -> Poll<Unsent> {
        let id = id.number();
        if let Some(over) = self.find_end(id) {
            return Poll::Ready(over);
        }
        if let Some(outflow) = self.outflow_mut(id) {
            outflow.wait(cx);
        }
        Poll::Pending
    }

    /// The caller sends no more: END follows its last message.
    pub(crate) fn finish_data(&mut self, id: CallId, now: Time) {
        let id = id.number();
        if self.find_end(id).is_some() {
            return;
        }
        let is_unfinished = self.bulk.has(id);
        let Some(outflow) = self.outflow_mut(id).filter(|outflow| !outflow.is_ended()) else {
            return;
        };
        if is_unfinished {
            return outflow.want_end();
        }
        self.put_end(id);
        self.note_use(now);
    }

    /// Ends a call of ours for a reason on this side: it has its outcome at once, and the peer is told.
    pub(crate) fn fail_call(&mut self, id: CallId, cause: Cause, now: Time) {
        let id = id.number();
        if !self.calls.is_waiting(id) {
            return;
        }
        let (phase, executed) = self.calls.progress(id, self.taken, Reach::Output);
        let failure = Failure {
            cause,
            phase,
            executed,
        };
        self.calls.resolve(id, Err(failure), &mut self.woken);
        self.forget_stream(id);
        self.withdraw(id);
        self.note_use(now);
        self.finish_if_idle(now);
    }

    /// A message of a handler's stream cannot be parsed: its call fails with `status`, whatever the handler returns.
    pub(crate) fn break_stream(&mut self, id: CallId, status: Status, now: Time) {
        let text = status.message().to_owned();
        self.stop_reading(id.number(), status);
        self.fault(|counts| &counts.malformed_messages, &text, now);
    }

    /// A handler's stream cannot be read on: its call fails with `status`.
    fn stop_reading(&mut self, id: u64, status: Status) {
        if let Some((flow, held)) = self.requests.flow_mut(id) {
            flow.broken.get_or_insert(status);
            flow.release(held);
            flow.wake(&mut self.woken);
        }
    }

    /// Adds an entry that travels beside the reply of a handler's call; false if there is no room for it, or nothing is
    /// replied any more.
    pub(crate) fn add_reply_metadata(&mut self, id: CallId, key: String, value: Bytes) -> bool {
        let Some(request) = self
            .requests
            .get_mut(id.number())
            .filter(|request| !request.one_way)
        else {
            return false;
        };
        let flow = request.flow.get_or_insert_default();
        let mut metadata = flow.metadata.clone();
        metadata.append(key, value);
        let fits = metadata.fits();
        if fits {
            flow.metadata = metadata;
        }
        fits
    }
}

/// What comes in.
impl Connection {
    /// A frame of a stream of the peer: a message, or a fragment of one.
    pub(super) fn receive_message(&mut self, frame: &mut Frame, now: Time) {
        let id = frame.id;
        let (len, more) = (frame.payload_len(), frame.flags.contains(Flags::MORE));
        let is_empty_fragment = len == 0 && more;
        let held = self.held();
        let (mut max, mut room) = (self.settings.inbox_bytes, self.settings.inbox_bytes);
        room = room.saturating_sub(held.bytes);
        let of_server = self.settings.memory.room();
        if of_server < room {
            (max, room) = (self.settings.memory.max(), of_server);
        }
        let bounds = Bounds {
            max_message: self.settings.max_message,
            max_inbox: max,
            room,
            waiting: self.waiting_at_read,
            announced: self.is_announced(frame.encoding),
        };
        let flow = if self.side.gives(id) {
            self.calls.flow_mut(id)
        } else {
            self.requests.flow_mut(id)
        };
        let Some((flow, held)) = flow else { return };
        let Some(inflow) = &mut flow.inflow else { return };
        if more || inflow.is_unfinished() {
            self.slow.fragment(id, len, more, now);
        }
        match inflow.push(frame, bounds) {
            Ok(added) => {
                held.add(added);
                if added.messages > 0 {
                    inflow.wake(&mut self.woken);
                }
                flow.note_move(now);
            }
            Err(fault) => self.stream_fault(id, fault, now),
        }
        if is_empty_fragment {
            self.empty_frame("empty fragment", now);
        } else {
            self.abuse.not_empty();
        }
    }

    /// The caller's END.
    pub(super) fn receive_end(&mut self, frame: &Frame, now: Time) {
        let id = frame.id;
        if frame.payload_len() > 0 || frame.flags.contains(Flags::MORE) {
            self.fault(|counts| &counts.other_faults, "END with a message", now);
        }
        let Some((flow, _)) = self.requests.flow_mut(id) else {
            return;
        };
        let Some(inflow) = &mut flow.inflow else { return };
        match inflow.end() {
            Ok(()) => inflow.wake(&mut self.woken),
            Err(fault) => self.stream_fault(id, fault, now),
        }
    }

    /// More of a stream of ours may be sent.
    pub(super) fn receive_stream_credit(&mut self, id: u64, bytes: u64, now: Time) {
        let ours = self.side.gives(id);
        let last_id = if ours {
            self.calls.last_id()
        } else {
            self.requests.last_id()
        };
        if id > last_id {
            return self.protocol_error(format!("CREDIT for id {id}, which was never opened"), now);
        }
        let is_open = if ours {
            self.calls.is_open(id)
        } else {
            // Which of the peer's calls are answered by a stream only their handlers know, and the peer may grant more
            // than its window before they begin.
            self.requests.get(id).is_some_and(Request::is_wanted)
        };
        if !is_open {
            // It crossed the REPLY, which happens all the time.
            return;
        }
        if let Some(outflow) = self.outflow_mut(id) {
            let sender = outflow.grant(bytes);
            self.woken.push(sender);
        } else {
            self.fault(|counts| &counts.other_faults, "CREDIT for what is no stream", now);
        }
    }

    /// Something is wrong with a stream of the peer. If it cannot go on, its call fails; the connection goes on.
    fn stream_fault(&mut self, id: u64, fault: Fault, now: Time) {
        if matches!(fault, Fault::BehindEnd | Fault::Late) {
            // Nobody would have read it.
        } else if self.side.gives(id) {
            let cause = match fault {
                Fault::TooLong { len, max } => Cause::TooLong { len, max },
                Fault::InboxFull { max } => Cause::InboxFull { max },
                fault => Cause::Broken(fault.status()),
            };
            self.fail_stream(id, cause);
        } else {
            self.stop_reading(id, fault.status());
        }
        // How much this side keeps undelivered is nothing that the peer was told.
        if !matches!(fault, Fault::InboxFull { .. }) {
            self.fault(fault.kind(), &fault.to_string(), now);
        }
    }

    /// A call of ours fails by what the peer sent of its stream: the handler has begun, and is told to stop.
    pub(super) fn fail_stream(&mut self, id: u64, cause: Cause) {
        self.calls.fail(id, cause, Executed::Maybe, &mut self.woken);
        self.forget_stream(id);
        self.withdraw(id);
    }

    /// Nobody is to read what has come of a stream of a call of ours.
    pub(super) fn forget_stream(&mut self, id: u64) {
        if let Some((flow, held)) = self.calls.flow_mut(id) {
            flow.release(held);
        }
    }
}

/// What goes out.
impl Connection {
    /// Puts the credit into the output that streams are owed.
    pub(super) fn put_stream_credit(&mut self, now: Time) {
        for id in std::mem::take(&mut self.owing) {
            let max_window = self.settings.max_stream_window;
            let spare = (self.settings.inbox_bytes / 2).saturating_sub(self.held().widened);
            let Some((flow, held)) = self.flow_mut(id) else {
                continue;
            };
            let grant = flow
                .inflow
                .as_mut()
                .and_then(|inflow| inflow.take_grant(max_window, spare, now));
            if let Some((grant, widened)) = grant {
                held.widened += widened;
                let mut header = Header::new(Kind::Credit, id);
                header.length = grant;
                self.put_frame(header);
            }
        }
    }

    /// The last fragment of a message of a stream went into the output: what waited for that goes on.
    pub(super) fn data_finished(&mut self, id: u64) {
        let woken = &mut self.woken;
        let flow = if self.side.gives(id) {
            self.calls.flow_mut(id)
        } else {
            self.requests.flow_mut(id)
        };
        let Some(outflow) = flow.and_then(|(flow, _)| flow.outflow.as_mut()) else {
            return;
        };
        outflow.wake(woken);
        if outflow.wants_end() {
            self.put_end(id);
        }
    }

    /// Lets a handler wait until the last fragment of its stream's message is in the output.
    pub(super) fn wait_for_data(&mut self, id: u64, cx: &Context<'_>) {
        if let Some(outflow) = self.outflow_mut(id) {
            outflow.wait(cx);
        }
    }

    fn put_end(&mut self, id: u64) {
        if let Some(outflow) = self.outflow_mut(id) {
            outflow.put_end();
        }
        let mut header = Header::new(Kind::Data, id);
        header.flags = Flags::END;
        self.put_frame(header);
        self.keep_alive.request_sent();
    }
}

/// Whose it is.
impl Connection {
    /// What is held of all streams and replies.
    pub(super) fn held(&self) -> Held {
        self.calls.all_held().and(self.requests.all_held())
    }

    /// What goes first of what is sent for a call.
    fn priority(&self, id: u64) -> Priority {
        if self.side.gives(id) {
            self.calls.flow(id).map_or(Priority::Normal, |flow| flow.priority)
        } else {
            self.requests.priority(id)
        }
    }

    fn flow_mut(&mut self, id: u64) -> Option<(&mut Flow, &mut Held)> {
        if self.side.gives(id) {
            self.calls.flow_mut(id)
        } else {
            self.requests.flow_mut(id)
        }
    }

    /// What is sent of a stream of ours; a handler's begins with its first message.
    fn outflow_mut(&mut self, id: u64) -> Option<&mut Outflow> {
        if self.side.gives(id) {
            return self.calls.flow_mut(id)?.0.outflow.as_mut();
        }
        let granted = self.hello.as_ref().map_or(0, |hello| hello.stream_window);
        let request = self.requests.get_mut(id).filter(|request| !request.one_way)?;
        let flow = request.flow.get_or_insert_default();
        Some(flow.outflow.get_or_insert_with(|| Outflow::new(granted)))
    }

    /// Why nothing more of a stream of ours goes out.
    fn find_end(&self, id: u64) -> Option<Unsent> {
        if self.side.gives(id) {
            let is_going = self.is_live() && self.calls.is_waiting(id);
            return (!is_going).then(|| Unsent::Over(self.calls.failure(id).cloned()));
        }
        let is_wanted = self
            .requests
            .get(id)
            .is_some_and(|request| request.unwanted.is_none() && !request.one_way);
        let is_going = self.is_live() && is_wanted && !self.is_broken(id);
        (!is_going).then_some(Unsent::Over(None))
    }

    /// A handler has learned by its streams that it is no longer wanted: if it fails, that is why.
    fn tell_handler(&mut self, id: u64) {
        let unwanted = self
            .requests
            .get_mut(id)
            .filter(|request| request.unwanted.is_some());
        if let Some(request) = unwanted {
            request.flow.get_or_insert_default().told = true;
        }
    }

    fn is_broken(&self, id: u64) -> bool {
        let flow = self.requests.get(id).and_then(|request| request.flow.as_ref());
        flow.is_some_and(|flow| flow.broken.is_some())
    }

    /// Why the stream of a handler's call cannot be read on.
    fn broken_status(&self, id: u64) -> Option<Status> {
        let Some(request) = self.requests.get(id) else {
            return Some(Status::new(
                Code::Cancelled,
                "the call is over: its handler has ended",
            ));
        };
        if request.unwanted == Some(Unwanted::Cancelled) {
            return Some(Status::new(Code::Cancelled, GIVEN_UP));
        }
        if request.unwanted.is_some() {
            return Some(dropped_status(request.unwanted));
        }
        let Some(flow) = request.flow.as_ref().filter(|flow| flow.inflow.is_some()) else {
            return Some(Status::new(Code::Internal, "the call has no stream of requests"));
        };
        flow.broken.clone()
    }
}

/// What a handler reads from a stream that its caller has given up.
const GIVEN_UP: &str = "the caller gave up before the end of its requests: it cancelled the call, or dropped its Sender without finish()";
