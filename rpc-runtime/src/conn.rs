//! Connection: the protocol of one connection as a plain state machine.
//!
//! It has no IO, no tasks and no clock: frames, commands and the time come in; frames to write, wakers to wake and
//! the next timer come out. The driver and the callers share one behind a lock (`crate::driver::Link`).
//!
//! What the driver does stands here; what callers do is in `caller`, what handlers do in `handler`, what a drain does
//! in `drain`. Frames come in by `receive`, which leaves the peer's requests to `intake` and its replies to `outcome`.

mod account;
mod age;
mod backlog;
mod bulk;
mod caller;
mod calls;
mod credit;
mod drain;
mod fragments;
mod gate;
mod handler;
mod ids;
mod intake;
mod keep_alive;
#[cfg(any(test, fuzzing))]
mod leftovers;
mod lines;
mod load;
pub(crate) mod memory;
mod outcome;
mod pace;
mod queue;
mod receive;
mod refusal;
mod requests;
mod room;
mod sends;
mod settings;
mod settling;
mod slow;
mod stream;
mod streaming;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod transmit;
mod turns;
mod types;
mod wakers;

use std::{collections::VecDeque, io, sync::Arc, task::Waker};

use bytes::BytesMut;

pub(crate) use self::intake::MEMORY_SHORT;
pub(crate) use self::stream::Shape;
pub(crate) use self::types::{
    Arrived, Barrier, CallId, Cause, Cut, End, Failure, Flush, News, Next, PeerGoaway, PeerHello, Reply,
    Request, Settings, Side, State, Tally, Ticket, Time, Uncovered, Unsent, Unstarted, Unwanted,
};
use self::{
    account::Account,
    backlog::{Batch, Rooms},
    bulk::Bulk,
    calls::{Calls, Reach},
    credit::{Abuse, Credit, charge},
    drain::Drain,
    fragments::Ahead,
    keep_alive::{Barriers, KeepAlive},
    lines::Lines,
    pace::Pace,
    requests::{Requests, Stage},
    room::Room,
    sends::Sends,
    slow::Slow,
    timers::Stall,
    wakers::{Waiters, Woken},
};
use crate::{
    api::counters::{Count, Counts},
    conn::memory::Share,
    wire::{
        codec::{CodecError, Fragment},
        frame::{
            Frame, Output,
            control::{DropReason, Reason},
        },
    },
};

/// One side of the protocol, without sockets, clocks or tasks.
///
/// The driver, after each input: moves `take_wakers` out and wakes them when the lock is free, writes what
/// `poll_transmit` gives, re-arms its timer from `poll_timeout`. Time never goes backwards.
///
/// ```text
/// Handshaking -> Open -> Closing -> Closed
///      \-----------\---------\------> Closed
/// ```
#[derive(Debug)]
pub(crate) struct Connection {
    side: Side,
    /// Those of all connections of one client or server.
    settings: Arc<Settings>,
    life: Life,
    /// What the peer announced.
    hello: Option<PeerHello>,

    /// Encoded, and not yet moved to the driver. All bytes of the stream pass through it, so its end is the end of
    /// the stream.
    out: Output,
    /// How much of the stream is with the OS.
    taken: u64,
    /// How much of the stream may be with the OS, if that is more: a write of it has failed, or a stream that buffers has it.
    reached: u64,
    /// Whether the OS did not take all that it was offered, so that it says something of the peer when it takes more.
    blocked: bool,
    bulk: Bulk,
    batch: Batch,
    pace: Pace,
    /// Where the last fragment ends that is in the output.
    fragment_end: u64,
    stall: Option<Stall>,
    /// What the peer has begun.
    slow: Slow,

    credit: Credit,
    calls: Calls,
    sends: Sends,
    lines: Lines,
    /// Who waits for less output, and has its turn already.
    room: Room,
    /// When others are called than those who did not come.
    call_again_at: Option<Time>,
    /// Calls that were given up before CANCEL may be sent, which is after the peer's HELLO.
    cancels: Vec<u64>,
    /// How many messages of streams waited when bytes were read last.
    waiting_at_read: usize,
    /// Streams of which half a window or more was taken, so that the peer gets credit.
    owing: Vec<u64>,
    /// Requests in fragments whose last one is in the output and not yet with the OS: what a flush waits for.
    flushing: VecDeque<(u64, u64)>,
    /// The first request whose fragments were lost with the connection.
    unflushed: Option<u64>,
    barriers: Barriers,

