//! Connection: fuzz targets for a whole connection of either side.
//!
//! Its driver, its callers and its handlers use it as usual, and its peer sends anything.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    dice::Dice,
    peer::{self, CONTROL, ECHO},
    written::Written,
};
use crate::{
    Code, Metadata, Priority, Status,
    api::priority::Priorities,
    conn::{
        Arrived, Barrier, CallId, Connection, End, Flush, JoiningSend, Next, RefusalReason, Request,
        Settings, Shape, Side, Ticket, Time, Unsent, memory::Memory,
    },
    message::{decode::DecodeFailure, growth::Budget, unread_rows::Unread},
    metrics::ServedProcedures,
    wire::{
        codec::FrameCodec,
        frame::{Encoded, Frame, Output, control::Reason, row::MAX_ROW},
    },
};

/// Feeds the first bytes of a connection to both sides: a HELLO, or anything else.
pub fn handshake(data: &[u8]) {
    for side in [Side::Acceptor, Side::Connector] {
        let mut harness = Harness::new(side);
        let mut dice = Dice::new(data);
        let piece = usize::from(dice.u8()) + 1;
        let stream = dice.rest();
        for piece in stream.chunks(piece) {
            harness.transmit(usize::MAX);
            harness.read(piece);
        }
        harness.end();
    }
}

/// Drives a server's connection.
pub fn server(data: &[u8]) {
    play(Side::Acceptor, data);
}

/// Drives a client's connection.
pub fn client(data: &[u8]) {
    play(Side::Connector, data);
}

fn play(side: Side, data: &[u8]) {
    let mut harness = Harness::new(side);
    let mut dice = Dice::new(data);
    if dice.u8() > 10 {
        let hello = peer::hello(&mut dice);
        harness.read(&hello);
    }
    while !dice.is_over() {
        harness.step(&mut dice);
        harness.check();
    }
    harness.end();
}

struct Harness {
    conn: Connection,
    settings: Settings,
    side: Side,
    codec: FrameCodec,
    input: BytesMut,
    /// True after bytes that are not a frame: further bytes are ignored.
    is_input_ended: bool,
    output: Output,
    written: Written,
    now: Time,
    next_id: u64,
    /// The rest of a frame whose first part was read.
    rest: Vec<u8>,
    handlers: Vec<OpenHandler>,
    calls: Vec<OpenCall>,
    barriers: Vec<Barrier>,
    flushes: Vec<Flush>,
}

struct OpenHandler {
    arrived: Arrived,
    started: bool,
}

struct OpenCall {
    ticket: Ticket,
    shape: Shape,
    one_way: bool,
    control: bool,
    deadline: Option<Time>,
    message: Vec<u8>,
    id: Option<CallId>,
    over: bool,
}

impl Harness {
    fn new(side: Side) -> Self {
        let settings = Settings {
            metadata: Metadata::new(),
            max_frame: 64 << 10,
            max_message: 200 << 10,
            max_calls: 16,
            call_bytes: 64 << 10,
            send_bytes: 64 << 10,
            inbox_bytes: 300 << 10,
            high_water: 32 << 10,
            max_waiting: 20,
            one_way_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            keep_alive: Some(Duration::from_secs(30)),
            dead_after: Duration::from_secs(20),
            ping_floor: Duration::from_secs(10),
            slow_frame: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            max_age: None,
            max_age_grace: Duration::from_secs(30),
            max_idle: None,
            random: 1 << 31,
            encodings: vec![1],
            instance_id: Bytes::new(),
            software: "fuzz".to_owned(),
            control: vec![CONTROL],
            stream_window: 4 << 10,
            max_stream_window: 64 << 10,
            serves: true,
            priorities: Priorities::default(),
            served: ServedProcedures::default(),
            is_metered: true,
            metadata_bytes: 4 << 10,
            decode_bytes: 32 << 20,
            max_faults: 1024,
            max_denials: 100,
            counts: Arc::default(),
            busy_poll: Time::ZERO,
            memory: Arc::new(Memory::new(300 << 10)),
        };
        Self {
            conn: Connection::new(side, settings.clone()),
            codec: FrameCodec::new(settings.max_frame as usize),
            settings,
            side,
            input: BytesMut::new(),
            is_input_ended: false,
            output: Output::new(),
            written: Written::new(),
            now: Time::ZERO,
            next_id: if side == Side::Acceptor { 1 } else { 2 },
            rest: Vec::new(),
            handlers: Vec::new(),
            calls: Vec::new(),
            barriers: Vec::new(),
            flushes: Vec::new(),
        }
    }

