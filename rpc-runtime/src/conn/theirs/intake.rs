//! Intake: the peer's requests, from their first frame until they are lined up for their handlers.

use super::{
    Theirs,
    account::Fate,
    outcomes::{count_refused, fault_of, receipt},
    request::{IntakeUse, PartialRequest, RequestBody, RequestStage, TheirRequest, Withdrawn},
    waiting_rows::WaitingRow,
};
use crate::{
    Code, Priority,
    api::server_limit::ServerLimit,
    conn::{
        RefusalReason, Settings, Side, Time, Unwanted,
        assembly::{Assembly, WrongLength, whole},
        ids::MAX_ID,
        step::{Step, Violation, protocol},
        streams::{
            flow::Flow,
            inflow::{InflowLimits, StreamFault},
        },
        tuning::{CONTROL_BYTES, FLOOR_BYTES},
        types::charge,
        wakers::Waiters,
    },
    metrics::CallCounts,
    wire::frame::{Encoded, Flags, Frame, Kind},
};

/// Why a request is not taken.
pub(super) struct Refusal {
    code: Code,
    pub(super) text: String,
    pub(super) reason: RefusalReason,
}

impl Refusal {
    fn new(code: Code, text: impl Into<String>, reason: RefusalReason) -> Self {
        Self {
            code,
            text: text.into(),
            reason,
        }
    }

    /// The refusal of one-way requests for which the peer had no credit.
    pub(super) fn no_send_credit(settings: &Settings) -> Self {
        let text = format!(
            "one-way requests exceed {} bytes: the server's Limits::send_bytes",
            settings.send_bytes
        );
        Self::over(ServerLimit::SendBytes, text)
    }

    /// The refusal of a request that is over a limit.
    fn over(limit: ServerLimit, text: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, text, RefusalReason::Over(limit))
    }

    fn wrong_length(wrong: WrongLength) -> Self {
        Self::new(Code::Internal, wrong.to_string(), RefusalReason::BadPayload)
    }
}

/// What is known of a request from its first frame.
#[derive(Clone, Copy)]
struct FirstFrame {
    one_way: bool,
    control: bool,
    /// False if it is a one-way request for which the peer had no credit.
    had_credit: bool,
    /// How long the message is.
    len: u64,
    /// Where it is counted; none if it is not.
    counts: Option<&'static CallCounts>,
}

/// The text of a refusal because memory is short.
pub(crate) const MEMORY_SHORT: &str = "the server holds nearly as many bytes of requests and replies as it may: its \
                                       ServerBuilder::max_buffered_bytes";

/// What this side lacks for a request; its sender could not know that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// A service: this side serves none.
    Service,
    /// Callbacks: this side is a guest, whose peer cannot be called.
    Callbacks,
    /// Room for metadata.
    Metadata,
    /// Memory of the whole server.
    Memory,
}

impl Shortage {
    /// The refusal of one-way requests.
    pub(super) fn of_one_way(self) -> Refusal {
        let (code, text, reason) = self.refusal();
        Refusal::new(code, text, reason)
    }

    fn refusal(self) -> (Code, &'static str, RefusalReason) {
        let over = |limit, text| (Code::ResourceExhausted, text, RefusalReason::Over(limit));
        match self {
            Self::Service => (
                Code::Unimplemented,
                "this peer serves no procedures",
                RefusalReason::UnknownProcedure,
            ),
            Self::Callbacks => (
                Code::Unimplemented,
                "the caller speaks gRPC, which has no callbacks: use a stream of replies instead",
                RefusalReason::UnknownProcedure,
            ),
            Self::Metadata => over(
                ServerLimit::MetadataBytes,
                "metadata of open requests exceeds the server's Limits::metadata_bytes",
            ),
            Self::Memory => over(ServerLimit::MaxBufferedBytes, MEMORY_SHORT),
        }
    }
}

impl Theirs {
    /// Opens the id of a request's first frame.
    #[inline]
    pub(in crate::conn) fn open(&mut self, frame: &Frame, side: Side) -> Result<(), Violation> {
        self.check_new(frame, side)?;
        self.requests.opened(frame.id);
        Ok(())
    }