    requests: Requests,
    ahead: Ahead,
    account: Account,
    abuse: Abuse,
    /// What is held of what all connections may hold.
    share: Share,
    /// Why this side has ended the connection, if the peer is to blame.
    cut: Option<Cut>,

    keep_alive: KeepAlive,
    /// Boxed, for few connections are at their end.
    drain: Option<Box<Drain>>,
    goaway: Option<Box<PeerGoaway>>,
    tally: Tally,
    /// When something of a user went one way or the other.
    last_used: Time,
    /// No deadline of a caller, a call or a request passes before this.
    check_at: Option<Time>,

    woken: Woken,
    waiters: Waiting,
}

/// Who was called because there is room has so long to come before others are called.
const CALL_AGAIN: Time = Time::from_millis(5);

/// Which counter a fault of the peer belongs to.
type FaultKind = fn(&Counts) -> &Count;

/// Which counter a request belongs to that is not taken for this reason; none if that says nothing of the peer or of a limit.
fn refused_kind(reason: DropReason, one_way: bool) -> Option<FaultKind> {
    match reason {
        DropReason::UnknownProcedure => Some(|counts| &counts.unknown_procedures),
        DropReason::BadPayload => Some(|counts| &counts.malformed_messages),
        DropReason::Overload if one_way => Some(|counts| &counts.sends_refused),
        DropReason::Overload => Some(|counts| &counts.calls_refused),
        DropReason::Draining | DropReason::Aborted => None,
    }
}

/// Where the connection stands, with what is true only there.
#[derive(Debug)]
enum Life {
    /// The peer's HELLO is not here.
    Handshaking,
    /// Frames go both ways.
    Open,
    /// Nothing new goes out; what is in the output is written, then the peer is given time to do the same.
    Closing(Closing),
    /// It is over.
    Closed(Cause),
}

/// What is left to do before the connection is closed.
#[derive(Debug)]
struct Closing {
    cause: Cause,
    /// When it is closed, done or not.
    until: Time,
    /// Whether everything is written, so that only the peer's end of file is awaited.
    lingering: bool,
}

/// Those who wait for something that concerns the whole connection.
#[derive(Debug, Default)]
struct Waiting {
    closed: Waiters,
    /// None as long as nobody waits for any of these.
    others: Option<Box<Others>>,
}

#[derive(Debug, Default)]
struct Others {
    ready: Waiters,
    /// For all output to be taken.
    flush: Waiters,
    /// For this side to begin the connection's end.
    draining: Waiters,
    drained: Waiters,
}

impl Waiting {
    fn others(&mut self) -> &mut Others {
        self.others.get_or_insert_default()
    }

    /// Gives unused memory back.
    fn release(&mut self) {
        self.others.take_if(|others| others.is_empty());
    }
}

impl Others {
    fn is_empty(&self) -> bool {
        let all = [&self.ready, &self.flush, &self.draining, &self.drained];
        all.iter().all(|waiters| waiters.is_empty())
    }
}

impl Connection {
    /// A connection whose HELLO is ready to be written.
    pub(crate) fn new(side: Side, settings: impl Into<Arc<Settings>>) -> Self {
        let settings = settings.into();
        let mut connection = Self {
            side,
            life: Life::Handshaking,
            hello: None,
            out: Output::new(),
            taken: 0,
            reached: 0,
            blocked: false,
            bulk: Bulk::default(),
            batch: Batch::new(),
            pace: Pace::new(),
            fragment_end: 0,
            stall: None,
            slow: Slow::default(),
            credit: Credit::floor(),
            calls: Calls::new(side.first_id()),
            sends: Sends::default(),
            lines: Lines::new(),
            room: Room::default(),
            call_again_at: None,
            cancels: Vec::new(),
            waiting_at_read: 0,
            owing: Vec::new(),
            flushing: VecDeque::new(),
            unflushed: None,
            barriers: Barriers::default(),
            requests: Requests::new(&settings),
            ahead: Ahead::new(),
            account: Account::default(),
            abuse: Abuse::new(settings.max_faults),
            share: Share::new(Arc::clone(&settings.memory)),
            cut: None,
            keep_alive: KeepAlive::default(),
            drain: None,
            goaway: None,
            tally: Tally::default(),
            last_used: Time::ZERO,
            check_at: None,
            woken: Woken::default(),
            waiters: Waiting::default(),
            settings,
        };
        connection.put_hello();
        connection
    }
}

