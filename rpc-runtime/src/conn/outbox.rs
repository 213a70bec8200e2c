//! Outbox: what waits to be written, in which order it goes, and who waits for room.
//!
//! `open_frame` adds short messages to the last frame of the output; `backlog` says whether one more message has room; `remainders` holds what is left of long messages, and `rotation`
//! says which priority is next; `pacing` holds long messages back while short ones must not wait; `room_waiters` are the
//! tasks that wait for room; `write_stall` bounds how long the peer may take nothing.

pub(super) mod backlog;
mod frames;
pub(super) mod open_frame;
pub(super) mod pacing;
mod refusal;
pub(super) mod remainders;
pub(super) mod room_waiters;
pub(super) mod rotation;
mod write_stall;

use std::task::Context;

use self::{
    backlog::{Backlog, Rooms, WriteBatch},
    open_frame::{Added, OpenFrame},
    pacing::Pacing,
    remainders::{FinishedMessage, MessageKind, Remainders},
    room_waiters::RoomWaiters,
    write_stall::WriteStall,
};
use super::{
    Settings, Time,
    tuning::{FLOOR_FRAME, FRAGMENT, MAX_FRAME, PIECE, SHORT_MESSAGE, WAKE_AGAIN_AFTER},
    types::{UNFINISHED, charge},
    wakers::Woken,
};
use crate::{
    Priority,
    wire::frame::{Flags, Header, Kind, Output, Payload, Size},
};

/// What waits to be written, and the tasks that wait until there is less of it.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Encoded bytes that the driver has not taken yet. All bytes of the stream pass through it, so its end is the end of
    /// the stream.
    out: Output,
    /// How many bytes of the stream the OS has.
    taken: u64,
    /// How many bytes of the stream the OS may have, if that is more: a write failed, or a stream that buffers holds them.
    reached: u64,
    /// True if the OS took less than it was offered: if it takes more now, the peer has read something.
    blocked: bool,
    /// The longest frame that the peer reads; none before its HELLO.
    peer_max_frame: Option<u32>,
    /// The frame that was put last, if messages may be added to it while nothing stands behind it.
    open_frame: Option<OpenFrame>,
    remainders: Remainders,
    batch: WriteBatch,
    pacing: Pacing,
    /// Where the last fragment in the output ends.
    fragment_end: u64,
    stall: Option<WriteStall>,
    /// Tasks that wait for room and are next.
    waiters: RoomWaiters,
    /// When further waiters are woken, if those already woken never poll.
    wake_again_at: Option<Time>,
    /// True if there is more room than before, and the waiters were not looked at.
    has_more_room: bool,
    /// Copies of the settings of these names.
    high_water: u64,
    max_message: u64,
}

impl Outbox {
    /// Nothing waits.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            out: Output::new(),
            taken: 0,
            reached: 0,
            blocked: false,
            peer_max_frame: None,
            open_frame: None,
            remainders: Remainders::default(),
            batch: WriteBatch::new(),
            pacing: Pacing::new(),
            fragment_end: 0,
            stall: None,
            waiters: RoomWaiters::default(),
            wake_again_at: None,
            has_more_room: false,
            high_water: settings.high_water as u64,
            max_message: settings.max_message,
        }
    }

    /// Takes over the longest frame that the peer's HELLO announces.
    pub(super) fn accept_max_frame(&mut self, max_frame: u32) {
        self.peer_max_frame = Some(max_frame.min(MAX_FRAME));
    }

    /// The longest frame that may go out.
    pub(super) fn max_frame(&self) -> usize {
        self.peer_max_frame.unwrap_or(FLOOR_FRAME) as usize
    }
}

