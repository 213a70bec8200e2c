//! Connection: the protocol of one connection as a plain state machine.
//!
//! It has no IO, no tasks and no clock: frames, commands and the time come in; frames to write, wakers to wake and
//! the next timer come out. The driver and the callers share one behind a lock (`crate::driver::SharedConnection`).
//!
//! Its state lies in parts, each with fields of its own that no other part sees: `outbox` (output, and which fragment of the long
//! messages is next), `ours` (calls that this side makes, and which waiting call is next), `theirs` (calls that it serves),
//! `streams`, `health` (whether the peer lives and keeps up), `end` (handshake, drain, age). Parts do not know of the connection:
//! they get what they need as arguments or as a [`step::Step`], and return what the peer did wrong. Two values look at several
//! parts: an [`either_call::EitherCall`] is a call of one side or the other, and an [`end::ending::Ending`] takes the steps to
//! the end.
//!
//! Three files put the parts together: this one for the driver, `caller` for callers, `handler` for handlers and the server.

mod assembly;
mod caller;
mod either_call;
mod end;
pub(crate) mod faults;
mod handler;
mod health;
mod ids;
mod inspected;
pub(crate) mod memory;
mod memory_held;
mod ours;
mod outbox;
mod peer;
mod received;
mod settings;
mod snapshot;
mod step;
mod streams;
mod table;
#[cfg(any(test, fuzzing))]
mod test_views;
#[cfg(test)]
mod tests;
mod theirs;
mod tuning;
mod types;
mod wakers;

use std::{io, sync::Arc, task::Waker};

use bytes::{Bytes, BytesMut};