    fn step(&mut self, dice: &mut Dice<'_>) {
        let step = dice.u8() % 32;
        // Only a sender finds a lease: see `use_stream`.
        if !matches!(step, HANDLERS_STREAMS | CALLERS_STREAMS) {
            self.conn.end_lease();
        }
        match step {
            0 => {
                let len = dice.u8().into();
                self.read(dice.bytes(len));
            }
            1..=9 => {
                let odd = u64::from(self.side == Side::Acceptor);
                let frame = peer::frame(dice, &mut self.next_id, odd);
                let cut = dice.index(4 * frame.len()).filter(|cut| *cut < frame.len());
                let rest = std::mem::take(&mut self.rest);
                self.read(&rest);
                let (now, later) = frame.split_at(cut.unwrap_or(frame.len()));
                self.read(now);
                self.rest = later.to_vec();
            }
            10 => self.pass(Duration::from_millis(dice.u16().into())),
            11 => self.pass(Duration::from_micros(dice.u16().into())),
            12 | 13 => self.transmit(usize::MAX),
            14 => self.transmit(dice.u16().into()),
            15 | 16 => {
                self.take_request(dice.u8() > 20);
            }
            17 | 18 => self.finish_handler(dice),
            HANDLERS_STREAMS => self.use_handlers_streams(dice),
            20 | 21 => self.call(dice),
            CALLERS_STREAMS => self.use_callers_streams(dice),
            23 => self.poll_calls(),
            24 => {
                if let Some(index) = dice.index(self.calls.len()) {
                    let call = self.calls.swap_remove(index);
                    self.abandon(call);
                }
            }
            25 => {
                let barrier = self.conn.start_barrier(self.now);
                self.barriers.push(barrier);
                let flush = self.conn.start_flush();
                self.flushes.push(flush);
            }
            26 => match dice.u8() {
                0..=9 => self.conn.handle_eof(self.now),
                10..=19 => self.conn.handle_lost("lost", None, self.now),
                20..=29 => {
                    let offered = self.output.len();
                    self.conn
                        .handle_write_failed(offered, io::ErrorKind::BrokenPipe.into(), self.now);
                }
                30..=49 => self.conn.close(self.now),
                50..=69 => self.conn.abort_calls(self.now),
                70..=99 => {
                    let time = Duration::from_millis(dice.u16().into());
                    self.conn.begin_drain(Reason::Drain, "drain", time, self.now);
                }
                100..=109 => self.conn.leave(self.now),
                _ => self.poll_calls(),
            },
            27 => {
                if let Some(index) = dice.index(self.barriers.len()) {
                    let barrier = self.barriers.swap_remove(index);
                    self.conn.drop_barrier(&barrier);
                }
            }
            _ => self.poll_waiting(),
        }
        self.wake();
    }

    fn read(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.conn.is_closed() {
            return;
        }
        self.conn.handle_read(self.now);
        if self.is_input_ended {
            return;
        }
        self.input.extend_from_slice(bytes);
        let mut is_new = false;
        loop {
            let mut frame = Frame::default();
            match self.codec.decode_into(&mut self.input, &mut frame) {
                Ok(true) => {
                    is_new = true;
                    self.conn.handle_frame(&mut frame, self.now);
                }
                Ok(false) => {
                    if let Some(fragment) = self.codec.fragment(&self.input) {
                        if let Some(message) = self.conn.lend_message(&fragment) {
                            self.codec.place(fragment, message, &mut self.input);
                        }
                    }
                    let rest = self.codec.rest(&self.input);
                    self.conn.handle_rest(rest, is_new, self.now);
                    break;
                }
                Err(error) => {
                    self.input.clear();
                    self.is_input_ended = true;
                    self.conn.handle_bad_frame(&error, self.now);
                    break;
                }
            }
        }
    }

