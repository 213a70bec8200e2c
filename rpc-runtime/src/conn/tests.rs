//! Pair: two connections, two wires, and a clock that jumps.

mod age;
mod beyond_4_gib;
mod budgets;
mod calls;
mod compression;
mod credit;
mod deadlines;
mod drain;
mod farewell;
mod faults;
mod fragments;
mod handshake;
mod joining;
mod keep_alive;
mod loss;
mod pace;
mod packed_sends;
mod packing;
mod parts;
mod priorities;
mod rows;
mod running_rows;
mod schedules;
mod senders;
mod sends;
mod slow;
mod snapshots;
mod stream_faults;
mod stream_life;
mod stream_outcomes;
mod streams;
mod taking;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use tokio_util::codec::Decoder;

use super::{
    Arrived, CallFailure, CallId, Cause, Connection, End, Next, ReceivedReply, RefusalReason, Request,
    Settings, Shape, Side, State, Ticket, Time, Unsent, outbox::pacing::Pacing, streams::inbox::InboxUse,
    theirs::IntakeUse,
};
use crate::{
    Code, Executed, Metadata, Priority, Status,
    api::priority::Priorities,
    metrics::ServedProcedures,
    wire::{
        codec::FrameCodec,
        frame::{Flags, Frame, Header, Kind, Output, control::DropReason},
    },
};

/// The procedures of the tests; the last one is of the control service.
pub(super) const ECHO: u64 = 7;
pub(super) const CONTROL: u64 = 99;

pub(super) fn ms(millis: u64) -> Time {
    Duration::from_millis(millis)
}

pub(super) fn secs(secs: u64) -> Time {
    Duration::from_secs(secs)
}

pub(super) fn settings() -> Settings {
    Settings {
        metadata: Metadata::new(),
        max_frame: 144 << 10,
        max_message: 4 << 20,
        max_calls: 1024,
        call_bytes: 16 << 20,
        send_bytes: 4 << 20,
        inbox_bytes: 64 << 20,
        high_water: 1 << 20,
        max_waiting: 100,
        one_way_timeout: secs(30),
        handshake_timeout: secs(10),
        keep_alive: None,
        dead_after: secs(20),
        ping_floor: secs(10),
        slow_frame: secs(30),
        write_stall: secs(30),
        linger: secs(1),
        max_age: None,
        max_age_grace: secs(30),
        max_idle: None,
        random: 1 << 31,
        encodings: Vec::new(),
        instance_id: Bytes::from_static(b"instance"),
        software: "test".to_owned(),
        control: vec![CONTROL],
        stream_window: 64 << 10,
        max_stream_window: 8 << 20,
        serves: true,
        priorities: Priorities::default(),
        served: ServedProcedures::default(),
        is_metered: true,
        metadata_bytes: 4 << 20,
        decode_bytes: 32 << 20,
        max_faults: 1024,
        max_denials: 100,
        counts: Arc::default(),
        busy_poll: Time::ZERO,
        memory: Arc::default(),
    }
}

