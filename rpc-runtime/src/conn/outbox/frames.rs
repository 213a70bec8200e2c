//! What goes out: messages, fragments, and the frames about the connection itself.

use prost::Message;

use crate::conn::{
    Connection, Time,
    assembly::{FRAGMENT, Part, payload_room},
    end::Life,
    ours::calls::UNFINISHED,
    outbox::backlog::{Backlog, PIECE, SHORT},
};
use crate::{
    Priority,
    wire::frame::{
        Flags, Header, Kind, MAX_TEXT, Output, Payload, Size,
        control::{Entry, Goaway, Hello, Pong, Progress, Reason},
        cut,
    },
};

impl Connection {
    /// Puts a message into the output, its beginning if that has no room for all of it; returns where it ends.
    pub(in crate::conn) fn put_message<P: Payload>(
        &mut self,
        mut header: Header<'_>,
        message: &P,
        size: Size,
        part: Part,
        priority: Priority,
    ) -> u64 {
        if size.encoding != 0 {
            header.encoding = size.encoding;
            header.length = size.len as u64;
        }
        if self.outbox.bulk.len() > self.settings.high_water && size.packed as u64 <= SHORT {
            self.outbox.pace.short(self.health.last_used);
        }
        // A frame that is no longer than a piece always fits, so most need no look at the backlog.
        let is_short = header.fits(size.packed, PIECE.min(self.ours.credit.max_frame()));
        if is_short || (size.packed <= FRAGMENT && header.fits(size.packed, self.max_frame(priority))) {
            header.encode(message, size.packed, &mut self.outbox.out);
            return self.outbox.out.end();
        }
        let max_frame = self.max_frame(priority);
        let mut bytes = Output::new();
        message.put(&mut bytes);
        header.flags = header.flags | Flags::MORE;
        if size.encoding == 0 {
            header.length = bytes.len() as u64;
        }
        let room = payload_room(&header, max_frame);
        if size.packed <= FRAGMENT {
            let mut first = bytes.split_to(room.min(bytes.len()));
            header.encode_output(&mut first, &mut self.outbox.out);
            self.outbox.bulk.push_cut(header.id, part, priority, bytes);
        } else {
            // Little of a long message goes at once: the rest has its turns among others.
            let mut first = bytes.split_to(room.min(BEGINNING));
            header.encode_output(&mut first, &mut self.outbox.out);
            self.outbox.bulk.push(header.id, part, priority, bytes);
            if self.outbox.bulk.is_turn_of_lowest() {
                self.ours.lines.note_more();
                self.outbox.room.note_more();
            }
        }
        UNFINISHED
    }

    /// How long a frame of this priority may be now: at least a piece, if the peer takes that.
    fn max_frame(&self, priority: Priority) -> usize {
        let max_frame = self.ours.credit.max_frame();
        if self.ours.credit.is_floor() {
            // Before the peer's HELLO there are no fragments, and little that could be in the way.
            return max_frame;
        }
        max_frame.min(self.backlog().frame_room(priority))
    }

    /// How long the next fragment may be; none if none is to go now.
    pub(in crate::conn) fn fragment_room(&self) -> Option<usize> {
        let priority = self.outbox.bulk.next()?;
        if !self.outbox.pace.admits() && self.outbox.bulk.cut().is_none() {
            return None;
        }
        let is_behind = self.outbox.fragment_end > self.outbox.taken;
        let room = self
            .backlog()
            .fragment_room(priority, self.outbox.room.highest_refused(), is_behind);
        (room > 0).then(|| room.min(self.ours.credit.max_frame()))
    }

    /// Puts the next fragment of the next message into the output, in a frame of at most `max_frame` bytes.
    pub(in crate::conn) fn put_fragment(&mut self, max_frame: usize, now: Time) {
        let before = self.outbox.out.end();
        let most = self.outbox.pace.fragment();
        let finished = self.outbox.bulk.transmit(max_frame, most, &mut self.outbox.out);
        self.outbox.fragment_end = self.outbox.out.end();
        self.outbox.room.fragment_put();
        self.health.keep_alive.request_sent();
        let end = self.outbox.out.end();
        if self.outbox.pace.sent(end - before, now) {
            let ping = self.put_ping(now);
            self.outbox.pace.mark(ping, now);
        }
        let Some(finished) = finished else { return };
        match finished.part {
            Part::Call => self.ours.calls.set_end(finished.id, end),
            Part::Send => self.ours.sends.finish(finished.id, end),
            Part::Reply => return,
            Part::Data => return self.data_finished(finished.id),
        }
        self.ours.flushing.push_back((finished.id, end));
    }

