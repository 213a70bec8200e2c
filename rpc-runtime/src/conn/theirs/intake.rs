//! Intake: the peer's requests, from their first frame until they are lined up for their handlers.

use crate::conn::{
    Connection, Time, Unwanted,
    assembly::{Assembly, WrongLength, whole},
    handler::receipt,
    ids::MAX_ID,
    ours::credit::{CONTROL_BYTES, FLOOR_BYTES, charge},
    refused_kind,
    streams::flow::Flow,
    theirs::account::Fate,
    theirs::requests::{Body, Kept, PartialRequest, Request, Stage, Withdrawn},
    wakers::Waiters,
};
use crate::{
    Code, Metadata, Priority,
    wire::frame::{Encoded, Flags, Frame, Kind, control::DropReason},
};

/// Why a request is not taken.
struct Refusal {
    code: Code,
    text: String,
    /// What the account says if it was a one-way request.
    reason: DropReason,
}

impl Refusal {
    fn new(code: Code, text: impl Into<String>, reason: DropReason) -> Self {
        Self {
            code,
            text: text.into(),
            reason,
        }
    }

    fn wrong_length(wrong: WrongLength) -> Self {
        Self::new(Code::Internal, wrong.to_string(), DropReason::BadPayload)
    }
}

/// What a caller is told when memory is short.
pub(crate) const MEMORY_SHORT: &str =
    "the server holds nearly as many bytes of requests and replies as it may";

/// What is not here for a request, which its sender could not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortage {
    /// Anybody who serves.
    Service,
    /// Room for metadata.
    Metadata,
    /// Memory of the whole server.
    Memory,
}

impl Shortage {
    fn refusal(self) -> (Code, &'static str, DropReason) {
        let exhausted = |text| (Code::ResourceExhausted, text, DropReason::Overload);
        match self {
            Self::Service => (
                Code::Unimplemented,
                "this peer serves no procedures",
                DropReason::UnknownProcedure,
            ),
            Self::Metadata => exhausted("metadata of open requests exceeds its limit"),
            Self::Memory => exhausted(MEMORY_SHORT),
        }
    }
}

impl Connection {
    /// The first frame of a request.
    pub(in crate::conn) fn receive_request(&mut self, frame: &mut Frame, one_way: bool, now: Time) {
        let id = frame.id;
        let last_id = self.theirs.requests.last_id();
        if !self.side.other().gives(id) || id <= last_id || id > MAX_ID {
            let text = format!("{} has id {id}, after {last_id}", frame.kind);
            return self.protocol_error(text, now);
        }
        if one_way && !frame.flags.contains(Flags::END) {
            return self.protocol_error(format!("SEND {id} without END"), now);
        }
        self.theirs.requests.opened(id);
        self.health.keep_alive.request_read();
        if self.is_above_last(id) {
            return;
        }
        let more = frame.flags.contains(Flags::MORE);
        if more {
            self.health.slow.fragment(id, frame.payload_len(), true, now);
        }
        let len = frame.message_len();
        let had_credit = !one_way || self.theirs.requests.charge_send(len);
        let refusal = self.check_request(frame, one_way, had_credit, len);
        let stage = match refusal {
            Ok(()) => match self.find_shortage(frame) {
                Some(shortage) => return self.turn_away(frame, one_way, len, shortage, now),
                None => stage(frame, more).map_err(Refusal::wrong_length),
            },
            Err(refusal) => Err(refusal),
        };
        match stage {
            Err(refusal) => {
                self.refuse_first(frame, one_way, len, &refusal, now);
                self.fault_of(refusal.reason, one_way, &refusal.text, now);
            }
            Ok(stage) => self.admit_request(frame, stage, one_way, len, now),
        }
    }