/// What the driver tells.
impl Connection {
    /// Takes in a frame of the peer.
    pub(crate) fn handle_frame(&mut self, frame: &mut Frame, now: Time) {
        if self.is_live() {
            self.note_frame(frame.kind, now);
            self.receive(frame, now);
            if self.drain.is_some() {
                self.finish_if_idle(now);
            }
        }
    }

    /// Lends the message that a fragment belongs to, with room for it, so that the fragment is read to its end: the frame
    /// brings it back.
    pub(crate) fn lend_message(&mut self, fragment: &Fragment) -> Option<BytesMut> {
        let (id, budget) = (fragment.id, &self.ahead);
        let assembly = if self.side.gives(id) {
            self.calls.assembly(id)
        } else {
            self.requests.assembly(id)
        };
        assembly?.lend(fragment.len, fragment.received, budget)
    }

    /// The peer sent what is no frame.
    pub(crate) fn handle_bad_frame(&mut self, error: &CodecError, now: Time) {
        if !self.is_live() {
            return;
        }
        match error {
            CodecError::Foreign(_) => self.reject_hello(error.to_string(), Reach::Nothing, now),
            _ if self.hello.is_none() => self.reject_hello(error.to_string(), Reach::Output, now),
            _ => self.protocol_error(error.to_string(), now),
        }
    }

    /// The peer has half-closed.
    pub(crate) fn handle_eof(&mut self, now: Time) {
        let cause = match &self.life {
            Life::Closing(closing) => closing.cause.clone(),
            _ => self.cause_of_eof(),
        };
        self.close_now(cause, now);
    }

    /// The transport failed: a read error, or the driver was dropped.
    pub(crate) fn handle_lost(&mut self, text: &str, source: Option<io::Error>, now: Time) {
        let cause = Cause::Lost {
            text: text.to_owned(),
            source: source.map(Arc::new),
        };
        self.close_now(cause, now);
    }

    /// `n` more bytes of what `poll_transmit` gave are with the OS.
    pub(crate) fn handle_written(&mut self, n: usize, now: Time) {
        if self.blocked {
            self.keep_alive.written(now);
        }
        let had = self.backlog().rooms();
        self.take(n);
        if self.stall.as_ref().is_some_and(|stall| stall.is_over(self.taken)) {
            self.stall = Stall::begin(self.taken, self.out.end(), now);
        }
        self.output_shrank(had);
        self.linger_if_written(now);
        self.note_held_if_much();
    }

    /// Behind what is with the OS, the stream holds `n` bytes that it has not flushed: it may have passed them on.
    pub(crate) fn note_unflushed(&mut self, n: usize) {
        self.reached = self.taken.saturating_add(n as u64).min(self.out.end());
    }

    /// A write failed, or a flush: `offered` bytes were given to the stream that are not known to be with the OS. For what may
    /// have been executed, all of them count as taken (R8); for a flush, none.
    pub(crate) fn handle_write_failed(&mut self, offered: usize, source: io::Error, now: Time) {
        self.note_unflushed(offered);
        let cause = match &self.life {
            Life::Closing(closing) => closing.cause.clone(),
            // It said why it goes.
            _ if self.goaway.is_some() => self.cause_of_eof(),
            _ => Cause::Lost {
                text: "write failed".to_owned(),
                source: Some(Arc::new(source)),
            },
        };
        self.close_now(cause, now);
    }

