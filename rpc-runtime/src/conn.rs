//! Connection: the protocol of one connection as a plain state machine.
//!
//! It has no IO, no tasks and no clock: frames, commands and the time come in; frames to write, wakers to wake and
//! the next timer come out. The driver and the callers share one behind a lock (`crate::driver::Link`).
//!
//! What the driver does stands here; what callers do is in `caller`, what handlers do in `handler`, what a drain does
//! in `drain`. Frames come in by `receive`, which leaves the peer's requests to `intake` and its replies to `outcome`.

mod assembly;
mod caller;
mod end;
mod faults;
mod handler;
mod health;
mod holdings;
mod ids;
#[cfg(any(test, fuzzing))]
mod leftovers;
mod load;
pub(crate) mod memory;
mod ours;
mod outbox;
mod peer;
mod receive;
mod settings;
mod streaming;
mod streams;
mod table;
#[cfg(test)]
mod tests;
mod theirs;
mod types;
mod wakers;

use std::{io, sync::Arc, task::Waker};

use bytes::BytesMut;

pub(crate) use self::settings::Settings;
pub(crate) use self::theirs::intake::MEMORY_SHORT;
pub(crate) use self::types::{
    Arrived, Barrier, CallId, Cause, Cut, End, Failure, Flush, News, Next, PeerGoaway, PeerHello, Reply,
    Request, Shape, Side, State, Tally, Ticket, Time, Uncovered, Unsent, Unstarted, Unwanted,
};
use self::{
    end::{Closing, Life, Lifecycle},
    health::Health,
    holdings::Holdings,
    ours::{Ours, calls::Reach, credit::charge},
    outbox::{Outbox, backlog::Rooms, write_stall::Stall},
    peer::Peer,
    streams::Streams,
    theirs::{Theirs, requests::Stage},
    wakers::Wakes,
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
    /// Shared by all connections of one client or server.
    settings: Arc<Settings>,
    peer: Peer,
    end: Lifecycle,
    outbox: Outbox,
    ours: Ours,
    theirs: Theirs,
    streams: Streams,
    health: Health,
    holdings: Holdings,
    wakes: Wakes,
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

impl Connection {
    /// A connection whose HELLO is ready to be written.
    pub(crate) fn new(side: Side, settings: impl Into<Arc<Settings>>) -> Self {
        let settings = settings.into();
        let mut connection = Self {
            side,
            peer: Peer::new(settings.max_faults),
            end: Lifecycle::new(),
            outbox: Outbox::new(),
            ours: Ours::new(side),
            theirs: Theirs::new(&settings),
            streams: Streams::default(),
            health: Health::default(),
            holdings: Holdings::new(&settings),
            wakes: Wakes::default(),
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
            if self.end.drain.is_some() {
                self.finish_if_idle(now);
            }
        }
    }

    /// Lends the message that a fragment belongs to, with room for it, so that the fragment is read to its end: the frame
    /// brings it back.
    pub(crate) fn lend_message(&mut self, fragment: &Fragment) -> Option<BytesMut> {
        let (id, budget) = (fragment.id, &self.holdings.ahead);
        let assembly = if self.side.gives(id) {
            self.ours.calls.assembly(id)
        } else {
            self.theirs.requests.assembly(id)
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
            _ if self.peer.hello.is_none() => self.reject_hello(error.to_string(), Reach::Output, now),
            _ => self.protocol_error(error.to_string(), now),
        }
    }

    /// The peer has half-closed.
    pub(crate) fn handle_eof(&mut self, now: Time) {
        let cause = match &self.end.life {
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
        if self.outbox.blocked {
            self.health.keep_alive.written(now);
        }
        let had = self.backlog().rooms();
        self.take(n);
        if self
            .outbox
            .stall
            .as_ref()
            .is_some_and(|stall| stall.is_over(self.outbox.taken))
        {
            self.outbox.stall = Stall::begin(self.outbox.taken, self.outbox.out.end(), now);
        }
        self.output_shrank(had);
        self.linger_if_written(now);
        self.note_held_if_much();
    }

    /// Behind what is with the OS, the stream holds `n` bytes that it has not flushed: it may have passed them on.
    pub(crate) fn note_unflushed(&mut self, n: usize) {
        self.outbox.reached = self
            .outbox
            .taken
            .saturating_add(n as u64)
            .min(self.outbox.out.end());
    }

    /// A write failed, or a flush: `offered` bytes were given to the stream that are not known to be with the OS. For what may
    /// have been executed, all of them count as taken (R8); for a flush, none.
    pub(crate) fn handle_write_failed(&mut self, offered: usize, source: io::Error, now: Time) {
        self.note_unflushed(offered);
        let cause = match &self.end.life {
            Life::Closing(closing) => closing.cause.clone(),
            // It said why it goes.
            _ if self.peer.goaway.is_some() => self.cause_of_eof(),
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
        if self.health.keep_alive.read(now, self.ours.calls.last_id()) {
            self.wakes.waiters.closed.wake(&mut self.wakes.woken);
        }
        self.theirs.requests.note_read();
        self.ours.calls.note_read();
        self.streams.waiting_at_read = self.held().messages;
    }

    /// Counts `n` bytes as taken by the OS.
    fn take(&mut self, n: usize) {
        self.outbox.taken = self
            .outbox
            .taken
            .saturating_add(n as u64)
            .min(self.outbox.out.end());
        self.ours.sends.taken(self.outbox.taken);
        while self
            .ours
            .flushing
            .front()
            .is_some_and(|&(_, end)| end <= self.outbox.taken)
        {
            self.ours.flushing.pop_front();
        }
        if let Some(others) = &mut self.wakes.waiters.others {
            others.flush.wake(&mut self.wakes.woken);
        }
    }

    /// Sees to it that others are called if those who were called do not come: a task need not poll what it was woken for.
    fn note_room(&mut self, now: Time) {
        let is_due = !self.outbox.room.is_empty() && self.outbox.room.would_call(&self.backlog().rooms());
        // Not put off by whatever else goes out.
        let at = self
            .outbox
            .call_again_at
            .unwrap_or_else(|| now.saturating_add(CALL_AGAIN));
        self.outbox.call_again_at = is_due.then_some(at);
    }

    /// Some of the output is gone: lets in who waits for room, unless there was as much before.
    fn output_shrank(&mut self, had: Rooms) {
        if self.backlog().rooms().has_more(&had) {
            self.ours.lines.note_more();
            self.outbox.room.note_more();
            self.theirs.requests.takers.wake(&mut self.wakes.woken);
            self.put_withdrawn();
        }
    }
}

/// What the driver takes.
impl Connection {
    /// Moves what is to be written next to the end of `out`, until `out` holds about `limit` bytes.
    pub(crate) fn poll_transmit(&mut self, out: &mut Output, limit: usize, now: Time) {
        if matches!(self.end.life, Life::Closed(_)) {
            return;
        }
        let had = self.backlog().rooms();
        self.outbox.blocked = self.outbox.taken < self.outbox.out.end() - self.outbox.out.len() as u64;
        self.outbox.batch.note(self.outbox.taken, self.outbox.blocked);
        if !self.outbox.bulk.is_empty() {
            self.note_use(now);
        }
        self.put_control_frames(now);
        out.append(&mut self.outbox.out);
        while out.len() < limit {
            let Some(room) = self.fragment_room() else { break };
            self.put_fragment(room, now);
            out.append(&mut self.outbox.out);
        }
        // A barrier's ping follows the fragments that were just put.
        self.put_pings(now);
        out.append(&mut self.outbox.out);
        if self.outbox.stall.is_none() {
            self.outbox.stall = Stall::begin(self.outbox.taken, self.outbox.out.end(), now);
        }
        self.output_shrank(had);
        self.note_room(now);
        self.finish_if_idle(now);
        out.append(&mut self.outbox.out);
        self.linger_if_written(now);
        self.note_held_if_much();
    }

    /// Whether `poll_transmit` would give anything.
    pub(crate) fn wants_write(&self) -> bool {
        match self.end.life {
            Life::Closed(_) => false,
            Life::Closing(_) => !self.outbox.out.is_empty(),
            _ => !self.outbox.out.is_empty() || self.fragment_room().is_some() || self.owes_control_frames(),
        }
    }

    /// Whether `poll_transmit` would do anything.
    pub(crate) fn wants_transmit(&self) -> bool {
        self.outbox.taken < self.outbox.out.end() || self.wants_write()
    }

    /// Whether so much waits for the driver that the replies of further handlers would find no room.
    #[inline]
    pub(crate) fn is_to_write_first(&self) -> bool {
        self.outbox.out.len() as u64 >= self.outbox.batch.len()
    }

    /// When `handle_timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next_timer()
    }

    /// Whether `take_wakers` may give anybody.
    #[inline]
    pub(crate) fn wants_to_wake(&self) -> bool {
        !self.wakes.woken.is_empty()
            || self.ours.lines.has_news()
            || self.outbox.room.has_news()
            || self.theirs.requests.has_released()
    }

    /// Moves out everybody who is to be woken.
    pub(crate) fn take_wakers(&mut self, into: &mut Vec<Waker>) {
        if self.ours.lines.has_news() || self.outbox.room.has_news() {
            self.wake_waiting();
        }
        if self.theirs.requests.has_released() {
            self.theirs.requests.wake_takers(&mut self.wakes.woken);
        }
        self.wakes.woken.move_to(into);
    }

    /// Whether the driver should half-close its writing, once everything is written.
    pub(crate) fn wants_shutdown(&self) -> bool {
        matches!(self.end.life, Life::Closing(_)) && self.outbox.out.is_empty()
    }

    /// Why this side has ended the connection, if the peer is to blame.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.end.cut
    }

    /// Whether the driver is to drop the transport now.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.end.life, Life::Closed(_))
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
        self.put_goaway(Reason::Protocol, self.theirs.requests.last_id(), &text);
        self.begin_closing(Cause::Protocol { text }, Reach::Output, self.soon(now), now);
    }

    /// The peer made us refuse too much.
    fn excess(&mut self, text: String, now: Time) {
        if !self.is_live() {
            return;
        }
        self.note_cut(Cut::Excess);
        self.put_goaway(Reason::Excess, self.theirs.requests.last_id(), &text);
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
        if !self.peer.abuse.count() {
            self.excess(format!("too many faults, the last: {what}"), now);
        }
    }

    /// An empty frame is a fault, and some of them in a row are too many.
    #[cold]
    fn empty_frame(&mut self, what: &str, now: Time) {
        self.fault(|counts| &counts.empty_frames, what, now);
        if !self.peer.abuse.count_empty() {
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
        if self.holdings.share.is_told() || self.unwritten() >= Share::STEP {
            self.note_held();
        }
    }

    /// How many bytes wait to be written.
    #[inline]
    fn unwritten(&self) -> u64 {
        self.outbox.out.end() - self.outbox.taken + self.outbox.bulk.len() as u64
    }

    /// How many bytes of the peer's are held here, with what is charged for each message.
    #[inline]
    fn unread(&self) -> u64 {
        let streams = self.held();
        self.theirs.requests.all_kept().bytes + streams.bytes + charge(0) * streams.messages as u64
    }

    /// Tells how much the connection holds, if that has changed much.
    fn note_held(&mut self) {
        let unwritten = match self.is_closed() {
            true => 0,
            false => self.unwritten(),
        };
        let held = self.unread() + unwritten;
        self.holdings
            .share
            .hold(held.saturating_add(self.outbox.room.bytes()));
    }

    /// Whether no further calls are to be taken in here: this connection holds more than its part of the memory.
    #[inline]
    pub(crate) fn lacks_memory(&self) -> bool {
        self.holdings.share.is_large()
    }

    /// Whether that much is replies alone, so that those which were taken in are not to start either.
    #[cold]
    fn replies_hold_much(&self) -> bool {
        let replies = self.unwritten().saturating_add(self.outbox.room.bytes());
        replies > 0 && self.settings.memory.is_large(replies)
    }

    /// This side ends the connection because of what the peer did or did not do. The first reason counts.
    pub(crate) fn note_cut(&mut self, cut: Cut) {
        if self.end.cut.is_none() {
            cut.count(&self.settings.counts).add();
            self.end.cut = Some(cut);
        }
    }

    /// Starts nothing more: what is in the output is still written until `until`, then the peer may end its side.
    fn begin_closing(&mut self, cause: Cause, reach: Reach, until: Time, now: Time) {
        if !self.is_live() {
            return;
        }
        self.fail_all(&cause, reach);
        self.end.life = Life::Closing(Closing {
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
        let is_next = matches!(&self.end.life, Life::Closing(closing) if !closing.lingering);
        if !is_next || self.outbox.taken < self.outbox.out.end() {
            return;
        }
        let soon = self.soon(now);
        let patient = self.drain_until().filter(|_| self.outbox.blocked);
        let until = match self.hard_limit() {
            Some(limit) => limit.min(soon),
            None => patient.map_or(soon, |until| until.max(soon)),
        };
        if let Life::Closing(closing) = &mut self.end.life {
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
        self.ours.sends.taken(self.outbox.reached);
        if self.is_live() {
            self.fail_all(&cause, Reach::Taken);
        } else {
            // What was in the output when it began to close may have been written since, or never was.
            self.ours.sends.lost(Reach::Taken, std::iter::empty());
        }
        self.end.life = Life::Closed(cause);
        self.outbox.stall = None;
        drop(self.outbox.out.split_to(self.outbox.out.len()));
        self.outbox.out.release();
        self.ours.calls.release();
        self.theirs.requests.release();
        self.wakes.waiters.closed.wake(&mut self.wakes.woken);
        if let Some(others) = &mut self.wakes.waiters.others {
            others.flush.wake(&mut self.wakes.woken);
        }
        self.set_check(now);
        self.note_held();
    }

    /// Completes everything that is pending, exactly once (R1). One-way requests that were read still run.
    fn fail_all(&mut self, cause: &Cause, reach: Reach) {
        let taken = self.outbox.taken.max(self.outbox.reached);
        self.ours
            .calls
            .fail_all(cause, taken, reach, &mut self.wakes.woken);
        self.ours.sends.lost(reach, self.outbox.bulk.sends());
        self.ours.flushing.clear();
        self.ours.unflushed = self.outbox.bulk.first_request();
        self.outbox.bulk.clear();
        self.ours.cancels.clear();
        self.streams.owing = Vec::new();
        self.ours.lines.clear_all(&mut self.wakes.woken);
        self.outbox.room.clear(&mut self.wakes.woken);
        self.ours.barriers.wake_all(&mut self.wakes.woken);
        let others = self.wakes.waiters.others();
        for waiters in [
            &mut others.ready,
            &mut others.flush,
            &mut others.drained,
            &mut self.theirs.requests.takers,
        ] {
            waiters.wake(&mut self.wakes.woken);
        }
        for id in self.theirs.requests.select(|_| true) {
            self.disconnect_request(id);
        }
        self.theirs.requests.forget_withdrawn();
    }

    /// The peer is gone: its calls are dropped, unfinished ones and those whose handler was not polled at once.
    fn disconnect_request(&mut self, id: u64) {
        let Some(request) = self.theirs.requests.get(id) else {
            return;
        };
        match request.stage {
            Stage::Receiving(_) | Stage::Discarding(_) | Stage::Withdrawn(_) => {
                drop(self.theirs.requests.remove(id))
            }
            Stage::Queued(_) if !request.one_way => drop(self.theirs.requests.remove(id)),
            Stage::Taken | Stage::Running(_) if !request.one_way => {
                self.theirs
                    .requests
                    .unwant(id, Unwanted::Disconnected, &mut self.wakes.woken);
            }
            Stage::Queued(_) | Stage::Taken | Stage::Running(_) => {}
        }
    }

    /// What an end of file means that nobody here has asked for.
    fn cause_of_eof(&self) -> Cause {
        let is_wanted = self.is_closing_own() && self.is_done_calling() && !self.ours.sends.is_in_doubt();
        let Some(goaway) = &self.peer.goaway else {
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
        matches!(self.end.life, Life::Handshaking | Life::Open)
    }

    /// Why nothing more can happen here, once that is so.
    fn end_cause(&self) -> Option<&Cause> {
        match &self.end.life {
            Life::Handshaking | Life::Open => None,
            Life::Closing(closing) => Some(&closing.cause),
            Life::Closed(cause) => Some(cause),
        }
    }
}