    /// What is wrong with a request that is no reason to end the connection.
    fn check_request(&self, frame: &Frame, one_way: bool, had_credit: bool, len: u64) -> Result<(), Refusal> {
        let exhausted = |text: String| Err(Refusal::new(Code::ResourceExhausted, text, DropReason::Overload));
        let settings = &self.settings;
        let streams = !frame.flags.contains(Flags::END);
        if streams && (len > 0 || frame.flags.contains(Flags::MORE)) {
            let text = "a call whose caller streams brings its messages behind it";
            return Err(Refusal::new(Code::Internal, text, DropReason::BadPayload));
        }
        if !self.is_announced(frame.encoding) {
            let text = format!("compression {} was not announced", frame.encoding);
            return Err(Refusal::new(Code::Internal, text, DropReason::BadPayload));
        }
        if len > settings.max_message {
            return exhausted(format!(
                "request of {len} bytes exceeds limit of {}",
                settings.max_message
            ));
        }
        if one_way && !had_credit {
            return exhausted(format!("one-way requests exceed {} bytes", settings.send_bytes));
        }
        let control = settings.control.contains(&frame.procedure);
        if one_way {
            return Ok(());
        }
        if control && len > CONTROL_BYTES {
            return exhausted(format!(
                "control request of {len} bytes exceeds limit of {CONTROL_BYTES}"
            ));
        }
        if !self.theirs.requests.has_room(control, settings) {
            return exhausted("calls exceed the announced limits".to_owned());
        }
        Ok(())
    }

    /// Refuses a request at its first frame.
    fn refuse_first(&mut self, frame: &Frame, one_way: bool, len: u64, refusal: &Refusal, now: Time) {
        let more = frame.flags.contains(Flags::MORE);
        if !one_way {
            self.put_status(frame.id, refusal.code, &refusal.text, Flags::NOT_EXECUTED);
            self.expect_rest(frame);
        } else if more {
            let fate = Fate::Dropped(refusal.reason);
            let request = Request {
                one_way,
                control: false,
                depth: 0,
                priority: Priority::Normal,
                stage: Stage::Discarding(fate),
                unwanted: None,
                waiters: Waiters::default(),
                deadline: None,
                len,
                kept: Kept::default(),
                at: now,
                flow: None,
            };
            self.theirs.requests.insert(frame.id, request);
        } else {
            self.theirs.requests.release_send(len);
            self.theirs.account.received(frame.id);
            self.theirs.account.ended(Fate::Dropped(refusal.reason));
        }
    }

    /// Why there is no place for a request here, which the peer could not know.
    #[inline]
    fn find_shortage(&self, frame: &Frame) -> Option<Shortage> {
        let settings = &self.settings;
        if !settings.serves {
            return Some(Shortage::Service);
        }
        let metadata = frame.extra.metadata.held_len();
        let has_room =
            metadata == 0 || self.theirs.requests.all_kept().metadata + metadata <= settings.metadata_bytes;
        if has_room && !self.lacks_memory() {
            return None;
        }
        self.find_rare_shortage(frame, has_room)
    }

    #[cold]
    fn find_rare_shortage(&self, frame: &Frame, has_room: bool) -> Option<Shortage> {
        let settings = &self.settings;
        if settings.control.contains(&frame.procedure) {
            // Few, short, and what an operator needs now.
            return None;
        }
        if !has_room {
            return Some(Shortage::Metadata);
        }
        // Those of one-way requests have their credit already, and it comes back only when some have left.
        let is_short = match frame.kind {
            Kind::Send => settings.memory.is_full(),
            _ => self.lacks_memory(),
        };
        is_short.then_some(Shortage::Memory)
    }