    /// Time has passed: does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.run_timers(now);
        self.finish_if_idle(now);
        self.note_held();
    }

    /// Bytes arrived, whether or not they complete a frame (keep-alive).
    pub(crate) fn handle_read(&mut self, now: Time) {
        if self.keep_alive.read(now, self.calls.last_id()) {
            self.waiters.closed.wake(&mut self.woken);
        }
        self.requests.note_read();
        self.calls.note_read();
        self.waiting_at_read = self.held().messages;
    }

    /// Counts `n` bytes as taken by the OS.
    fn take(&mut self, n: usize) {
        self.taken = self.taken.saturating_add(n as u64).min(self.out.end());
        self.sends.taken(self.taken);
        while self.flushing.front().is_some_and(|&(_, end)| end <= self.taken) {
            self.flushing.pop_front();
        }
        if let Some(others) = &mut self.waiters.others {
            others.flush.wake(&mut self.woken);
        }
    }

    /// Sees to it that others are called if those who were called do not come: a task need not poll what it was woken for.
    fn note_room(&mut self, now: Time) {
        let is_due = !self.room.is_empty() && self.room.would_call(&self.backlog().rooms());
        // Not put off by whatever else goes out.
        let at = self
            .call_again_at
            .unwrap_or_else(|| now.saturating_add(CALL_AGAIN));
        self.call_again_at = is_due.then_some(at);
    }

    /// Some of the output is gone: lets in who waits for room, unless there was as much before.
    fn output_shrank(&mut self, had: Rooms) {
        if self.backlog().rooms().has_more(&had) {
            self.lines.note_more();
            self.room.note_more();
            self.requests.takers.wake(&mut self.woken);
            self.put_withdrawn();
        }
    }
}

/// What the driver takes.
impl Connection {
    /// Moves what is to be written next to the end of `out`, until `out` holds about `limit` bytes.
    pub(crate) fn poll_transmit(&mut self, out: &mut Output, limit: usize, now: Time) {
        if matches!(self.life, Life::Closed(_)) {
            return;
        }
        let had = self.backlog().rooms();
        self.blocked = self.taken < self.out.end() - self.out.len() as u64;
        self.batch.note(self.taken, self.blocked);
        if !self.bulk.is_empty() {
            self.note_use(now);
        }
        self.put_control_frames(now);
        out.append(&mut self.out);
        while out.len() < limit {
            let Some(room) = self.fragment_room() else { break };
            self.put_fragment(room, now);
            out.append(&mut self.out);
        }
        // A barrier's ping follows the fragments that were just put.
        self.put_pings(now);
        out.append(&mut self.out);
        if self.stall.is_none() {
            self.stall = Stall::begin(self.taken, self.out.end(), now);
        }
        self.output_shrank(had);
        self.note_room(now);
        self.finish_if_idle(now);
        out.append(&mut self.out);
        self.linger_if_written(now);
        self.note_held_if_much();
    }

    /// Whether `poll_transmit` would give anything.
    pub(crate) fn wants_write(&self) -> bool {
        match self.life {
            Life::Closed(_) => false,
            Life::Closing(_) => !self.out.is_empty(),
            _ => !self.out.is_empty() || self.fragment_room().is_some() || self.owes_control_frames(),
        }
    }

    /// Whether `poll_transmit` would do anything.
    pub(crate) fn wants_transmit(&self) -> bool {
        self.taken < self.out.end() || self.wants_write()
    }

    /// Whether so much waits for the driver that the replies of further handlers would find no room.
    #[inline]
    pub(crate) fn is_to_write_first(&self) -> bool {
        self.out.len() as u64 >= self.batch.len()
    }

    /// When `handle_timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next_timer()
    }

    /// Whether `take_wakers` may give anybody.
    #[inline]
    pub(crate) fn wants_to_wake(&self) -> bool {
        !self.woken.is_empty()
            || self.lines.has_news()
            || self.room.has_news()
            || self.requests.has_released()
    }

    /// Moves out everybody who is to be woken.
    pub(crate) fn take_wakers(&mut self, into: &mut Vec<Waker>) {
        if self.lines.has_news() || self.room.has_news() {
            self.wake_waiting();
        }
        if self.requests.has_released() {
            self.requests.wake_takers(&mut self.woken);
        }
        self.woken.move_to(into);
    }

    /// Whether the driver should half-close its writing, once everything is written.
    pub(crate) fn wants_shutdown(&self) -> bool {
        matches!(self.life, Life::Closing(_)) && self.out.is_empty()
    }

    /// Why this side has ended the connection, if the peer is to blame.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Whether the driver is to drop the transport now.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.life, Life::Closed(_))
    }
}

/// The end.
impl Connection {
    /// The peer broke the protocol.
    fn protocol_error(&mut self, text: String, now: Time) {
        if !self.is_live() {
            return;
        }
        self.note_cut(Cut::Protocol);
        self.put_goaway(Reason::Protocol, self.requests.last_id(), &text);
        self.begin_closing(Cause::Protocol { text }, Reach::Output, self.soon(now), now);
    }