/// Encoding messages.
impl Outbox {
    /// Encodes a message, or its beginning if there is no room for all of it; returns where it ends.
    ///
    /// Returns [`UNFINISHED`] if fragments are to come. `last_used` is about now.
    #[inline]
    pub(super) fn put_message<P: Payload>(
        &mut self,
        mut header: Header<'_>,
        message: &P,
        size: Size,
        kind: MessageKind,
        priority: Priority,
        last_used: Time,
    ) -> u64 {
        if size.encoding != 0 {
            header.encoding = size.encoding;
            header.length = size.len as u64;
        }
        self.note_short(size.sent, last_used);
        // A frame that is no longer than a piece always fits, so most need no look at the backlog.
        let is_short = header.fits(size.sent, PIECE.min(self.max_frame()));
        if is_short || (size.sent <= FRAGMENT && header.fits(size.sent, self.frame_room(priority))) {
            header.encode(message, size.sent, &mut self.out);
            return self.out.end();
        }
        self.put_beginning(header, message, size, kind, priority)
    }

    /// Encodes a message of the stream of call `id`; returns what is charged for it, and where it ends.
    ///
    /// A short message joins the frame at the end of the output if that is of the same stream. Otherwise see
    /// [`Outbox::put_message`].
    #[inline]
    pub(super) fn put_data<P: Payload>(
        &mut self,
        id: u64,
        message: &P,
        size: Size,
        priority: Priority,
        last_used: Time,
    ) -> (u64, u64) {
        let is_plain = size.encoding == 0;
        if is_plain && self.is_open_for(id) {
            if let Some(added) = self.add_data(message, size.len, last_used) {
                return (added.charged, added.end);
            }
        }
        let (header, start) = (Header::new(Kind::Data, id), self.out.end());
        let end = self.put_message(header, message, size, MessageKind::Data, priority, last_used);
        if is_plain {
            self.leave_open(&header, size.len, start);
        }
        (charge(size.len as u64), end)
    }

    /// True if the frame at the end of the output is of the stream of call `id`, so that it may take more messages of that.
    #[inline]
    pub(super) fn is_open_for(&self, id: u64) -> bool {
        self.open_frame().is_some_and(|open| open.key().is_data(id))
    }

    /// Adds a message of `len` bytes to the frame at the end of the output, which is of the same stream; none if that takes no
    /// more.
    #[inline]
    pub(super) fn add_data<P: Payload>(&mut self, message: &P, len: usize, last_used: Time) -> Option<Added> {
        let added = self.add_to_frame(message, len);
        if added.is_some() {
            self.note_short(len, last_used);
        }
        added
    }

    /// Notes a message of `len` bytes on the wire: beside a long one, a short one must not wait.
    #[inline]
    fn note_short(&mut self, len: usize, last_used: Time) {
        if self.remainders.len() as u64 > self.high_water && len as u64 <= SHORT_MESSAGE {
            self.pacing.short(last_used);
        }
    }

    /// Encodes a message that does not go as a whole: the rest of it waits among other remainders.
    fn put_beginning<P: Payload>(
        &mut self,
        mut header: Header<'_>,
        message: &P,
        size: Size,
        kind: MessageKind,
        priority: Priority,
    ) -> u64 {
        let max_frame = self.frame_room(priority);
        let mut bytes = Output::new();
        message.put(&mut bytes);
        header.flags = header.flags | Flags::MORE;
        if size.encoding == 0 {
            header.length = bytes.len() as u64;
        }
        let room = super::assembly::payload_room(&header, max_frame);
        if size.sent <= FRAGMENT {
            let mut first = bytes.split_to(room.min(bytes.len()));
            header.encode_output(&mut first, &mut self.out);
            self.remainders.push_cut(header.id, kind, priority, bytes);
        } else {
            // Little of a long message goes at once: the rest has its turns among others.
            let mut first = bytes.split_to(room.min(super::tuning::BEGINNING));
            header.encode_output(&mut first, &mut self.out);
            self.remainders.push(header.id, kind, priority, bytes);
            if self.remainders.is_turn_of_lowest() {
                self.waiters.note_more();
            }
        }
        UNFINISHED
    }