pub(crate) use self::handler::TakenRequests;
pub(crate) use self::settings::{BUSY_POLL, Settings};
pub(crate) use self::snapshot::{CallSnapshot, Called, ConnectionSnapshot, LimitUse};
pub(crate) use self::theirs::{DRAINING, MEMORY_SHORT};
pub(crate) use self::types::{
    Arrived, ArrivedRow, Barrier, CallFailure, CallId, Cause, Cut, End, Flush, JoiningSend, News, Next,
    PeerGoaway, PeerHello, ReceivedReply, RefusalReason, Request, Shape, Side, State, Tally, Ticket, Time,
    Uncovered, Unsent, Unstarted, Unwanted, micros,
};
use self::{
    either_call::EitherCall,
    end::{EndState, LifeStage, drain_state::Drain},
    health::{Health, Slowness},
    memory_held::Holdings,
    ours::Ours,
    outbox::{Outbox, remainders::MessageKind},
    peer::PeerState,
    step::Violation,
    streams::{StreamTotals, inbox::InboxUse},
    theirs::Theirs,
    types::{Reach, earlier, earliest},
    wakers::{WaitingFor, WakeList},
};
use crate::{
    metrics::{ConnectionMeters, EndLabel, Traffic},
    wire::{
        codec::{CodecError, Fragment, Rest},
        frame::{Frame, Output, control::Reason},
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
    peer: PeerState,
    end: EndState,
    outbox: Outbox,
    ours: Ours,
    theirs: Theirs,
    streams: StreamTotals,
    health: Health,
    holdings: Holdings,
    wakes: WakeList,
    /// Where the bytes are counted; none if they are not.
    traffic: Option<&'static Traffic>,
    /// How many bytes came.
    received: u64,
}

impl Connection {
    /// A connection whose HELLO is ready to be written.
    pub(crate) fn new(side: Side, settings: impl Into<Arc<Settings>>) -> Self {
        Self::with_challenge(side, settings, Bytes::new())
    }

    /// A connection whose HELLO asks the peer to answer `challenge` if it sends a terminate.
    pub(crate) fn with_challenge(side: Side, settings: impl Into<Arc<Settings>>, challenge: Bytes) -> Self {
        let settings = settings.into();
        let mut outbox = Outbox::new(&settings);
        outbox.put_hello(&settings, challenge);
        Self {
            side,
            peer: PeerState::new(settings.max_faults),
            end: EndState::new(),
            outbox,
            ours: Ours::new(side),
            theirs: Theirs::new(&settings),
            streams: StreamTotals::default(),
            health: Health::default(),
            holdings: Holdings::new(&settings),
            wakes: WakeList::default(),
            traffic: None,
            received: 0,
            settings,
        }
    }

    /// Counts by `meters` from now on. It is called before anything happens on the connection.
    pub(crate) fn measure(&mut self, meters: ConnectionMeters) {
        let ConnectionMeters {
            served,
            sends,
            traffic,
        } = meters;
        self.theirs.measure(served);
        self.ours.measure(sends);
        self.traffic = traffic;
    }
}

/// What the driver tells.
impl Connection {
    /// Takes in a frame of the peer.
    pub(crate) fn handle_frame(&mut self, frame: &mut Frame, now: Time) {
        if self.end.is_live() {
            self.health.note_frame(frame.kind, now);
            self.receive(frame, now);
            self.let_in_if_room();
            if self.end.is_draining() {
                self.finish_if_idle(now);
            }
        }
    }

    /// Lends the message that a fragment belongs to, with room for it, so that the codec reads the fragment to its end there:
    /// the frame brings it back.
    pub(crate) fn lend_message(&mut self, fragment: &Fragment) -> Option<BytesMut> {
        let budget = self.holdings.buffers();
        let call = EitherCall::new(self.side, fragment.id, &mut self.ours, &mut self.theirs);
        call.assembly()?.lend(fragment.len, fragment.received, budget)
    }

    /// Ends the connection: the peer sent what is no frame.
    pub(crate) fn handle_bad_frame(&mut self, error: &CodecError, now: Time) {
        if !self.end.is_live() {
            return;
        }
        match error {
            CodecError::Foreign(_) => self.ending(now).reject_hello(error.to_string(), Reach::Nothing),
            _ if self.peer.hello().is_none() => {
                self.ending(now).reject_hello(error.to_string(), Reach::Output)
            }
            _ => self.ending(now).violation(Violation::Protocol(error.to_string())),
        }
    }

    /// Ends the connection: the peer has half-closed.
    pub(crate) fn handle_eof(&mut self, now: Time) {
        let cause = self.ending(now).cause_of_eof();
        self.close_now(cause, now);
    }

    /// Ends the connection: the transport failed by a read error, or the driver was dropped.
    pub(crate) fn handle_lost(&mut self, text: &str, source: Option<io::Error>, now: Time) {
        let cause = Cause::Lost {
            text: text.to_owned(),
            source: source.map(Arc::new),
        };
        self.close_now(cause, now);
    }

    /// Notes that the OS has `n` more bytes of what `poll_transmit` gave.
    pub(crate) fn handle_written(&mut self, n: usize, now: Time) {
        if self.outbox.is_blocked() {
            self.health.written(now);
        }
        let had = self.outbox.rooms();
        self.outbox.take(n, now);
        self.ours.taken(self.outbox.taken());
        self.ours.count_sent();
        self.wakes.wake(WaitingFor::Flush);
        self.outbox.note_rooms(had);
        self.let_in_if_room();
        self.end.linger_if_written(&self.outbox, &self.settings, now);
        self.note_held_if_much();
    }

    /// Notes that the stream holds `n` bytes behind what the OS has: it may have passed them on.
    pub(crate) fn note_unflushed(&mut self, n: usize) {
        self.outbox.note_unflushed(n);
    }

    /// Ends the connection: a write or a flush failed. `offered` bytes were given to the stream that the OS may have. For
    /// what may have been executed, all of them count as taken (R8); for a flush, none.
    pub(crate) fn handle_write_failed(&mut self, offered: usize, source: io::Error, now: Time) {
        self.note_unflushed(offered);
        let is_explained = self.end.closing().is_some() || self.peer.goaway().is_some();
        let cause = match is_explained {
            true => self.ending(now).cause_of_eof(),
            false => Cause::Lost {
                text: "write failed".to_owned(),
                source: Some(Arc::new(source)),
            },
        };
        self.close_now(cause, now);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.run_timers(now);
        self.let_in_if_room();
        self.finish_if_idle(now);
        self.note_held();
    }

    /// Ends everything whose deadline has passed: for timers of others, beside the driver's.
    pub(crate) fn handle_deadlines(&mut self, now: Time) {
        if self.wakes.check_at().is_some_and(|at| at <= now) {
            self.health.note_timer(self.poll_timeout(), now);
            self.check_deadlines(now);
            self.let_in_if_room();
        }
    }

    /// Counts `n` bytes that arrived.
    #[inline]
    pub(crate) fn note_received(&mut self, n: usize) {
        self.received += n as u64;
    }

    /// Notes that bytes arrived, whether or not they complete a frame (keep-alive).
    pub(crate) fn handle_read(&mut self, now: Time) {
        if self.health.read(now, self.ours.last_id()) {
            self.wakes.wake(WaitingFor::Closed);
        }
        self.theirs.note_read();
        self.ours.note_read();
        let messages = self.held().messages;
        self.streams.note_read(messages);
    }

    /// Notes which frame has begun behind the whole ones that were taken in, if any; it is a new one unless none was whole.
    pub(crate) fn handle_rest(&mut self, rest: Option<Rest>, is_new: bool, now: Time) {
        self.health.set_begun_frame(rest, is_new, now);
        let unread = Holdings::unread(&self.ours, &self.theirs);
        if self.holdings.is_worth_reporting(unread) {
            self.note_held();
        }
    }

    /// Lets waiters for room go on, if there is more room.
    #[inline(always)]
    fn let_in_if_room(&mut self) {
        if self.outbox.take_more_room() {
            self.let_in();
        }
    }

    fn let_in(&mut self) {
        self.ours.queues_mut().note_more();
        self.theirs.wake_takers(self.wakes.woken());
        self.theirs.put_withdrawn(&mut self.outbox, &mut self.wakes);
    }
}

/// What the driver takes.
impl Connection {
    /// Moves what is to be written next to the end of `out`, until `out` holds about `limit` bytes.
    pub(crate) fn poll_transmit(&mut self, out: &mut Output, limit: usize, now: Time) {
        if self.end.is_closed() || self.is_silent() {
            return;
        }
        let had = self.outbox.rooms();
        self.outbox.begin_transmit();
        if !self.outbox.remainders().is_empty() {
            self.health.note_use(now);
        }
        self.put_control_frames(now);
        self.outbox.move_to(out);
        while out.len() < limit {
            let Some(room) = self.outbox.fragment_room() else {
                break;
            };
            self.put_fragment(room, now);
            self.outbox.move_to(out);
        }
        // A barrier's ping follows the fragments that were just put.
        self.put_pings(now);
        self.outbox.move_to(out);
        self.outbox.watch_stall(now);
        self.outbox.note_rooms(had);
        self.let_in_if_room();
        self.outbox.arm_wake_again(now);
        self.finish_if_idle(now);
        self.outbox.move_to(out);
        self.end.linger_if_written(&self.outbox, &self.settings, now);
        self.note_held_if_much();
    }

    /// True if `poll_transmit` would give anything.
    pub(crate) fn wants_write(&self) -> bool {
        match self.end.stage() {
            LifeStage::Closed(_) => false,
            LifeStage::Closing(_) => !self.outbox.is_empty(),
            LifeStage::Handshaking if self.is_silent() => false,
            _ => {
                !self.outbox.is_empty() || self.outbox.fragment_room().is_some() || self.owes_control_frames()
            }
        }
    }

    /// True if `poll_transmit` would do anything.
    pub(crate) fn wants_transmit(&self) -> bool {
        (!self.outbox.is_taken() && !self.is_silent()) || self.wants_write()
    }

    /// True while this side writes nothing: it has accepted the peer, which has not said that it speaks this protocol.
    #[inline]
    fn is_silent(&self) -> bool {
        self.side == Side::Acceptor && self.end.is_handshaking()
    }

    /// True if the peer is likely to send something: a client may call again, and a server has to answer.
    #[inline]
    pub(crate) fn expects_input(&self) -> bool {
        self.side == Side::Acceptor || !self.ours.is_empty()
    }

    /// How long its task may look at its socket again before it sleeps; zero for never.
    pub(crate) fn busy_poll(&self) -> Time {
        self.settings.busy_poll
    }

    /// True if the output is so long that replies of further handlers would find no room.
    #[inline]
    pub(crate) fn is_to_write_first(&self) -> bool {
        self.outbox.is_to_write_first()
    }

    /// When `handle_timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let own = match self.end.stage() {
            // The handlers of one-way requests may outlive the connection.
            LifeStage::Closed(_) => return self.wakes.check_at(),
            LifeStage::Closing(closing) => Some(closing.until),
            LifeStage::Handshaking => Some(self.health.handshake_due(&self.settings)),
            LifeStage::Open => earliest([
                self.keep_alive_due(),
                self.barrier_due(),
                self.end.drain().and_then(Drain::due),
                self.age_due(),
            ]),
        };
        let own = match self.slow_due() {
            Some(due) => earlier(own, Some(due)),
            None => own,
        };
        earliest([
            own,
            self.wakes.check_at(),
            self.health
                .death_due(&self.outbox, self.holdings.are_large(), &self.settings),
            self.outbox.wake_again_at(),
        ])
    }

    /// When the earliest deadline passes, or one that was the earliest.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.wakes.check_at()
    }

    /// True if `take_wakers` may give a waker.
    #[inline]
    pub(crate) fn wants_to_wake(&self) -> bool {
        !self.wakes.is_empty()
            || self.ours.queues().has_news()
            || self.outbox.waiters().has_news()
            || self.theirs.has_released()
    }

    /// Moves out all wakers that are to be woken.
    pub(crate) fn take_wakers(&mut self, into: &mut Vec<Waker>) {
        if self.ours.queues().has_news() || self.outbox.waiters().has_news() {
            self.wake_waiting();
        }
        if self.theirs.has_released() {
            self.theirs.wake_released(self.wakes.woken());
        }
        self.wakes.move_to(into);
    }

    /// Wakes the callers and the waiters for room that can go now.
    fn wake_waiting(&mut self) {
        self.ours.wake_callers(&self.outbox, self.wakes.woken());
        let had_long = self.outbox.waiters().long();
        self.outbox.wake_waiters(self.wakes.woken());
        let limit = tuning::LONG_REPLIES;
        if had_long >= limit && self.outbox.waiters().long() < limit {
            self.theirs.wake_takers(self.wakes.woken());
        }
    }

    /// True if the driver should half-close its writing, once everything is written.
    pub(crate) fn wants_shutdown(&self) -> bool {
        self.end.closing().is_some() && self.outbox.is_empty()
    }

    /// Why this side has ended the connection, if the peer is to blame.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.end.cut()
    }

    /// Notes that this side ends the connection because of what the peer did or did not do. The first reason counts.
    pub(crate) fn note_cut(&mut self, cut: Cut) {
        self.end.note_cut(cut, &self.settings);
    }

    /// Where the driver counts the bytes; none if it does not.
    pub(crate) fn traffic(&self) -> Option<&'static Traffic> {
        self.traffic
    }

    /// Why the connection has ended, for metrics.
    pub(crate) fn end_label(&self) -> EndLabel {
        if let Some(cut) = self.end.cut() {
            return cut.end_label();
        }
        let goaway = self.peer.goaway();
        let is_agreed = match self.end.cause() {
            Some(Cause::HelloRejected { .. }) => return EndLabel::HandshakeRejected,
            Some(Cause::Protocol { .. }) => return EndLabel::Protocol,
            Some(Cause::Closed) => true,
            // The peer had said that it goes.
            Some(Cause::Lost { source: None, .. }) => {
                goaway.is_some_and(|goaway| matches!(goaway.reason, Reason::Drain | Reason::MaxAge))
            }
            _ => false,
        };
        let is_drained = self.end.drain().is_some_and(|drain| drain.announced.is_some())
            || goaway.is_some_and(|goaway| goaway.drain > Time::ZERO);
        match (is_agreed, is_drained) {
            (true, true) => EndLabel::Drained,
            (true, false) => EndLabel::Closed,
            (false, _) => EndLabel::Lost,
        }
    }

    /// True if the driver is to drop the transport now.
    pub(crate) fn is_closed(&self) -> bool {
        self.end.is_closed()
    }
}