    /// Refuses a request for a reason that is no fault of the peer's. As a call that never starts it keeps its slot until
    /// there is room for the REPLY.
    fn turn_away(&mut self, frame: &Frame, one_way: bool, len: u64, shortage: Shortage, now: Time) {
        let (code, text, reason) = shortage.refusal();
        self.count_refused(reason, one_way);
        if one_way {
            let refusal = Refusal::new(code, text, reason);
            return self.refuse_first(frame, one_way, len, &refusal, now);
        }
        let withdrawn = Withdrawn {
            code,
            text,
            queue_us: 0,
        };
        let request = Request {
            one_way,
            control: self.settings.control.contains(&frame.procedure),
            depth: 0,
            priority: Priority::Normal,
            stage: Stage::Withdrawn(withdrawn),
            unwanted: None,
            waiters: Waiters::default(),
            deadline: None,
            len,
            kept: Kept::default(),
            at: now,
            flow: None,
        };
        self.theirs.requests.insert(frame.id, request);
        self.theirs.requests.withdraw(frame.id, withdrawn);
        self.expect_rest(frame);
        self.put_withdrawn();
    }

    /// The sender of a call stops when it has read the refusal: what follows the first frame until then is no fault.
    fn expect_rest(&mut self, frame: &Frame) {
        if frame.flags.contains(Flags::MORE) {
            self.peer.abuse.expect_late(frame.message_len());
        } else if !frame.flags.contains(Flags::END) {
            let settings = &self.settings;
            let late = settings
                .stream_window
                .saturating_add(charge(settings.max_message));
            self.peer.abuse.expect_late(late);
        }
    }

    /// Takes a request in.
    fn admit_request(&mut self, frame: &mut Frame, mut stage: Stage, one_way: bool, len: u64, now: Time) {
        let timeout = match (frame.timeout_us, one_way) {
            (0, true) => Some(self.settings.one_way_timeout),
            (0, false) => None,
            (timeout, _) => Some(Time::from_micros(timeout)),
        };
        let deadline = timeout.map(|timeout| now.saturating_add(timeout));
        self.watch(deadline);
        let complete = !matches!(stage, Stage::Receiving(_));
        let streams = !frame.flags.contains(Flags::END);
        let (came, metadata) = match &mut stage {
            Stage::Receiving(partial) => (partial.assembly.kept(), &mut partial.metadata),
            Stage::Queued(body) => (body.payload.bytes().len(), &mut body.metadata),
            _ => return,
        };
        *metadata = frame.extra.take_metadata();
        let kept = Kept::new(came as u64, metadata.held_len());
        let control = self.settings.control.contains(&frame.procedure);
        let request = Request {
            one_way,
            control,
            // Whoever is deeper than that is refused like all that are too deep.
            depth: u8::try_from(frame.depth).unwrap_or(u8::MAX),
            priority: match control {
                true => Priority::Control,
                false => self.settings.priorities.of(frame.procedure),
            },
            stage,
            unwanted: None,
            waiters: Waiters::default(),
            deadline,
            len,
            kept,
            at: now,
            flow: streams.then(|| Box::new(Flow::of_request(&self.settings, now))),
        };
        self.theirs.requests.insert(frame.id, request);
        if complete {
            self.complete_request(frame.id, one_way);
        }
    }