    /// Writes the output like the driver; the OS takes at most `window` bytes.
    fn transmit(&mut self, window: usize) {
        if self.conn.is_closed() {
            return;
        }
        self.conn.poll_transmit(&mut self.output, 256 << 10, self.now);
        let n = self.output.len().min(window);
        let bytes = self.output.copy_to_bytes(n);
        self.written.check(&bytes);
        self.conn.handle_written(n, self.now);
    }

    /// Lets time pass, and fires each timer when it is due.
    fn pass(&mut self, time: Time) {
        let end = self.now + time;
        for _ in 0..10_000 {
            let Some(next) = self.conn.poll_timeout().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.conn.handle_timeout(self.now);
            let next = self.conn.poll_timeout();
            assert!(
                self.conn.is_closed() || next.is_none_or(|next| next > self.now),
                "a timer fires again at the same time"
            );
            self.wake();
            if self.conn.is_closed() {
                self.now = end;
                return;
            }
        }
        panic!("more than 10,000 timers fired");
    }

    /// Takes a request; returns false if there is none.
    fn take_request(&mut self, start: bool) -> bool {
        let Poll::Ready(Some(arrived)) = poll(|cx| self.conn.poll_request(cx)) else {
            return false;
        };
        let started = start && self.conn.started(arrived.id, self.now).is_ok();
        if start && !started {
            self.conn.end(arrived.id, End::Dropped, self.now);
        } else {
            self.handlers.push(OpenHandler { arrived, started });
        }
        true
    }

    fn finish_handler(&mut self, dice: &mut Dice<'_>) {
        let Some(index) = dice.index(self.handlers.len()) else {
            return;
        };
        let OpenHandler { arrived, started } = self.handlers.swap_remove(index);
        let status = Status::new(Code::NotFound, "not found");
        let end = match dice.u8() % 4 {
            _ if !started => End::Refused {
                status: &status,
                reason: RefusalReason::UnknownProcedure,
            },
            0 => End::Failed(&status),
            1 => End::Dropped,
            2 if arrived.one_way => return self.conn.handled(arrived.id, self.now),
            _ => {
                let len = usize::from(dice.u16()) * usize::from(dice.u8() % 8);
                if poll(|cx| self.conn.poll_room(arrived.id, len, cx)).is_pending() {
                    return self.handlers.push(OpenHandler { arrived, started });
                }
                return self.conn.reply(arrived.id, &vec![1_u8; len], self.now);
            }
        };
        self.conn.end(arrived.id, end, self.now);
    }

    fn use_handlers_streams(&mut self, dice: &mut Dice<'_>) {
        let Some(index) = dice.index(self.handlers.len()) else {
            return;
        };
        let OpenHandler { arrived, started } = &self.handlers[index];
        if *started && !arrived.one_way {
            let id = arrived.id;
            let is_added = self.use_stream(id, dice);
            let (is_broken, room) = (dice.u8() > 250, dice.u16());
            if is_added {
                return;
            }
            if is_broken {
                self.conn
                    .break_stream(id, Status::new(Code::Internal, "broken"), self.now);
            }
            let _ = poll(|cx| self.conn.poll_unwanted(id, cx));
            let _ = poll(|cx| self.conn.poll_room(id, room.into(), cx));
        }
    }