    /// Puts a frame into the output that carries no message of a user.
    pub(in crate::conn) fn put_frame(&mut self, header: Header<'_>) {
        header.encode_bytes(bytes::Bytes::new(), &mut self.outbox.out);
    }

    /// Puts the HELLO into the output: the first bytes of the stream.
    pub(in crate::conn) fn put_hello(&mut self) {
        let settings = &self.settings;
        let hello = Hello {
            magic: Hello::MAGIC,
            version_min: VERSION,
            version_max: VERSION,
            max_frame: settings.max_frame,
            max_message: settings.max_message,
            max_calls: settings.max_calls,
            call_bytes: settings.call_bytes,
            send_bytes: settings.send_bytes,
            stream_window: settings.stream_window,
            encodings: settings.encodings.clone(),
            features: 0,
            instance_id: settings.instance_id.clone(),
            software: settings.software.clone(),
            metadata: Entry::list(&settings.metadata),
            ping_floor_ms: u32::try_from(settings.ping_floor.as_millis()).unwrap_or(u32::MAX),
        };
        self.put_control(Kind::Hello, &hello);
    }

    /// Puts a GOAWAY into the output, of a connection that is about to close or to drain.
    pub(in crate::conn) fn put_goaway(&mut self, reason: Reason, last_id: u64, text: &str) {
        let goaway = self.goaway_frame(reason, last_id, text);
        self.put_control(Kind::Goaway, &goaway);
    }

    /// Puts the last GOAWAY into the output, with what became of the peer's one-way requests up to `last_id`.
    pub(in crate::conn) fn put_last_goaway(
        &mut self,
        reason: Reason,
        last_id: u64,
        text: &str,
        account: Progress,
    ) {
        let goaway = Goaway {
            account: Some(account),
            ..self.goaway_frame(reason, last_id, text)
        };
        self.put_control(Kind::Goaway, &goaway);
    }

    fn goaway_frame(&self, reason: Reason, last_id: u64, text: &str) -> Goaway {
        let drain = self.end.drain.as_ref().and_then(|drain| drain.announced);
        let drain = drain.unwrap_or(Time::ZERO).as_millis();
        Goaway {
            reason: reason.number(),
            last_id,
            text: cut(text, MAX_TEXT).into_owned(),
            drain_ms: u64::try_from(drain).unwrap_or(u64::MAX),
            resume_in_ms: 0,
            account: None,
        }
    }

    /// Tells the peer that a call is no longer wanted, as soon as that may be said.
    pub(in crate::conn) fn put_cancel(&mut self, id: u64) {
        if matches!(self.end.life, Life::Handshaking) {
            self.ours.cancels.push(id);
        } else {
            self.put_frame(Header::new(Kind::Cancel, id));
        }
    }

    /// Puts what was kept back until now: a PONG, credit, pings.
    pub(in crate::conn) fn put_control_frames(&mut self, now: Time) {
        if !self.may_put_control_frames() {
            return;
        }
        self.put_pong();
        if let Some(grant) = self.theirs.requests.take_grant(&self.settings) {
            let mut header = Header::new(Kind::Credit, 0);
            header.length = grant;
            self.put_frame(header);
        }
        self.put_stream_credit(now);
        self.put_pings(now);
    }

    /// Answers the newest ping, if it is not answered yet.
    pub(in crate::conn) fn put_pong(&mut self) {
        if let Some(ping) = self.health.keep_alive.take_unanswered() {
            let pong = Pong {
                ping: bytes::Bytes::copy_from_slice(&ping),
                progress: Some(self.theirs.account.tell()),
            };
            self.put_control(Kind::Pong, &pong);
        }
    }

    /// Whether `put_control_frames` would put anything, pings left out: those have timers.
    pub(in crate::conn) fn owes_control_frames(&self) -> bool {
        self.may_put_control_frames()
            && (self.health.keep_alive.owes_pong()
                || self.theirs.requests.is_grant_due(&self.settings)
                || !self.streams.owing.is_empty())
    }