    /// Checks that a request may have the id of its first frame.
    #[inline]
    pub(super) fn check_new(&self, frame: &Frame, side: Side) -> Result<(), Violation> {
        let id = frame.id;
        let last_id = self.requests.last_id();
        if !side.other().gives(id) || id <= last_id || id > MAX_ID {
            return protocol(format!("{} has id {id}, after {last_id}", frame.kind));
        }
        if frame.kind == Kind::Send && !frame.flags.contains(Flags::END) {
            return protocol(format!("SEND {id} without END"));
        }
        Ok(())
    }

    /// Checks that the id of a DATA frame was opened.
    pub(in crate::conn) fn check_opened(&self, frame: &Frame) -> Result<(), Violation> {
        let id = frame.id;
        match id > 0 && id <= self.requests.last_id() {
            true => Ok(()),
            false => protocol(format!("DATA for id {id}, which was never opened")),
        }
    }

    /// Takes in the first frame of a request whose id is open.
    #[inline]
    pub(in crate::conn) fn receive_request(
        &mut self,
        frame: &mut Frame,
        mut lacks_memory: bool,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        if frame.flags.contains(Flags::MORE) {
            step.fragments
                .fragment(frame.id, frame.payload_len(), true, step.now);
            // What is not whole may stay so: it must not keep the server from accepting.
            lacks_memory |= step.settings.memory.is_tight();
        }
        let one_way = frame.kind == Kind::Send;
        let len = frame.message_len();
        let control = step.settings.control.contains(&frame.procedure);
        let first = FirstFrame {
            one_way,
            control,
            had_credit: !one_way || self.requests.charge_send(len),
            len,
            counts: self.counts_of(frame.procedure, control, step.settings),
        };
        if let Some(counts) = first.counts.filter(|_| !one_way) {
            counts.begin();
        }
        let refusal = match self.check_request(frame, first, step) {
            Ok(()) => {
                if let Some(shortage) = self.find_shortage(frame, lacks_memory, step) {
                    self.turn_away(frame, first, shortage, step);
                    return Ok(());
                }
                match self.admit_request(frame, first, step) {
                    Ok(()) => return Ok(()),
                    Err(wrong) => Refusal::wrong_length(wrong),
                }
            }
            Err(refusal) => refusal,
        };
        self.note_limit(refusal.reason);
        self.refuse_first(frame, first, &refusal, step);
        fault_of(refusal.reason, one_way, &refusal.text, step)
    }