    /// Returns true if it has added messages to a frame of the output, which may be leased from now on.
    fn use_stream(&mut self, id: CallId, dice: &mut Dice<'_>) -> bool {
        let now = self.now;
        let way = dice.u8() % 8;
        if !matches!(way, 3..=5) {
            self.conn.end_lease();
        }
        match way {
            0..=2 => {
                let mut ahead = VecDeque::new();
                let is_ahead = dice.bool().then_some(&mut ahead);
                let next = poll(|cx| self.conn.poll_message(id, is_ahead, now, cx));
                if let Poll::Ready(Next::Message(first)) = next {
                    ahead.push_front(first);
                    ahead.into_iter().for_each(|item| self.read_item(item));
                }
            }
            3..=5 => {
                let message = vec![2_u8; dice.u16().into()];
                // As senders do, perhaps of several messages; the long way may find the same frame.
                let mut messages = 1 + message.len() % 5;
                let is_quick = message.len() % 3 > 0;
                while messages > 0 && is_quick && self.conn.add_on_lease(id, &message) {
                    messages -= 1;
                }
                if messages == 0 {
                    return true;
                }
                self.conn.end_lease();
                let sent = poll(|cx| self.conn.poll_data(id, &message, now, cx));
                if let Poll::Ready(Err(Unsent::Over(Some(_)))) = sent {
                    // Its caller has the failure now.
                    for call in self.calls.iter_mut().filter(|call| call.id == Some(id)) {
                        call.over = true;
                    }
                }
            }
            6 => {
                let _ = poll(|cx| self.conn.poll_unsendable(id, cx));
            }
            _ => self.conn.finish_data(id, now),
        }
        false
    }

    /// Reads a message of a stream, or a row of them, as a reader does.
    fn read_item(&self, item: Encoded) {
        let is_row = item.is_row();
        let (len, encoding) = (item.len(), item.encoding());
        assert!(
            !is_row || (1..=MAX_ROW as u64).contains(&len) || encoding != 0,
            "a row of {len} bytes"
        );
        let mut unread = Unread::new(self.settings.max_message, Budget::new(None, 0));
        let mut next = Some(unread.begin::<Vec<u8>>(item));
        let mut count = 0;
        while let Some(message) = next {
            count += 1;
            match message {
                Err(DecodeFailure::Row(_) | DecodeFailure::TooLong { .. }) if encoding == 0 => {
                    panic!("the connection has let a bad row pass")
                }
                // Its reader ends here.
                Err(_) => return,
                Ok(_) => next = unread.next(),
            }
        }
        assert!(is_row || count == 1, "one message became {count}");
    }

    fn call(&mut self, dice: &mut Dice<'_>) {
        let kind = dice.u8();
        let mut call = OpenCall {
            ticket: Ticket::default(),
            shape: match kind % 8 {
                0 => Shape::RequestStream,
                1 => Shape::ReplyStream,
                2 => Shape::Both,
                _ => Shape::default(),
            },
            one_way: kind % 8 > 5,
            control: kind > 240,
            deadline: dice
                .bool()
                .then(|| self.now + Duration::from_millis(dice.u16().into())),
            message: vec![3; usize::from(dice.u16()) * usize::from(dice.u8() % 5)],
            id: None,
            over: false,
        };
        if call.one_way && !call.control && call.deadline.is_none() {
            call.over = self.conn.join_send(&JOINING, &call.message);
        }
        self.poll_call(&mut call);
        self.calls.push(call);
    }

    fn poll_call(&mut self, call: &mut OpenCall) {
        if call.over {
            return;
        }
        let request = Request {
            procedure: if call.control { CONTROL } else { ECHO },
            control: call.control,
            deadline: call.deadline,
            shape: call.shape,
            priority: Priority::Normal,
            ..Request::default()
        };
        let now = self.now;
        let conn = &mut self.conn;
        if call.one_way {
            let sent = poll(|cx| conn.poll_send(&mut call.ticket, &request, &call.message, now, cx));
            call.over = sent.is_ready();
            return;
        }
        if call.id.is_none() {
            match poll(|cx| conn.poll_call(&mut call.ticket, &request, &call.message, now, cx)) {
                Poll::Ready(Ok(id)) => call.id = Some(id),
                Poll::Ready(Err(_)) => call.over = true,
                Poll::Pending => {}
            }
        }
        if let Some(id) = call.id.filter(|_| !call.over) {
            call.over = poll(|cx| conn.poll_reply(id, cx)).is_ready();
        }
    }