    /// How long a frame of this priority may be now: at least a piece, if the peer takes that.
    fn frame_room(&self, priority: Priority) -> usize {
        // Before the peer's HELLO there are no fragments, and little that could be in the way.
        match self.peer_max_frame {
            None => self.max_frame(),
            Some(max_frame) => (max_frame as usize).min(self.backlog().frame_room(priority)),
        }
    }

    /// How long the next fragment may be; none if none is to go now.
    pub(super) fn fragment_room(&self) -> Option<usize> {
        let priority = self.remainders.next()?;
        if !self.pacing.admits() && self.remainders.cut().is_none() {
            return None;
        }
        let is_behind = self.fragment_end > self.taken;
        let room = self
            .backlog()
            .fragment_room(priority, self.waiters.highest_refused(), is_behind);
        (room > 0).then(|| room.min(self.max_frame()))
    }

    /// Encodes the next fragment, in a frame of at most `max_frame` bytes.
    ///
    /// Returns the message if that was its last fragment, and whether a PING is to go behind it (pacing).
    pub(super) fn put_fragment(&mut self, max_frame: usize, now: Time) -> (Option<FinishedMessage>, bool) {
        let before = self.out.end();
        let most = self.pacing.fragment();
        let finished = self.remainders.transmit(max_frame, most, &mut self.out);
        self.fragment_end = self.out.end();
        self.waiters.fragment_put();
        let wants_ping = self.pacing.sent(self.fragment_end - before, now);
        (finished, wants_ping)
    }

    /// Notes that the PING for which [`Outbox::put_fragment`] asked is in the output.
    pub(super) fn mark_fragment(&mut self, ping: u64, now: Time) {
        self.pacing.mark(ping, now);
    }

    /// Notes that the peer has answered a PING.
    pub(super) fn ping_answered(&mut self, ping: u64, now: Time) {
        self.pacing.answered(ping, now);
    }

    /// Notes a message of priority control: long ones are held back for a while.
    pub(super) fn note_urgent(&mut self, now: Time) {
        self.pacing.urgent(now);
    }

    /// Drops the fragments of a message that is no longer wanted. If that makes room, [`Outbox::take_more_room`] says so.
    #[inline]
    pub(super) fn drop_fragments(&mut self, id: u64) {
        if !self.remainders.is_empty() {
            self.drop_remainder(id);
        }
    }

    #[cold]
    fn drop_remainder(&mut self, id: u64) {
        let had = self.rooms();
        self.remainders.remove(id);
        self.note_rooms(had);
    }

    /// Notes whether there is more room than in `had`.
    #[inline]
    pub(super) fn note_rooms(&mut self, had: Rooms) {
        self.has_more_room |= self.rooms().has_more(&had);
    }

    /// True if there is more room than before: all that wait for it are to be looked at.
    #[inline]
    pub(super) fn take_more_room(&mut self) -> bool {
        let has_more = std::mem::take(&mut self.has_more_room);
        if has_more {
            self.waiters.note_more();
        }
        has_more
    }

    /// What is left of messages whose beginning is in the output.
    #[inline]
    pub(super) fn remainders(&self) -> &Remainders {
        &self.remainders
    }
}

/// How much waits.
impl Outbox {
    /// What waits to be written.
    #[inline]
    pub(super) fn backlog(&self) -> Backlog {
        if self.remainders.is_empty() {
            return Backlog {
                output: self.out.end() - self.taken,
                remaining: 0,
                reserved: None,
                cut: None,
                batch: self.batch_len(),
                high_water: self.high_water,
                max_message: self.max_message,
                lowest_is_due: false,
            };
        }
        self.backlog_with_remainders()
    }

    fn backlog_with_remainders(&self) -> Backlog {
        let is_fragment_waiting = self.fragment_end > self.taken;
        Backlog {
            output: self.out.end() - self.taken,
            remaining: self.remainders.len() as u64,
            reserved: self.remainders.next().filter(|_| !is_fragment_waiting),
            cut: self.remainders.cut(),
            batch: self.batch_len(),
            high_water: self.high_water,
            max_message: self.max_message,
            lowest_is_due: self.remainders.is_turn_of_lowest(),
        }
    }