    /// Whether a peer that asks for them may have more of them: one that does not read must not fill our memory.
    fn may_put_control_frames(&self) -> bool {
        // Whatever waits in fragments: those may wait for a PONG themselves.
        matches!(self.end.life, Life::Open) && self.backlog().output <= self.settings.high_water as u64
    }

    /// Puts one ping for all that want one now, if the peer's floor allows it.
    pub(in crate::conn) fn put_pings(&mut self, now: Time) {
        if !matches!(self.end.life, Life::Open) {
            return;
        }
        let floor = self.peer_floor();
        if self.health.keep_alive.allowed_at(floor) > now {
            return;
        }
        let due = self.keep_alive_due().is_some_and(|due| due <= now);
        let bulk = &self.outbox.bulk;
        if due || self.ours.barriers.wants_ping(|last_id| !bulk.has_send(last_id)) || self.wants_last_ping() {
            self.put_ping(now);
        }
    }

    /// Puts a ping, and lets all barriers use it whose sends are in the output; returns its number.
    pub(in crate::conn) fn put_ping(&mut self, now: Time) -> u64 {
        let ping = self.health.keep_alive.send_ping(now);
        let bulk = &self.outbox.bulk;
        self.ours.barriers.sent(ping, |last_id| !bulk.has_send(last_id));
        self.ours.sends.ping(ping, self.outbox.bulk.first_send());
        let payload = bytes::Bytes::copy_from_slice(&ping.to_le_bytes());
        Header::new(Kind::Ping, 0).encode_bytes(payload, &mut self.outbox.out);
        ping
    }

    /// How often the peer takes a ping.
    pub(in crate::conn) fn peer_floor(&self) -> Time {
        let millis = self.peer.hello.as_ref().map_or(0, |hello| hello.ping_floor_ms);
        Time::from_millis(millis.into())
    }

    /// What waits to be written.
    #[inline]
    pub(in crate::conn) fn backlog(&self) -> Backlog {
        if self.outbox.bulk.is_empty() {
            return Backlog {
                output: self.outbox.out.end() - self.outbox.taken,
                rests: 0,
                reserved: None,
                cut: None,
                batch: self.batch_len(),
                high_water: self.settings.high_water as u64,
                max_message: self.settings.max_message,
                lowest_is_due: false,
            };
        }
        self.backlog_with_rests()
    }

    fn backlog_with_rests(&self) -> Backlog {
        let is_fragment_waiting = self.outbox.fragment_end > self.outbox.taken;
        Backlog {
            output: self.outbox.out.end() - self.outbox.taken,
            rests: self.outbox.bulk.len() as u64,
            reserved: self.outbox.bulk.next().filter(|_| !is_fragment_waiting),
            cut: self.outbox.bulk.cut(),
            batch: self.batch_len(),
            high_water: self.settings.high_water as u64,
            max_message: self.settings.max_message,
            lowest_is_due: self.outbox.bulk.is_turn_of_lowest(),
        }
    }

    /// How much may be on its way to the OS before others wait: one fragment while messages go by that must not wait.
    fn batch_len(&self) -> u64 {
        match self.outbox.pace.is_on() {
            true => FRAGMENT as u64,
            false => self.outbox.batch.len(),
        }
    }

    /// Whether anything waits to be written.
    pub(in crate::conn) fn is_unwritten(&self) -> bool {
        self.outbox.taken < self.outbox.out.end() || !self.outbox.bulk.is_empty()
    }

    /// Whether a request, a reply or a message of a stream of `len` bytes may be put into the output now.
    #[inline(always)]
    pub(in crate::conn) fn has_room(&self, priority: Priority, len: u64) -> bool {
        // As long as no rests wait, nothing is reserved, and nobody is to be let by.
        let is_easy =
            self.outbox.bulk.is_empty() && self.outbox.out.end() - self.outbox.taken <= self.easy_output();
        is_easy || self.backlog().has_room(priority, len)
    }

    /// So much output leaves room for any message, unless rests of others wait.
    fn easy_output(&self) -> u64 {
        FRAGMENT.min(self.settings.high_water) as u64
    }

    fn put_control<M: Message>(&mut self, kind: Kind, message: &M) {
        Header::new(kind, 0).encode(message, message.encoded_len(), &mut self.outbox.out);
    }
}

/// How much of a long message goes at once.
const BEGINNING: usize = 4 * 1024;
/// The only version of the protocol that there is.
pub(in crate::conn) const VERSION: u32 = 1;