    fn poll_calls(&mut self) {
        for mut call in std::mem::take(&mut self.calls) {
            self.poll_call(&mut call);
            if call.over {
                self.abandon(call);
            } else {
                self.calls.push(call);
            }
        }
    }

    fn use_callers_streams(&mut self, dice: &mut Dice<'_>) {
        let Some(index) = dice.index(self.calls.len()) else {
            return;
        };
        let call = &self.calls[index];
        let has_stream = call.shape != Shape::Unary && !call.over;
        if let Some(id) = call.id.filter(|_| has_stream) {
            self.use_stream(id, dice);
        }
    }

    fn abandon(&mut self, mut call: OpenCall) {
        self.conn.drop_ticket(&mut call.ticket);
        // A call with streams is dropped even after its outcome.
        if let Some(id) = call.id.filter(|_| !call.over || call.shape != Shape::Unary) {
            self.conn.drop_call(id, self.now);
        }
    }

    fn poll_waiting(&mut self) {
        let conn = &mut self.conn;
        self.barriers
            .retain(|barrier| poll(|cx| conn.poll_barrier(barrier, cx)).is_pending());
        self.flushes
            .retain(|flush| poll(|cx| conn.poll_flush(flush, cx)).is_pending());
        let _ = poll(|cx| conn.poll_ready(cx));
        let _ = poll(|cx| conn.poll_drained(cx));
        let _ = poll(|cx| conn.poll_draining(cx));
    }

    fn wake(&mut self) {
        let mut wakers = Vec::new();
        self.conn.take_wakers(&mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Checks that the connection holds no more than it announced.
    fn check(&self) {
        let settings = &self.settings;
        let held = self.conn.held_bytes();
        let most = settings.max_message + 1024;
        assert!(held.replies <= settings.inbox_bytes + most, "{held:?}");
        assert!(held.calls <= settings.call_bytes + most, "{held:?}");
        let output = (settings.high_water + 2 * settings.max_message as usize) as u64 + ERRORS;
        assert!(held.output <= output, "{held:?}");
    }

    /// Ends everything, and checks that nothing is left.
    fn end(mut self) {
        self.conn.end_lease();
        self.conn.handle_lost("the end", None, self.now);
        self.wake();
        self.poll_waiting();
        for mut call in std::mem::take(&mut self.calls) {
            self.poll_call(&mut call);
            assert!(call.over, "a call has no outcome after the end of its connection");
            self.abandon(call);
        }
        for barrier in std::mem::take(&mut self.barriers) {
            self.conn.drop_barrier(&barrier);
        }
        // One-way requests that were read still run.
        while self.take_request(true) {}
        for OpenHandler { arrived, .. } in std::mem::take(&mut self.handlers) {
            self.conn.end(arrived.id, End::Dropped, self.now);
        }
        self.conn.abort_calls(self.now);
        for _ in 0..100 {
            let Some(next) = self.conn.poll_timeout() else {
                break;
            };
            self.now = self.now.max(next);
            self.conn.handle_timeout(self.now);
        }
        self.wake();
        assert_eq!(self.conn.leftovers(), Vec::<&str>::new());
    }
}

/// A one-way request as its caller first tries to send it.
const JOINING: JoiningSend = JoiningSend {
    procedure: ECHO,
    timeout: None,
    priority: Priority::Normal,
};
/// The steps that use a stream of a handler, and of a caller.
const HANDLERS_STREAMS: u8 = 19;
const CALLERS_STREAMS: u8 = 22;

/// Maximum length of the replies to refused requests, in bytes; the budget for faults of the peer limits them.
const ERRORS: u64 = 4 << 20;

fn poll<R>(f: impl FnOnce(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
    f(&mut Context::from_waker(Waker::noop()))
}