/// Frames about the connection itself.
impl Connection {
    /// Writes what was kept back until now: a PONG, credit, pings.
    fn put_control_frames(&mut self, now: Time) {
        if !self.may_put_control_frames() {
            return;
        }
        self.put_pong();
        if let Some(grant) = self.theirs.take_grant(&self.settings) {
            self.outbox.put_credit(0, grant);
        }
        if self.streams.is_owing() {
            self.put_stream_credit(now);
        }
        self.put_pings(now);
    }

    /// Answers the newest ping, if it is not answered yet.
    fn put_pong(&mut self) {
        if let Some(ping) = self.health.take_unanswered() {
            self.outbox.put_pong(ping, self.theirs.tell_account());
        }
    }

    /// Writes the credit that streams are owed.
    fn put_stream_credit(&mut self, now: Time) {
        for id in self.streams.take_owing() {
            let max_window = self.settings.max_stream_window;
            let spare = (self.settings.inbox_bytes / 2).saturating_sub(self.held().widened);
            let flow = self.call(id).flow();
            let grant = flow.and_then(|(flow, held)| flow.take_grant(held, max_window, spare, now));
            if let Some(grant) = grant {
                self.outbox.put_credit(id, grant);
            }
        }
    }

    /// True if `put_control_frames` would put anything, pings left out: those have timers.
    fn owes_control_frames(&self) -> bool {
        self.may_put_control_frames()
            && (self.health.owes_pong()
                || self.theirs.is_grant_due(&self.settings)
                || self.streams.is_owing())
    }