/// Notes that it was woken.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Polls with a waker that does nothing.
pub(super) fn poll<R>(f: impl FnOnce(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
    f(&mut Context::from_waker(Waker::noop()))
}

/// Polls what must be ready.
pub(super) fn ready<R>(f: impl FnOnce(&mut Context<'_>) -> Poll<R>) -> R {
    match poll(f) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("pending"),
    }
}

/// One side: a connection with a driver that the test moves by hand.
pub(super) struct Node {
    pub(super) conn: Connection,
    codec: FrameCodec,
    output: Output,
    input: BytesMut,
    /// Bytes on their way to the other side.
    pub(super) wire: BytesMut,
    /// How much of the output the OS takes; the test may stop it.
    pub(super) open_window: usize,
    shut: bool,
    eof_read: bool,
    /// All frames that were read.
    pub(super) seen: Vec<Frame>,
    /// Messages of rows that were read, and that the test has not looked at.
    unread: VecDeque<(CallId, Bytes)>,
}

impl Node {
    pub(super) fn new(side: Side, settings: Settings) -> Self {
        Self {
            codec: FrameCodec::new(settings.max_frame as usize),
            conn: Connection::new(side, settings),
            output: Output::new(),
            input: BytesMut::new(),
            wire: BytesMut::new(),
            open_window: usize::MAX,
            shut: false,
            eof_read: false,
            seen: Vec::new(),
            unread: VecDeque::new(),
        }
    }

    /// The connection as one who locks it finds it: no frame is leased any more.
    pub(super) fn lock(&mut self) -> &mut Connection {
        self.conn.end_lease();
        &mut self.conn
    }

    /// As the driver: moves output to the OS, as far as that takes it. True if anything happened.
    pub(super) fn transmit(&mut self, now: Time) -> bool {
        if self.lock().is_closed() {
            // The driver writes nothing more then: what is said of lost calls relies on it.
            return false;
        }
        self.conn.poll_transmit(&mut self.output, 256 * 1024, now);
        let n = self.output.len().min(self.open_window);
        if n > 0 {
            self.open_window -= if self.open_window == usize::MAX { 0 } else { n };
            let bytes = self.output.copy_to_bytes(n);
            self.wire.extend_from_slice(&bytes);
            self.conn.handle_written(n, now);
        }
        let shut = self.conn.wants_shutdown() && self.output.is_empty() && !self.shut;
        self.shut |= shut;
        self.wake();
        n > 0 || shut
    }

    /// As the driver: takes in bytes of the other side.
    pub(super) fn read(&mut self, bytes: &[u8], now: Time) {
        self.input.extend_from_slice(bytes);
        self.lock().handle_read(now);
        let mut is_new = false;
        loop {
            match self.codec.decode(&mut self.input) {
                Ok(Some(mut frame)) => {
                    is_new = true;
                    self.seen.push(frame.clone());
                    self.conn.handle_frame(&mut frame, now);
                }
                Ok(None) => {
                    if let Some(fragment) = self.codec.fragment(&self.input) {
                        if let Some(message) = self.conn.lend_message(&fragment) {
                            self.codec.place(fragment, message, &mut self.input);
                        }
                    }
                    let rest = self.codec.rest(&self.input);
                    self.conn.handle_rest(rest, is_new, now);
                    break;
                }
                Err(error) => {
                    self.input.clear();
                    self.conn.handle_bad_frame(&error, now);
                    break;
                }
            }
        }
        self.wake();
    }

    /// Takes in one frame that the other side never sent.
    pub(super) fn inject(&mut self, header: Header<'_>, payload: &[u8], now: Time) {
        let mut out = Output::new();
        header.encode_bytes(Bytes::copy_from_slice(payload), &mut out);
        let len = out.len();
        self.read(&out.copy_to_bytes(len), now);
    }

    /// Takes in a GOAWAY that the other side never sent.
    pub(super) fn inject_goaway(&mut self, last_id: u64, now: Time) {
        use crate::wire::frame::control::{Goaway, Reason};
        let goaway = Goaway {
            reason: Reason::Drain.number(),
            last_id,
            ..Goaway::default()
        };
        self.inject(Header::new(Kind::Goaway, 0), &goaway.encode_to_vec(), now);
    }

    pub(super) fn wake(&mut self) {
        let mut wakers = Vec::new();
        self.conn.take_wakers(&mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The kinds of all frames that were read.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.seen.iter().map(|frame| frame.kind).collect()
    }

    /// How many frames of a kind were read.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.seen.iter().filter(|frame| frame.kind == kind).count()
    }

    /// The last frame of a kind that was read.
    pub(super) fn last(&self, kind: Kind) -> &Frame {
        self.seen
            .iter()
            .rfind(|frame| frame.kind == kind)
            .expect("no such frame was read")
    }

    /// The next request, started.
    pub(super) fn accept(&mut self, now: Time) -> Arrived {
        let arrived = self.take();
        self.conn.started(arrived.id, now).expect("unwanted");
        arrived
    }

    /// The next request.
    pub(super) fn take(&mut self) -> Arrived {
        ready(|cx| self.conn.poll_request(cx)).expect("no more requests")
    }

    pub(super) fn has_request(&mut self) -> bool {
        match poll(|cx| self.conn.poll_request(cx)) {
            Poll::Ready(Some(arrived)) => panic!("took {arrived:?} by accident"),
            Poll::Ready(None) | Poll::Pending => false,
        }
    }

    pub(super) fn reply(&mut self, arrived: &Arrived, message: &[u8], now: Time) {
        self.conn.reply(arrived.id, &message.to_vec(), now);
    }

    pub(super) fn cause(&self) -> Cause {
        match self.conn.state() {
            State::Closed(cause) => cause,
            state => panic!("not closed but {state:?}"),
        }
    }
}

/// A call or a one-way request, as a caller's future makes it.
pub(super) struct Call {
    ticket: Ticket,
    pub(super) one_way: bool,
    pub(super) procedure: u64,
    pub(super) priority: Priority,
    pub(super) nested: bool,
    pub(super) deadline: Option<Time>,
    pub(super) metadata: Metadata,
    message: Vec<u8>,
    pub(super) id: Option<CallId>,
    pub(super) outcome: Option<Result<Vec<u8>, CallFailure>>,
    pub(super) reply: Option<ReceivedReply>,
    pub(super) flag: Arc<Flag>,
    pub(super) completions: usize,
}

impl Call {
    pub(super) fn new(message: impl Into<Vec<u8>>) -> Self {
        Self {
            ticket: Ticket::default(),
            one_way: false,
            procedure: ECHO,
            priority: Priority::Normal,
            nested: false,
            deadline: None,
            metadata: Metadata::new(),
            message: message.into(),
            id: None,
            outcome: None,
            reply: None,
            flag: Arc::default(),
            completions: 0,
        }
    }

    pub(super) fn send(message: impl Into<Vec<u8>>) -> Self {
        Self {
            one_way: true,
            ..Self::new(message)
        }
    }

    pub(super) fn control(message: impl Into<Vec<u8>>) -> Self {
        Self {
            procedure: CONTROL,
            ..Self::new(message)
        }
    }

    pub(super) fn deadline(mut self, deadline: Time) -> Self {
        self.deadline = Some(deadline);
        self
    }

    pub(super) fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// As the caller's future when it is polled; true once it has an outcome.
    pub(super) fn poll(&mut self, conn: &mut Connection, now: Time) -> bool {
        let waker = Waker::from(Arc::clone(&self.flag));
        let cx = &mut Context::from_waker(&waker);
        if self.outcome.is_some() {
            return true;
        }
        let request = Request {
            procedure: self.procedure,
            control: self.procedure == CONTROL,
            priority: self.priority,
            depth: u8::from(self.nested),
            deadline: self.deadline,
            metadata: Some(&self.metadata),
            ..Request::default()
        };
        if self.id.is_none() && self.one_way {
            if let Poll::Ready(result) = conn.poll_send(&mut self.ticket, &request, &self.message, now, cx) {
                self.complete(result.map(|()| Vec::new()));
            }
            return self.outcome.is_some();
        }
        if self.id.is_none() {
            match conn.poll_call(&mut self.ticket, &request, &self.message, now, cx) {
                Poll::Ready(Ok(id)) => self.id = Some(id),
                Poll::Ready(Err(failure)) => self.complete(Err(failure)),
                Poll::Pending => {}
            }
        }
        if let Some(id) = self.id {
            if let Poll::Ready(outcome) = conn.poll_reply(id, cx) {
                let outcome = outcome.map(|reply| {
                    // A random peer also sends what is no message.
                    let message = Vec::<u8>::decode(reply.payload.bytes().clone()).unwrap_or_default();
                    self.reply = Some(reply);
                    message
                });
                self.complete(outcome);
            }
        }
        self.outcome.is_some()
    }

    fn complete(&mut self, outcome: Result<Vec<u8>, CallFailure>) {
        self.outcome = Some(outcome);
        self.completions += 1;
    }

    /// As the caller's future when it is dropped.
    pub(super) fn abandon(mut self, conn: &mut Connection, now: Time) {
        conn.drop_ticket(&mut self.ticket);
        if let (Some(id), None) = (self.id, &self.outcome) {
            conn.drop_call(id, now);
        }
    }

    pub(super) fn is_waiting_in_queue(&self) -> bool {
        self.ticket.0.is_some()
    }

    pub(super) fn ok(&self) -> &[u8] {
        match &self.outcome {
            Some(Ok(message)) => message,
            other => panic!("no reply but {other:?}"),
        }
    }

    pub(super) fn failure(&self) -> &CallFailure {
        match &self.outcome {
            Some(Err(failure)) => failure,
            other => panic!("no failure but {other:?}"),
        }
    }

    pub(super) fn executed(&self) -> Executed {
        self.failure().executed
    }

    /// The status that the peer replied with, or what is wrong with its reply.
    pub(super) fn status(&self) -> &Status {
        match &self.failure().cause {
            Cause::Replied(status) | Cause::Broken(status) => status,
            cause => panic!("no reply but {cause:?}"),
        }
    }
}

/// Two connections with a wire in each direction.
pub(super) struct Pair {
    pub(super) client: Node,
    pub(super) server: Node,
    pub(super) now: Time,
}

impl Pair {
    /// A pair after its handshake.
    pub(super) fn new() -> Self {
        Self::with(settings(), settings())
    }

    pub(super) fn with(client: Settings, server: Settings) -> Self {
        let mut pair = Self::fresh(client, server);
        pair.settle();
        pair
    }

    /// A pair of which nothing was written.
    pub(super) fn fresh(client: Settings, server: Settings) -> Self {
        Self {
            client: Node::new(Side::Connector, client),
            server: Node::new(Side::Acceptor, server),
            now: Time::ZERO,
        }
    }

    /// Moves bytes until nothing moves any more.
    pub(super) fn settle(&mut self) {
        while self.turn() {}
    }

    /// Moves the bytes of one turn; true if anything moved.
    fn turn(&mut self) -> bool {
        let written = self.client.transmit(self.now) | self.server.transmit(self.now);
        let moved = written || !self.client.wire.is_empty() || !self.server.wire.is_empty();
        deliver(&mut self.client, &mut self.server, self.now);
        deliver(&mut self.server, &mut self.client, self.now);
        moved
    }

    /// Lets time pass, stopping at every timer.
    pub(super) fn advance(&mut self, time: Time) {
        let end = self.now + time;
        loop {
            self.settle();
            let timers = [self.client.conn.poll_timeout(), self.server.conn.poll_timeout()];
            let Some(next) = timers.into_iter().flatten().min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.fire();
        }
        self.now = end;
        self.settle();
    }

    /// Fires the timers that are due.
    pub(super) fn fire(&mut self) {
        for node in [&mut self.client, &mut self.server] {
            if node.conn.poll_timeout().is_some_and(|at| at <= self.now) {
                node.lock().handle_timeout(self.now);
                let next = node.conn.poll_timeout();
                assert!(
                    node.conn.is_closed() || next.is_none_or(|next| next > self.now),
                    "timer {next:?} fires again and again at {:?}",
                    self.now
                );
                node.wake();
            }
        }
    }

    /// Starts a request of the client.
    pub(super) fn start(&mut self, mut call: Call) -> Call {
        call.poll(&mut self.client.conn, self.now);
        self.client.wake();
        call
    }

    /// Starts a call of the client and lets it arrive.
    pub(super) fn call(&mut self, message: &[u8]) -> Call {
        let call = self.start(Call::new(message));
        self.settle();
        call
    }

    /// Polls a request of the client again.
    pub(super) fn poll(&mut self, call: &mut Call) -> bool {
        self.settle();
        let done = call.poll(&mut self.client.conn, self.now);
        self.client.wake();
        done
    }

    /// Takes the next request on the server and replies with its message.
    pub(super) fn echo(&mut self) {
        let arrived = self.server.accept(self.now);
        let message = Vec::<u8>::decode(arrived.payload.bytes().clone()).expect("request cannot be parsed");
        self.server.reply(&arrived, &message, self.now);
        self.settle();
    }

    /// Both tables are empty, and all slots and credit are where they belong.
    pub(super) fn assert_quiescent(&self) {
        for (us, peer) in [
            (&self.client.conn, &self.server.conn),
            (&self.server.conn, &self.client.conn),
        ] {
            assert_eq!(us.ours.calls().held(), (0, 0), "calls are left");
            assert_eq!(
                us.ours.credit().calls(),
                (0, 0),
                "slots or bytes of calls are used"
            );
            assert_eq!(
                us.theirs.requests().held(&us.settings),
                (0, 0, 0),
                "requests are left"
            );
            assert_eq!(us.held(), InboxUse::default(), "messages or windows are held");
            assert_eq!(us.theirs.requests().all_kept(), IntakeUse::default());
            assert_eq!(us.settings.memory.held(), 0, "memory is held");
            assert_eq!(us.open_requests(), 0);
            assert_eq!(us.running_handlers(), 0);
            let owed = i128::from(peer.settings.send_bytes) - us.ours.credit().send_balance();
            assert!(
                owed >= 0 && owed < i128::from(peer.settings.send_bytes / 2).max(1),
                "{owed} bytes are owed"
            );
        }
    }
}

fn deliver(from: &mut Node, to: &mut Node, now: Time) {
    if !from.wire.is_empty() {
        let bytes = from.wire.split();
        if !to.conn.is_closed() {
            to.read(&bytes, now);
        }
    }
    let ended = from.shut || from.conn.is_closed();
    if ended && !to.eof_read && !to.conn.is_closed() {
        to.eof_read = true;
        to.lock().handle_eof(now);
        to.wake();
    }
}

/// The header of a frame that a test makes by hand.
pub(super) fn header(kind: Kind, id: u64, flags: Flags) -> Header<'static> {
    let mut header = Header::new(kind, id);
    header.flags = flags;
    if matches!(kind, Kind::Call | Kind::Send) {
        header.procedure = ECHO;
    }
    header
}

pub(super) fn refused(status: &Status) -> End<'_> {
    End::Refused {
        status,
        reason: RefusalReason::UnknownProcedure,
    }
}

pub(super) fn status(code: Code, text: &str) -> Status {
    Status::new(code, text)
}