    /// A further fragment of a request.
    pub(in crate::conn) fn receive_request_data(&mut self, frame: &mut Frame, now: Time) {
        let id = frame.id;
        if id == 0 || id > self.theirs.requests.last_id() {
            return self.protocol_error(format!("DATA for id {id}, which was never opened"), now);
        }
        self.health.keep_alive.request_read();
        if self.is_above_last(id) {
            return;
        }
        let more = frame.flags.contains(Flags::MORE);
        let len = frame.payload_len();
        let is_empty = len == 0;
        let is_full = self.settings.memory.is_full();
        let result = match self.theirs.requests.get_mut(id) {
            None
            | Some(Request {
                stage: Stage::Withdrawn(_),
                ..
            }) => {
                if !self.peer.abuse.is_expected(frame.payload_len()) {
                    self.fault(|counts| &counts.late_frames, "DATA for a call that is over", now);
                }
                return;
            }
            Some(Request {
                stage: Stage::Receiving(_),
                ..
            }) if is_full => return self.shed(id, more, now),
            Some(Request {
                stage: Stage::Receiving(partial),
                ..
            }) => partial.assembly.push(frame).and_then(|()| {
                let finished = (!more).then(|| partial.assembly.finish());
                finished.transpose()
            }),
            Some(Request {
                stage: Stage::Discarding(fate),
                ..
            }) => {
                let fate = *fate;
                if !more {
                    self.theirs.requests.remove(id);
                    self.theirs.account.received(id);
                    self.theirs.account.ended(fate);
                }
                return;
            }
            Some(request) if request.reads_stream() => {
                if frame.flags.contains(Flags::END) {
                    return self.receive_end(frame, now);
                }
                return self.receive_message(frame, now);
            }
            Some(_) => {
                let text = "DATA for a complete request";
                return self.fault(|counts| &counts.other_faults, text, now);
            }
        };
        self.health.slow.fragment(id, len, more, now);
        self.theirs.requests.keep(id, len as u64);
        match result {
            Ok(None) => {}
            Ok(Some(payload)) => self.finish_receiving(id, payload, now),
            Err(wrong) => self.refuse_partial(id, more, wrong, now),
        }
        if is_empty {
            self.empty_frame("empty fragment", now);
        } else {
            self.peer.abuse.not_empty();
        }
    }

    /// There is no room for a further fragment of a request, whoever has taken it.
    #[cold]
    fn shed(&mut self, id: u64, more: bool, now: Time) {
        let (code, text, reason) = Shortage::Memory.refusal();
        let one_way = self
            .theirs
            .requests
            .get(id)
            .is_some_and(|request| request.one_way);
        self.count_refused(reason, one_way);
        if !one_way {
            if let Some(Stage::Receiving(partial)) =
                self.theirs.requests.get(id).map(|request| &request.stage)
            {
                self.peer.abuse.expect_late(partial.assembly.missing());
            }
            self.withdraw_request(id, code, text, now);
        } else if more {
            self.theirs.requests.discard(id, Fate::Dropped(reason));
        } else {
            self.theirs.requests.remove(id);
            self.theirs.account.received(id);
            self.theirs.account.ended(Fate::Dropped(reason));
        }
        self.note_drained();
    }

    /// The last fragment of a request has come.
    fn finish_receiving(&mut self, id: u64, payload: Encoded, now: Time) {
        let Some(request) = self.theirs.requests.get_mut(id) else {
            return;
        };
        request.at = now;
        let one_way = request.one_way;
        if let Stage::Receiving(partial) = &mut request.stage {
            let body = Body {
                procedure: partial.procedure,
                metadata: std::mem::take(&mut partial.metadata),
                payload,
            };
            request.stage = Stage::Queued(body);
        }
        self.complete_request(id, one_way);
    }

    /// All of a request was read.
    fn complete_request(&mut self, id: u64, one_way: bool) {
        if one_way {
            self.theirs.account.received(id);
        }
        self.peer.abuse.good();
        self.theirs.requests.enqueue(id, &mut self.wakes.woken);
    }

    /// A request turns out to have another length than it announced; `more` fragments may follow.
    fn refuse_partial(&mut self, id: u64, more: bool, wrong: WrongLength, now: Time) {
        let refusal = Refusal::wrong_length(wrong);
        let one_way = self
            .theirs
            .requests
            .get(id)
            .is_some_and(|request| request.one_way);
        if !one_way {
            self.refuse_call(id, refusal.code, &refusal.text, Flags::NOT_EXECUTED, now);
            if more {
                self.peer.abuse.expect_late(FLOOR_BYTES);
            }
        } else if more {
            self.theirs.requests.discard(id, Fate::Dropped(refusal.reason));
        } else {
            self.theirs.requests.remove(id);
            self.theirs.account.received(id);
            self.theirs.account.ended(Fate::Dropped(refusal.reason));
        }
        self.note_drained();
        self.fault_of(refusal.reason, one_way, &refusal.text, now);
    }