    /// True if a peer that asks for control frames may have more of them: one that does not read must not fill our memory.
    fn may_put_control_frames(&self) -> bool {
        // Remainders do not count: they may wait for a PONG themselves.
        self.end.is_open() && self.outbox.is_below_high_water()
    }

    /// Writes one ping for all that want one now, if the peer's floor allows it.
    fn put_pings(&mut self, now: Time) {
        if !self.end.is_open() || self.ping_allowed_at() > now {
            return;
        }
        let due = self.keep_alive_due().is_some_and(|due| due <= now);
        if due || self.ours.barriers_want_ping(&self.outbox) || self.wants_last_ping() {
            self.put_ping(now);
        }
    }

    /// Writes a ping, and lets all barriers use it whose sends are in the output; returns its number.
    fn put_ping(&mut self, now: Time) -> u64 {
        let ping = self.health.send_ping(now);
        self.ours.note_ping(ping, &self.outbox);
        self.outbox.put_ping(ping);
        ping
    }

    /// Writes the next fragment of the next message, in a frame of at most `max_frame` bytes.
    fn put_fragment(&mut self, max_frame: usize, now: Time) {
        let (finished, wants_ping) = self.outbox.put_fragment(max_frame, now);
        self.health.request_sent();
        let end = self.outbox.end();
        if wants_ping {
            let ping = self.put_ping(now);
            self.outbox.mark_fragment(ping, now);
        }
        let Some(finished) = finished else { return };
        match finished.kind {
            MessageKind::Reply => {}
            MessageKind::Data => self.data_finished(finished.id),
            MessageKind::Call | MessageKind::Send => {
                let is_send = finished.kind == MessageKind::Send;
                self.ours.finish_request(finished.id, is_send, end);
            }
        }
    }
}