    /// The peer made us refuse too much.
    fn excess(&mut self, text: String, now: Time) {
        if !self.is_live() {
            return;
        }
        self.note_cut(Cut::Excess);
        self.put_goaway(Reason::Excess, self.requests.last_id(), &text);
        self.begin_closing(Cause::Protocol { text }, Reach::Output, self.soon(now), now);
    }

    /// The peer's part of the handshake is not acceptable.
    fn reject_hello(&mut self, text: String, reach: Reach, now: Time) {
        if !self.is_live() {
            return;
        }
        self.note_cut(Cut::HandshakeRejected);
        self.put_goaway(Reason::HelloRejected, 0, &text);
        self.begin_closing(Cause::HelloRejected { text }, reach, self.soon(now), now);
    }

    /// Counts a fault of the peer that the connection survives, unless it is one too many.
    fn fault(&mut self, kind: FaultKind, what: &str, now: Time) {
        kind(&self.settings.counts).add();
        if !self.abuse.count() {
            self.excess(format!("too many faults, the last: {what}"), now);
        }
    }

    /// An empty frame is a fault, and some of them in a row are too many.
    #[cold]
    fn empty_frame(&mut self, what: &str, now: Time) {
        self.fault(|counts| &counts.empty_frames, what, now);
        if !self.abuse.count_empty() {
            self.excess(format!("too many empty frames in a row, the last: {what}"), now);
        }
    }

    /// Counts that a request is not taken for this reason, which is no fault of the peer's.
    fn count_refused(&self, reason: DropReason, one_way: bool) {
        if let Some(kind) = refused_kind(reason, one_way) {
            kind(&self.settings.counts).add();
        }
    }

    /// Tells how much the connection holds, if it is known to hold much, or has much to write.
    #[inline(always)]
    fn note_held_if_much(&mut self) {
        if self.share.is_told() || self.unwritten() >= Share::STEP {
            self.note_held();
        }
    }

    /// How many bytes wait to be written.
    #[inline]
    fn unwritten(&self) -> u64 {
        self.out.end() - self.taken + self.bulk.len() as u64
    }

    /// How many bytes of the peer's are held here, with what is charged for each message.
    #[inline]
    fn unread(&self) -> u64 {
        let streams = self.held();
        self.requests.all_kept().bytes + streams.bytes + charge(0) * streams.messages as u64
    }

    /// Tells how much the connection holds, if that has changed much.
    fn note_held(&mut self) {
        let unwritten = match self.is_closed() {
            true => 0,
            false => self.unwritten(),
        };
        let held = self.unread() + unwritten;
        self.share.hold(held.saturating_add(self.room.bytes()));
    }

    /// Whether no further calls are to be taken in here: this connection holds more than its part of the memory.
    #[inline]
    pub(crate) fn lacks_memory(&self) -> bool {
        self.share.is_large()
    }

    /// Whether that much is replies alone, so that those which were taken in are not to start either.
    #[cold]
    fn replies_hold_much(&self) -> bool {
        let replies = self.unwritten().saturating_add(self.room.bytes());
        replies > 0 && self.settings.memory.is_large(replies)
    }

    /// This side ends the connection because of what the peer did or did not do. The first reason counts.
    pub(crate) fn note_cut(&mut self, cut: Cut) {
        if self.cut.is_none() {
            cut.count(&self.settings.counts).add();
            self.cut = Some(cut);
        }
    }

    /// Starts nothing more: what is in the output is still written until `until`, then the peer may end its side.
    fn begin_closing(&mut self, cause: Cause, reach: Reach, until: Time, now: Time) {
        if !self.is_live() {
            return;
        }
        self.fail_all(&cause, reach);
        self.life = Life::Closing(Closing {
            cause,
            until,
            lingering: false,
        });
        self.linger_if_written(now);
    }

    /// Waits for the peer's end of file as soon as everything is written.
    ///
    /// What is written lies with the OS of the peer, which keeps it however long the peer takes to read it. If the OS here
    /// did not take it all at once, that one is full and the rest still lies here, from where a peer that writes before
    /// it has read all destroys it once this side is closed. So it is waited for as long as the drain allows.
    fn linger_if_written(&mut self, now: Time) {
        let is_next = matches!(&self.life, Life::Closing(closing) if !closing.lingering);
        if !is_next || self.taken < self.out.end() {
            return;
        }
        let soon = self.soon(now);
        let patient = self.drain_until().filter(|_| self.blocked);
        let until = match self.hard_limit() {
            Some(limit) => limit.min(soon),
            None => patient.map_or(soon, |until| until.max(soon)),
        };
        if let Life::Closing(closing) = &mut self.life {
            closing.lingering = true;
            closing.until = until;
        }
    }