    /// Returns where requests of a procedure are counted; none if they are not.
    #[inline]
    pub(super) fn counts_of(
        &mut self,
        procedure: u64,
        control: bool,
        settings: &Settings,
    ) -> Option<&'static CallCounts> {
        match control {
            true => None,
            false => self.meter.find(procedure, &settings.served),
        }
    }

    /// Finds what is wrong with a request, if that does not end the connection.
    fn check_request(&self, frame: &Frame, first: FirstFrame, step: &Step<'_>) -> Result<(), Refusal> {
        let FirstFrame { one_way, len, .. } = first;
        let over = |limit, text: String| Err(Refusal::over(limit, text));
        let settings = step.settings;
        let streams = !frame.flags.contains(Flags::END);
        if streams && (len > 0 || frame.flags.contains(Flags::MORE)) {
            let text = "a call whose caller streams brings its messages behind it";
            return Err(Refusal::new(Code::Internal, text, RefusalReason::BadPayload));
        }
        if !step.is_announced(frame.encoding) {
            let text = format!("compression {} was not announced", frame.encoding);
            return Err(Refusal::new(Code::Internal, text, RefusalReason::BadPayload));
        }
        if len > settings.max_message {
            return over(
                ServerLimit::MaxMessage,
                format!(
                    "request of {len} bytes exceeds limit of {}: the server's Limits::max_message",
                    settings.max_message
                ),
            );
        }
        if !first.had_credit {
            return Err(Refusal::no_send_credit(settings));
        }
        if one_way {
            return Ok(());
        }
        if first.control && len > CONTROL_BYTES {
            return over(
                ServerLimit::Fixed,
                format!("control request of {len} bytes exceeds limit of {CONTROL_BYTES}"),
            );
        }
        if !self.requests.has_room(first.control, settings) {
            let text =
                "calls exceed the announced limits: the server's Limits::max_calls or Limits::call_bytes";
            return over(self.requests.full(first.control, settings), text.to_owned());
        }
        Ok(())
    }

    /// Refuses a request at its first frame.
    fn refuse_first(&mut self, frame: &Frame, first: FirstFrame, refusal: &Refusal, step: &mut Step<'_>) {
        let FirstFrame {
            one_way, len, counts, ..
        } = first;
        let more = frame.flags.contains(Flags::MORE);
        if !one_way {
            if let Some(counts) = counts {
                counts.end(refusal.code, 0);
            }
            step.outbox
                .put_status(frame.id, refusal.code, &refusal.text, Flags::NOT_EXECUTED);
            expect_rest(frame, step);
        } else if more {
            let stage = RequestStage::Discarding(Fate::Dropped(refusal.reason.drop_reason()));
            let request =
                TheirRequest::refused(stage, one_way, false, frame.procedure, len, counts, step.now);
            self.requests.insert(frame.id, request);
        } else {
            self.requests.release_send(charge(len));
            self.account.received(frame.id);
            self.account
                .ended(Fate::Dropped(refusal.reason.drop_reason()), counts);
        }
    }

    /// Finds what this side lacks for a request.
    #[inline]
    pub(super) fn find_shortage(
        &self,
        frame: &Frame,
        lacks_memory: bool,
        step: &Step<'_>,
    ) -> Option<Shortage> {
        let settings = step.settings;
        if !settings.serves {
            // Of the clients only those of guests carry the calls of others.
            return Some(match settings.is_metered {
                true => Shortage::Service,
                false => Shortage::Callbacks,
            });
        }
        let metadata = frame.extra.beside_len();
        let has_room =
            metadata == 0 || self.requests.all_kept().metadata + metadata <= settings.metadata_bytes;
        if has_room && !lacks_memory {
            return None;
        }
        find_rare_shortage(frame, has_room, lacks_memory, step)
    }

    /// Refuses a request for a reason that is no fault of the peer. A call keeps its slot until there is room for the REPLY.
    fn turn_away(&mut self, frame: &Frame, first: FirstFrame, shortage: Shortage, step: &mut Step<'_>) {
        let FirstFrame {
            one_way,
            control,
            len,
            counts,
            ..
        } = first;
        let (code, text, reason) = shortage.refusal();
        self.note_limit(reason);
        count_refused(reason, one_way, 1, step);
        if one_way {
            return self.refuse_first(frame, first, &shortage.of_one_way(), step);
        }
        let withdrawn = Withdrawn {
            code,
            text,
            queue_us: 0,
        };
        let stage = RequestStage::Withdrawn(withdrawn);
        let request = TheirRequest::refused(stage, one_way, control, frame.procedure, len, counts, step.now);
        self.requests.insert(frame.id, request);
        self.requests.withdraw(frame.id, withdrawn);
        expect_rest(frame, step);
        self.put_withdrawn(step.outbox, step.wakes);
    }

    /// Takes a request in.
    #[inline]
    fn admit_request(
        &mut self,
        frame: &mut Frame,
        first: FirstFrame,
        step: &mut Step<'_>,
    ) -> Result<(), WrongLength> {
        if frame.flags.contains(Flags::MORE) {
            return self.admit_partial(frame, first, step);
        }
        let payload = whole(frame)?;
        let kept = IntakeUse::new(payload.bytes().len() as u64, frame.extra.beside_len());
        let (metadata, trace) = frame.extra.take_beside();
        let body = RequestBody {
            metadata,
            trace,
            payload,
        };
        self.insert(frame, RequestStage::Queued(body), kept, first, step);
        self.complete_request(frame.id, first.one_way, step);
        Ok(())
    }

    /// Takes in a request of which more fragments come.
    fn admit_partial(
        &mut self,
        frame: &mut Frame,
        first: FirstFrame,
        step: &mut Step<'_>,
    ) -> Result<(), WrongLength> {
        let mut assembly = Assembly::new(frame.length, frame.encoding);
        assembly.push(frame)?;
        let kept = IntakeUse::new(assembly.kept() as u64, frame.extra.beside_len());
        let (metadata, trace) = frame.extra.take_beside();
        let partial = PartialRequest {
            metadata,
            trace,
            assembly,
        };
        self.insert(
            frame,
            RequestStage::Receiving(Box::new(partial)),
            kept,
            first,
            step,
        );
        Ok(())
    }

    // Inlined, so that the request is written in its place at once.
    #[inline(always)]
    fn insert(
        &mut self,
        frame: &Frame,
        stage: RequestStage,
        kept: IntakeUse,
        first: FirstFrame,
        step: &mut Step<'_>,
    ) {
        let FirstFrame {
            one_way,
            control,
            len,
            counts,
            ..
        } = first;
        let deadline = deadline_of(frame, one_way, step);
        step.wakes.watch(deadline);
        let streams = !frame.flags.contains(Flags::END);
        let request = TheirRequest {
            one_way,
            control,
            procedure: frame.procedure,
            depth: depth_of(frame),
            priority: priority_of(frame, control, step),
            stage,
            unwanted: None,
            waiters: Waiters::default(),
            deadline,
            charge: charge(len),
            kept,
            at: step.now,
            flow: streams.then(|| Box::new(Flow::of_request(step.settings, step.now))),
            counts,
        };
        self.requests.insert(frame.id, request);
    }

    /// Takes in a further frame of a request that was opened: a fragment, or a message of its stream.
    pub(in crate::conn) fn receive_data(
        &mut self,
        frame: &mut Frame,
        limits: InflowLimits,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        let id = frame.id;
        let more = frame.flags.contains(Flags::MORE);
        let len = frame.payload_len();
        let Some((request, held)) = self.requests.entry_mut(id) else {
            return late_data(len, step);
        };
        let reads_stream = request.reads_stream();
        let result = match &mut request.stage {
            RequestStage::Withdrawn(_) => return late_data(len, step),
            RequestStage::Receiving(_) if step.settings.memory.is_tight() => {
                self.shed(id, more, step);
                return Ok(());
            }
            RequestStage::Receiving(partial) => partial.assembly.push(frame).and_then(|()| {
                let finished = (!more).then(|| partial.assembly.finish());
                finished.transpose()
            }),
            RequestStage::Discarding(fate) => {
                let (fate, counts) = (*fate, request.counts);
                if !more {
                    self.requests.remove(id);
                    self.account.received(id);
                    self.account.ended(fate, counts);
                }
                return Ok(());
            }
            _ if reads_stream => {
                if frame.flags.contains(Flags::END) {
                    return self.receive_end(frame, step);
                }
                let flow = request.flow.as_deref_mut();
                let received = flow.map_or(Ok(()), |flow| flow.receive(frame, limits, held, step));
                return self.message_received(id, received, len == 0 && more, step);
            }
            _ => {
                return step.fault(|counts| &counts.other_faults, "DATA for a complete request");
            }
        };
        step.fragments.fragment(id, len, more, step.now);
        self.requests.keep(id, len as u64);
        match result {
            Ok(None) => {}
            Ok(Some(payload)) => self.finish_receiving(id, payload, step),
            Err(wrong) => self.refuse_partial(id, more, wrong, step)?,
        }
        step.count_fragment(len)
    }

    /// Handles what came of a message of a caller's stream, or of a fragment of one.
    fn message_received(
        &mut self,
        id: u64,
        received: Result<(), StreamFault>,
        is_empty_fragment: bool,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        if let Err(fault) = received {
            self.stream_fault(id, fault, step)?;
        }
        if is_empty_fragment {
            return step.empty_frame("empty fragment");
        }
        step.faults.not_empty();
        Ok(())
    }

    /// Takes in the caller's END.
    fn receive_end(&mut self, frame: &Frame, step: &mut Step<'_>) -> Result<(), Violation> {
        if frame.payload_len() > 0 || frame.flags.contains(Flags::MORE) {
            step.fault(|counts| &counts.other_faults, "END with a message")?;
        }
        let Some((flow, _)) = self.requests.flow_mut(frame.id) else {
            return Ok(());
        };
        let Some(inflow) = &mut flow.inflow else {
            return Ok(());
        };
        match inflow.end() {
            Ok(()) => {
                inflow.wake(step.wakes.woken());
                Ok(())
            }
            Err(fault) => self.stream_fault(frame.id, fault, step),
        }
    }

    /// Handles a fault of a caller's stream: if it cannot go on, its call fails; the connection goes on.
    fn stream_fault(&mut self, id: u64, fault: StreamFault, step: &mut Step<'_>) -> Result<(), Violation> {
        // What comes late, or behind the end, no handler would have read.
        if !fault.is_late() {
            self.stop_reading(id, fault.status(), step.wakes);
        }
        fault.count(step)
    }

    /// Drops a request that is being read: memory is full.
    #[cold]
    fn shed(&mut self, id: u64, more: bool, step: &mut Step<'_>) {
        let (code, text, reason) = Shortage::Memory.refusal();
        self.note_limit(reason);
        let one_way = self.requests.get(id).is_some_and(|request| request.one_way);
        count_refused(reason, one_way, 1, step);
        if !one_way {
            if let Some(RequestStage::Receiving(partial)) =
                self.requests.get(id).map(|request| &request.stage)
            {
                step.faults.expect_late(partial.assembly.missing());
            }
            self.withdraw_request(id, code, text, step);
        } else if more {
            self.requests.discard(id, Fate::Dropped(reason.drop_reason()));
        } else {
            self.drop_send(id, Fate::Dropped(reason.drop_reason()));
        }
        self.note_drained(step.wakes);
    }

    /// Drops a one-way request whose last byte was read.
    fn drop_send(&mut self, id: u64, fate: Fate) {
        let counts = self.requests.remove(id).and_then(|request| request.counts);
        self.account.received(id);
        self.account.ended(fate, counts);
    }

    /// Completes a request whose last fragment has come.
    fn finish_receiving(&mut self, id: u64, payload: Encoded, step: &mut Step<'_>) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.at = step.now;
        let one_way = request.one_way;
        if let RequestStage::Receiving(partial) = &mut request.stage {
            let body = RequestBody {
                metadata: std::mem::take(&mut partial.metadata),
                trace: partial.trace.take(),
                payload,
            };
            request.stage = RequestStage::Queued(body);
        }
        self.complete_request(id, one_way, step);
    }

    /// Lines up a request that was read to its end.
    #[inline]
    fn complete_request(&mut self, id: u64, one_way: bool, step: &mut Step<'_>) {
        if one_way {
            self.account.received(id);
        }
        step.faults.good(1);
        self.requests.enqueue(id, step.wakes.woken());
    }

    /// Refuses a request that has another length than it announced; `more` fragments may follow.
    fn refuse_partial(
        &mut self,
        id: u64,
        more: bool,
        wrong: WrongLength,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        let refusal = Refusal::wrong_length(wrong);
        let one_way = self.requests.get(id).is_some_and(|request| request.one_way);
        if !one_way {
            self.refuse_call(id, refusal.code, &refusal.text, step);
            if more {
                step.faults.expect_late(FLOOR_BYTES);
            }
        } else if more {
            self.requests
                .discard(id, Fate::Dropped(refusal.reason.drop_reason()));
        } else {
            self.drop_send(id, Fate::Dropped(refusal.reason.drop_reason()));
        }
        self.note_drained(step.wakes);
        fault_of(refusal.reason, one_way, &refusal.text, step)
    }

    /// Takes in a CANCEL: the peer no longer wants a call.
    pub(in crate::conn) fn receive_cancel(
        &mut self,
        id: u64,
        side: Side,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        if !side.other().gives(id) || id > self.requests.last_id() {
            return protocol(format!("CANCEL for id {id}, which was never opened"));
        }
        let Some(request) = self.requests.get(id) else {
            // It crossed the REPLY, which happens all the time.
            return Ok(());
        };
        if request.one_way {
            return step.fault(|counts| &counts.other_faults, "CANCEL for a one-way request");
        }
        match request.stage {
            RequestStage::Taken | RequestStage::Starting(_) | RequestStage::Running(_) => {
                self.requests.unwant(id, Unwanted::Cancelled, step.wakes.woken());
            }
            RequestStage::Receiving(_) | RequestStage::Queued(_) | RequestStage::Discarding(_) => {
                // A peer that cancels sends no more fragments, so none are expected.
                self.withdraw_request(id, Code::Cancelled, "cancelled by the caller", step);
            }
            RequestStage::Withdrawn(_) => {}
        }
        Ok(())
    }

    /// Ends all requests whose deadline has passed.
    pub(in crate::conn) fn expire(&mut self, step: &mut Step<'_>) {
        let now = step.now;
        let is_due = |request: &TheirRequest| {
            request.unwanted.is_none() && request.deadline.is_some_and(|deadline| deadline <= now)
        };
        for id in self.requests.select(is_due) {
            self.expire_request(id, step);
        }
        let is_due = |row: &WaitingRow| row.deadline.is_some_and(|deadline| deadline <= now);
        for last_id in self.requests.select_rows(is_due) {
            self.missed += self.end_row(last_id, Fate::Expired);
            self.note_drained(step.wakes);
        }
        let before = self.requests.unwanted_in_row(Unwanted::Deadline);
        self.requests.unwant_row(Unwanted::Deadline, is_due);
        self.missed += (self.requests.unwanted_in_row(Unwanted::Deadline) - before) as u64;
    }

    /// Ends a request whose deadline has passed.
    fn expire_request(&mut self, id: u64, step: &mut Step<'_>) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        match (&request.stage, request.one_way) {
            (RequestStage::Taken | RequestStage::Starting(_) | RequestStage::Running(_), _) => {
                self.requests.unwant(id, Unwanted::Deadline, step.wakes.woken());
            }
            // It was ended before.
            (RequestStage::Discarding(_) | RequestStage::Withdrawn(_), _) => {
                return self.note_drained(step.wakes);
            }
            (RequestStage::Receiving(_), true) => self.requests.discard(id, Fate::Expired),
            (RequestStage::Queued(_), true) => {
                let counts = self.requests.remove(id).and_then(|request| request.counts);
                self.account.ended(Fate::Expired, counts);
            }
            (stage @ (RequestStage::Receiving(_) | RequestStage::Queued(_)), false) => {
                if let RequestStage::Receiving(partial) = stage {
                    step.faults.expect_late(partial.assembly.missing());
                }
                let text = "deadline passed before the start: the caller's Call::timeout";
                self.withdraw_request(id, Code::DeadlineExceeded, text, step);
            }
        }
        self.missed += 1;
        self.note_drained(step.wakes);
    }

    /// Ends a call that was not started: its REPLY goes out as soon as there is room.
    fn withdraw_request(&mut self, id: u64, code: Code, text: &'static str, step: &mut Step<'_>) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let (queue_us, _) = receipt(request, step.now);
        let late = request.on_its_way(step.settings.longest_item());
        step.faults.expect_late(late);
        let withdrawn = Withdrawn { code, text, queue_us };
        self.requests.withdraw(id, withdrawn);
        self.put_withdrawn(step.outbox, step.wakes);
    }
}