/// Time.
impl Connection {
    fn run_timers(&mut self, now: Time) {
        self.health.note_timer(self.poll_timeout(), now);
        if self.wakes.check_at().is_some_and(|at| at <= now) {
            self.check_deadlines(now);
        }
        self.outbox.run_wake_again(now);
        match self.end.stage() {
            LifeStage::Closed(_) => return,
            LifeStage::Closing(closing) if closing.until <= now => {
                let cause = closing.cause.clone();
                return self.close_now(cause, now);
            }
            LifeStage::Handshaking if self.health.handshake_due(&self.settings) <= now => {
                return self.ending(now).time_out_handshake();
            }
            _ => {}
        }
        let holds_much = self.holdings.are_large();
        let death = self
            .health
            .find_death(&mut self.outbox, holds_much, &self.settings, now);
        if let Some((cut, text)) = death {
            self.note_cut(cut);
            return self.handle_lost(&text, None, now);
        }
        self.check_slow(now);
        self.run_age(now);
        self.run_drain(now);
        self.put_pings(now);
        self.release();
    }

    /// From when on a PING may go out.
    fn ping_allowed_at(&self) -> Time {
        self.health.ping_allowed_at(self.peer.ping_floor())
    }

    /// When a ping should go out because nothing was heard: the side that connected asks only while it waits for
    /// something, or may be called; the other always.
    fn keep_alive_due(&self) -> Option<Time> {
        let silence = self.settings.keep_alive?;
        let is_passive = self.side == Side::Connector && !self.settings.serves;
        if is_passive && !self.outbox.is_unwritten() && !self.ours.is_anything_outstanding() {
            return None;
        }
        self.health.ping_due_at(silence, self.peer.ping_floor())
    }