    /// Which messages have room now.
    #[inline]
    pub(super) fn rooms(&self) -> Rooms {
        if self.has_room_for_all() {
            return Rooms::ALL;
        }
        self.backlog().rooms()
    }

    /// How much may be on its way to the OS before others wait: one fragment while urgent messages go by.
    fn batch_len(&self) -> u64 {
        match self.pacing.is_on() {
            true => FRAGMENT as u64,
            false => self.batch.len(),
        }
    }

    /// True if a request, a reply or a message of a stream of `len` bytes may be encoded now.
    #[inline(always)]
    pub(super) fn has_room(&self, priority: Priority, len: u64) -> bool {
        self.has_room_for_all() || self.backlog().has_room(priority, len)
    }

    /// True if a message of any priority and length may be encoded now.
    #[inline(always)]
    pub(super) fn has_room_for_all(&self) -> bool {
        // Without remainders nothing is reserved, and no other message has to go first.
        self.remainders.is_empty() && self.out.end() - self.taken <= self.easy_output()
    }

    /// Up to this much output, any message has room unless remainders wait.
    #[inline(always)]
    fn easy_output(&self) -> u64 {
        (FRAGMENT as u64).min(self.high_water)
    }

    /// True if the output holds so much that replies of further handlers would find no room.
    #[inline]
    pub(super) fn is_to_write_first(&self) -> bool {
        self.out.len() as u64 >= self.batch.len()
    }

    /// True if the encoded bytes that wait are within the setting `high_water`.
    pub(super) fn is_below_high_water(&self) -> bool {
        self.out.end() - self.taken <= self.high_water
    }

    /// The end of the stream: where the last encoded byte ends.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.out.end()
    }

    /// How many bytes of the stream the OS has.
    #[inline]
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// How many bytes of the stream the OS may have.
    pub(super) fn reached(&self) -> u64 {
        self.taken.max(self.reached)
    }

    /// How many encoded bytes the driver has not taken yet.
    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// True if the driver has taken all encoded bytes.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// True if the OS has all encoded bytes.
    #[inline]
    pub(super) fn is_taken(&self) -> bool {
        self.taken >= self.out.end()
    }

    /// True if anything waits to be written, remainders included.
    pub(super) fn is_unwritten(&self) -> bool {
        !self.is_taken() || !self.remainders.is_empty()
    }

    /// How many bytes wait to be written, remainders included.
    #[inline]
    pub(super) fn unwritten(&self) -> u64 {
        self.out.end() - self.taken + self.remainders.len() as u64
    }

    /// True if the OS took less than it was offered.
    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }
}

/// Writing.
impl Outbox {
    /// Looks at what the OS has taken since the last time, before more is given to it.
    pub(super) fn begin_transmit(&mut self) {
        self.blocked = self.taken < self.out.end() - self.out.len() as u64;
        self.batch.note(self.taken, self.blocked);
    }

    /// Moves all encoded bytes to the end of `into`.
    #[inline]
    pub(super) fn move_to(&mut self, into: &mut Output) {
        debug_assert!(!self.is_leased(), "the head of a leased frame is not finished");
        if !self.out.is_empty() {
            into.append(&mut self.out);
        }
    }

    /// Begins to watch whether the peer takes what was written, unless that is watched already.
    pub(super) fn watch_stall(&mut self, now: Time) {
        if self.stall.is_none() {
            self.stall = WriteStall::begin(self.taken, self.out.end(), now);
        }
    }

    /// Counts `n` bytes as taken by the OS.
    pub(super) fn take(&mut self, n: usize, now: Time) {
        self.taken = self.taken.saturating_add(n as u64).min(self.out.end());
        if self.stall.as_ref().is_some_and(|stall| stall.is_over(self.taken)) {
            self.stall = WriteStall::begin(self.taken, self.out.end(), now);
        }
    }