/// When a request that is read now is no longer wanted.
#[inline]
pub(super) fn deadline_of(frame: &Frame, one_way: bool, step: &Step<'_>) -> Option<Time> {
    let timeout = match (frame.timeout_us, one_way) {
        (0, true) => step.settings.one_way_timeout,
        (0, false) => return None,
        (timeout, _) => Time::from_micros(timeout),
    };
    Some(step.now.saturating_add(timeout))
}

/// How many calls a request is nested in. A deeper request is refused like all that are too deep.
#[inline]
pub(super) fn depth_of(frame: &Frame) -> u8 {
    u8::try_from(frame.depth).unwrap_or(u8::MAX)
}

/// The priority of what is sent for a request.
#[inline]
pub(super) fn priority_of(frame: &Frame, control: bool, step: &Step<'_>) -> Priority {
    match control {
        true => Priority::Control,
        false => step.settings.priorities.of(frame.procedure),
    }
}

#[cold]
fn find_rare_shortage(
    frame: &Frame,
    has_room: bool,
    lacks_memory: bool,
    step: &Step<'_>,
) -> Option<Shortage> {
    let settings = step.settings;
    if settings.control.contains(&frame.procedure) {
        // They are few and short, and an operator needs them now.
        return None;
    }
    if !has_room {
        return Some(Shortage::Metadata);
    }
    // One-way requests have their credit already, and it comes back only when some have left.
    let is_short = match frame.kind {
        Kind::Send if frame.flags.contains(Flags::MORE) => settings.memory.is_tight(),
        Kind::Send => settings.memory.is_full(),
        _ => lacks_memory,
    };
    is_short.then_some(Shortage::Memory)
}

/// Expects what follows the first frame until the sender has read the refusal: it is no fault.
fn expect_rest(frame: &Frame, step: &mut Step<'_>) {
    if frame.flags.contains(Flags::MORE) {
        step.faults.expect_late(frame.message_len());
    } else if !frame.flags.contains(Flags::END) {
        let settings = step.settings;
        let late = settings
            .stream_window
            .saturating_add(charge(settings.longest_item()));
        step.faults.expect_late(late);
    }
}

/// Counts data for a call that is over: a fault, unless it was on its way when the call was refused.
fn late_data(len: usize, step: &mut Step<'_>) -> Result<(), Violation> {
    match step.faults.spend_expected(len) {
        true => Ok(()),
        false => step.fault(|counts| &counts.late_frames, "DATA for a call that is over"),
    }
}