    /// When the ping of a barrier may go out: one that waits for fragments has no time, `poll_transmit` sees to it.
    fn barrier_due(&self) -> Option<Time> {
        let wants = self.ours.barriers_want_ping(&self.outbox) || self.wants_last_ping();
        wants.then(|| self.ping_allowed_at())
    }

    fn slow_due(&self) -> Option<Time> {
        match self.end.is_open() {
            true => self.health.slow_due(self.settings.slow_frame),
            false => None,
        }
    }

    /// Sends a peer away that does not go on with what it has begun.
    fn check_slow(&mut self, now: Time) {
        let time = self.settings.slow_frame;
        if self.slow_due().is_none_or(|due| due > now) {
            return;
        }
        let slowness = match self.health.slowness(time, now) {
            Slowness::Message(id) if !self.is_reading(id) => Slowness::None,
            slowness => slowness,
        };
        let last_id = self.theirs.last_id();
        match slowness.text(time) {
            Some(text) => self.ending(now).time_out(Cut::SlowFrame, last_id, text),
            None => {
                let ours = || self.ours.first_unfinished();
                let unfinished = self.theirs.first_unfinished().or_else(ours);
                self.health.fragments().restart(unfinished, now);
            }
        }
    }

    /// True if fragments of a message of call `id` are still kept.
    fn is_reading(&mut self, id: u64) -> bool {
        let assembly = self.call(id).assembly();
        assembly.is_some_and(|assembly| !assembly.is_discarded())
    }

    /// Gives memory back that a burst has left behind.
    fn release(&mut self) {
        self.ours.release();
        self.theirs.release();
        self.outbox.release();
        self.wakes.release();
    }
}

/// Memory.
impl Connection {
    /// What is held of all streams and replies.
    #[inline]
    fn held(&self) -> InboxUse {
        self.ours.held().and(self.theirs.held_in_streams())
    }

    /// Reports how much the connection holds, if it is known to hold much, or has much to write.
    #[inline(always)]
    fn note_held_if_much(&mut self) {
        if self.holdings.is_worth_reporting(self.outbox.unwritten()) {
            self.note_held();
        }
    }

    /// Reports how much the connection holds, if it has reported that it holds anything.
    #[inline(always)]
    fn note_held_if_reported(&mut self) {
        if self.holdings.is_reported() {
            self.note_held();
        }
    }

    /// Reports how much the connection holds, if that has changed much.
    fn note_held(&mut self) {
        let unread = Holdings::unread(&self.ours, &self.theirs);
        let waiting = self.ours.queues().bytes();
        self.holdings
            .report(unread + waiting, &self.outbox, self.end.is_closed());
    }

    /// True if no further calls are to be taken in here: this connection holds more than its part of the memory.
    #[inline]
    pub(crate) fn lacks_memory(&self) -> bool {
        self.holdings.lacks_memory()
    }
}