    /// Notes that the stream holds `n` bytes behind what the OS has: it may have passed them on.
    pub(super) fn note_unflushed(&mut self, n: usize) {
        self.reached = self.taken.saturating_add(n as u64).min(self.out.end());
    }

    /// Forgets everything: nothing is written any more.
    pub(super) fn close(&mut self) {
        self.stall = None;
        drop(self.out.split_to(self.out.len()));
        self.out.release();
    }

    /// Drops all remainders and wakes all waiters: nothing new is encoded.
    pub(super) fn fail_all(&mut self, woken: &mut Woken) {
        self.remainders.clear();
        self.waiters.clear(woken);
    }

    /// Since when the peer has taken too little of the output; none if nothing waits to be taken.
    pub(super) fn stalled_since(&self) -> Option<Time> {
        Some(self.stall.as_ref()?.since())
    }

    /// When the peer must have taken more, if it may take `time` for that.
    pub(super) fn stall_due(&self, time: Time) -> Option<Time> {
        Some(self.stall.as_ref()?.due(time))
    }

    /// When to see whether memory is short while the peer takes nothing.
    pub(super) fn memory_check_at(&self) -> Option<Time> {
        Some(self.stall.as_ref()?.memory_check_at())
    }

    /// Puts the next such look off.
    pub(super) fn check_memory_later(&mut self, now: Time) {
        if let Some(stall) = &mut self.stall {
            stall.check_memory_later(now);
        }
    }

    /// Gives memory back that a burst has left behind.
    pub(super) fn release(&mut self) {
        self.remainders.release();
        self.waiters.release();
        self.out.release();
    }
}

/// Tasks that wait for room.
impl Outbox {
    /// The tasks that wait for room.
    #[inline]
    pub(super) fn waiters(&self) -> &RoomWaiters {
        &self.waiters
    }

    /// Lets the task of `cx` wait for room for a message of `len` bytes, under `key`.
    pub(super) fn wait(
        &mut self,
        key: u64,
        priority: Priority,
        len: u64,
        deadline: Option<Time>,
        cx: &Context<'_>,
    ) {
        self.waiters.wait(key, priority, len, deadline, cx);
    }

    /// A key for a waiter that has no id.
    pub(super) fn new_key(&mut self) -> u64 {
        self.waiters.new_key()
    }

    /// Removes a waiter: it has come, or never will.
    #[inline]
    pub(super) fn leave(&mut self, key: u64) {
        self.waiters.leave(key);
    }

    /// Notes that a message of this priority found no room: fragments become shorter for a while.
    pub(super) fn note_refused(&mut self, priority: Priority) {
        self.waiters.refused(priority);
    }

    /// Wakes waiters whose deadline has passed.
    pub(super) fn expire(&mut self, now: Time, woken: &mut Woken) {
        self.waiters.expire(now, woken);
    }

    /// Wakes some of those that have room now.
    pub(super) fn wake_waiters(&mut self, woken: &mut Woken) {
        if self.waiters.has_news() {
            let rooms = self.rooms();
            self.waiters.wake(&rooms, woken);
        }
    }

    /// Arms the timer that wakes further waiters if those already woken never poll.
    pub(super) fn arm_wake_again(&mut self, now: Time) {
        let is_due = !self.waiters.is_empty() && self.waiters.would_wake(&self.rooms());
        // Other output does not put it off.
        let at = self
            .wake_again_at
            .unwrap_or_else(|| now.saturating_add(WAKE_AGAIN_AFTER));
        self.wake_again_at = is_due.then_some(at);
    }

    /// When further waiters are woken.
    pub(super) fn wake_again_at(&self) -> Option<Time> {
        self.wake_again_at
    }

    /// Lets further waiters be woken, if that is due.
    pub(super) fn run_wake_again(&mut self, now: Time) {
        if self.wake_again_at.is_some_and(|at| at <= now) {
            self.wake_again_at = None;
            self.waiters.wake_again();
        }
    }
}