    /// Counts a request that is not taken as a fault of the peer's.
    pub(in crate::conn) fn fault_of(&mut self, reason: DropReason, one_way: bool, text: &str, now: Time) {
        let kind = refused_kind(reason, one_way).unwrap_or(|counts| &counts.other_faults);
        self.fault(kind, text, now);
    }

    /// The peer no longer wants a call.
    pub(in crate::conn) fn receive_cancel(&mut self, id: u64, now: Time) {
        if !self.side.other().gives(id) || id > self.theirs.requests.last_id() {
            return self.protocol_error(format!("CANCEL for id {id}, which was never opened"), now);
        }
        let Some(request) = self.theirs.requests.get(id) else {
            // It crossed the REPLY, which happens all the time.
            return;
        };
        if request.one_way {
            let text = "CANCEL for a one-way request";
            return self.fault(|counts| &counts.other_faults, text, now);
        }
        match request.stage {
            Stage::Taken | Stage::Running(_) => {
                self.theirs
                    .requests
                    .unwant(id, Unwanted::Cancelled, &mut self.wakes.woken);
            }
            Stage::Receiving(_) | Stage::Queued(_) | Stage::Discarding(_) => {
                // Whoever cancels sends no more fragments, so none are expected.
                self.withdraw_request(id, Code::Cancelled, "cancelled by the caller", now);
            }
            Stage::Withdrawn(_) => {}
        }
    }

    /// The deadline of a request has passed.
    pub(in crate::conn) fn expire_request(&mut self, id: u64, now: Time) {
        let Some(request) = self.theirs.requests.get(id) else {
            return;
        };
        match (&request.stage, request.one_way) {
            (Stage::Taken | Stage::Running(_), _) => {
                self.theirs
                    .requests
                    .unwant(id, Unwanted::Deadline, &mut self.wakes.woken);
            }
            (Stage::Discarding(_) | Stage::Withdrawn(_), _) => {}
            (Stage::Receiving(_), true) => self.theirs.requests.discard(id, Fate::Expired),
            (Stage::Queued(_), true) => {
                self.theirs.requests.remove(id);
                self.theirs.account.ended(Fate::Expired);
            }
            (stage @ (Stage::Receiving(_) | Stage::Queued(_)), false) => {
                if let Stage::Receiving(partial) = stage {
                    self.peer.abuse.expect_late(partial.assembly.missing());
                }
                let text = "deadline passed before the start";
                self.withdraw_request(id, Code::DeadlineExceeded, text, now);
            }
        }
        self.note_drained();
    }

    /// A call that was not started is over: its REPLY goes out as soon as there is room.
    fn withdraw_request(&mut self, id: u64, code: Code, text: &'static str, now: Time) {
        let Some(request) = self.theirs.requests.get(id) else {
            return;
        };
        let (queue_us, _) = receipt(request, now);
        let late = request.on_its_way(self.settings.max_message);
        self.peer.abuse.expect_late(late);
        let withdrawn = Withdrawn { code, text, queue_us };
        self.theirs.requests.withdraw(id, withdrawn);
        self.put_withdrawn();
    }
}

/// Where a request stands after its first frame; its metadata is filled in when it is admitted.
fn stage(frame: &mut Frame, more: bool) -> Result<Stage, WrongLength> {
    if !more {
        return Ok(Stage::Queued(Body {
            procedure: frame.procedure,
            metadata: Metadata::new(),
            payload: whole(frame)?,
        }));
    }
    let mut assembly = Assembly::new(frame.length, frame.encoding);
    assembly.push(frame)?;
    Ok(Stage::Receiving(Box::new(PartialRequest {
        procedure: frame.procedure,
        metadata: Metadata::new(),
        assembly,
    })))
}