    /// When the peer has had time enough for the little that is left to do.
    fn soon(&self, now: Time) -> Time {
        now.saturating_add(self.settings.linger)
    }

    /// Ends the connection: nothing is written or read any more.
    fn close_now(&mut self, cause: Cause, now: Time) {
        if self.is_closed() {
            return;
        }
        self.sends.taken(self.reached);
        if self.is_live() {
            self.fail_all(&cause, Reach::Taken);
        } else {
            // What was in the output when it began to close may have been written since, or never was.
            self.sends.lost(Reach::Taken, std::iter::empty());
        }
        self.life = Life::Closed(cause);
        self.stall = None;
        drop(self.out.split_to(self.out.len()));
        self.out.release();
        self.calls.release();
        self.requests.release();
        self.waiters.closed.wake(&mut self.woken);
        if let Some(others) = &mut self.waiters.others {
            others.flush.wake(&mut self.woken);
        }
        self.set_check(now);
        self.note_held();
    }

    /// Completes everything that is pending, exactly once (R1). One-way requests that were read still run.
    fn fail_all(&mut self, cause: &Cause, reach: Reach) {
        let taken = self.taken.max(self.reached);
        self.calls.fail_all(cause, taken, reach, &mut self.woken);
        self.sends.lost(reach, self.bulk.sends());
        self.flushing.clear();
        self.unflushed = self.bulk.first_request();
        self.bulk.clear();
        self.cancels.clear();
        self.owing = Vec::new();
        self.lines.clear_all(&mut self.woken);
        self.room.clear(&mut self.woken);
        self.barriers.wake_all(&mut self.woken);
        let others = self.waiters.others();
        for waiters in [
            &mut others.ready,
            &mut others.flush,
            &mut others.drained,
            &mut self.requests.takers,
        ] {
            waiters.wake(&mut self.woken);
        }
        for id in self.requests.select(|_| true) {
            self.disconnect_request(id);
        }
        self.requests.forget_withdrawn();
    }

    /// The peer is gone: its calls are dropped, unfinished ones and those whose handler was not polled at once.
    fn disconnect_request(&mut self, id: u64) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        match request.stage {
            Stage::Receiving(_) | Stage::Discarding(_) | Stage::Withdrawn(_) => {
                drop(self.requests.remove(id))
            }
            Stage::Queued(_) if !request.one_way => drop(self.requests.remove(id)),
            Stage::Taken | Stage::Running(_) if !request.one_way => {
                self.requests.unwant(id, Unwanted::Disconnected, &mut self.woken);
            }
            Stage::Queued(_) | Stage::Taken | Stage::Running(_) => {}
        }
    }

    /// What an end of file means that nobody here has asked for.
    fn cause_of_eof(&self) -> Cause {
        let is_wanted = self.is_closing_own() && self.is_done_calling() && !self.sends.is_in_doubt();
        let Some(goaway) = &self.goaway else {
            return Cause::Lost {
                text: "peer closed the connection".to_owned(),
                source: None,
            };
        };
        match goaway.reason {
            Reason::Protocol => Cause::Protocol {
                text: format!("peer says: {}", goaway.text),
            },
            // Both wanted the end, and nothing is lost by it.
            Reason::Drain | Reason::MaxAge if is_wanted => Cause::Closed,
            Reason::Drain | Reason::MaxAge => Cause::Lost {
                text: "peer closed the connection at the end of its drain".to_owned(),
                source: None,
            },
            reason => Cause::GoingAway {
                reason,
                text: goaway.text.clone(),
            },
        }
    }

    /// Whether frames still matter.
    fn is_live(&self) -> bool {
        matches!(self.life, Life::Handshaking | Life::Open)
    }

    /// Why nothing more can happen here, once that is so.
    fn end_cause(&self) -> Option<&Cause> {
        match &self.life {
            Life::Handshaking | Life::Open => None,
            Life::Closing(closing) => Some(&closing.cause),
            Life::Closed(cause) => Some(cause),
        }
    }
}
