//! What comes in: every kind of frame, and what is wrong with it.

use std::time::Duration;

use prost::Message;

use crate::conn::{
    Cause, Connection, PeerGoaway, PeerHello, Time,
    end::Life,
    health::pings::PING_LEN,
    ids::MAX_ID,
    ours::calls::Reach,
    ours::credit::{FLOOR_BYTES, FLOOR_CALLS, FLOOR_FRAME},
    outbox::frames::VERSION,
};
use crate::{
    Executed,
    wire::frame::{
        Frame, Kind, MAX_TEXT,
        control::{Goaway, Hello, Pong, Progress, Reason},
        cut,
    },
};

impl Connection {
    /// Whether the peer may use the compression with this number; 0 is none.
    pub(super) fn is_announced(&self, encoding: u32) -> bool {
        encoding == 0 || self.settings.encodings.contains(&encoding)
    }

    /// Takes in a frame of a connection that is live.
    pub(super) fn receive(&mut self, frame: &mut Frame, now: Time) {
        if matches!(self.end.life, Life::Handshaking) {
            if frame.kind != Kind::Hello {
                return self.protocol_error(format!("first frame is {}, not HELLO", frame.kind), now);
            }
            return self.receive_hello(frame, now);
        }
        match frame.kind {
            Kind::Call => self.receive_request(frame, false, now),
            Kind::Send => self.receive_request(frame, true, now),
            Kind::Data if self.side.gives(frame.id) => self.receive_reply_data(frame, now),
            Kind::Data => self.receive_request_data(frame, now),
            Kind::Reply => self.receive_reply(frame, now),
            Kind::Cancel => self.receive_cancel(frame.id, now),
            Kind::Credit => self.receive_credit(frame, now),
            Kind::Hello | Kind::Ping | Kind::Pong | Kind::Goaway if frame.id != 0 => {
                self.protocol_error(format!("{} has id {}", frame.kind, frame.id), now);
            }
            Kind::Hello => self.protocol_error("second HELLO".to_owned(), now),
            Kind::Ping => self.receive_ping(frame, now),
            Kind::Pong => self.receive_pong(frame, now),
            Kind::Goaway => self.receive_goaway(frame, now),
            Kind::Other(kind) if frame.kind.is_critical() => {
                self.protocol_error(format!("unknown kind {kind}"), now);
            }
            Kind::Other(_) => self.fault(|counts| &counts.ignored_frames, "frame of an unknown kind", now),
        }
    }

    fn receive_hello(&mut self, frame: &Frame, now: Time) {
        let hello = match parse_hello(frame) {
            Ok(hello) => hello,
            Err(text) => return self.reject_hello(text, Reach::Nothing, now),
        };
        if let Err(text) = check_limits(&hello) {
            // The peer knows nothing of this, and may have begun to work.
            return self.reject_hello(text, Reach::Output, now);
        }
        self.ours.credit.accept(&hello);
        self.peer.hello = Some(PeerHello::new(hello, self.side));
        self.end.life = Life::Open;
        if let Some(others) = &mut self.wakes.waiters.others {
            others.ready.wake(&mut self.wakes.woken);
        }
        self.ours.lines.note_more();
        for id in std::mem::take(&mut self.ours.cancels) {
            self.put_cancel(id);
        }
        self.announce_close();
        self.put_pings(now);
    }

    fn receive_credit(&mut self, frame: &Frame, now: Time) {
        if frame.length == 0 {
            return self.empty_frame("empty CREDIT", now);
        }
        if frame.id == 0 {
            self.ours.credit.grant_sends(frame.length);
            return self.ours.lines.note_more();
        }
        self.receive_stream_credit(frame.id, frame.length, now);
    }

    fn receive_ping(&mut self, frame: &Frame, now: Time) {
        let Some(&ping) = frame
            .payload
            .first_chunk::<PING_LEN>()
            .filter(|_| frame.payload.len() == PING_LEN)
        else {
            return self.protocol_error(format!("PING of {} bytes", frame.payload.len()), now);
        };
        // A peer that drains has its reasons to ask once more.
        let floor = if self.peer.goaway.is_some() {
            Time::ZERO
        } else {
            self.settings.ping_floor
        };
        let is_early = self.health.keep_alive.ping_read(ping, floor, now);
        if is_early {
            self.settings.counts.early_pings.add();
        }
        if self.health.keep_alive.has_struck_out() {
            self.excess("too many PINGs".to_owned(), now);
        }
    }

    fn receive_pong(&mut self, frame: &Frame, now: Time) {
        let Ok(mut pong) = Pong::decode(frame.payload.clone()) else {
            return self.protocol_error("PONG cannot be parsed".to_owned(), now);
        };
        let ping = match <[u8; PING_LEN]>::try_from(&pong.ping[..]) {
            Ok(ping) => u64::from_le_bytes(ping),
            Err(_) => {
                return self.protocol_error(format!("PONG with {} bytes of PING", pong.ping.len()), now);
            }
        };
        if !self.health.keep_alive.answer(ping) {
            return self.fault(|counts| &counts.other_faults, "PONG without its PING", now);
        }
        let account = self.take_account(pong.progress.take().unwrap_or_default());
        self.ours.sends.pong(ping);
        self.outbox.pace.answered(ping, now);
        self.ours
            .barriers
            .answered(ping, account.as_ref(), &mut self.wakes.woken);
        self.pong_for_drain(ping);
    }

    /// Keeps the peer's account. Returns it for barriers, unless sends above the last id are missing in it: that is not
    /// what a barrier promises.
    fn take_account(&mut self, mut account: Progress) -> Option<Progress> {
        // Each barrier gets a copy.
        account.dropped.truncate(MAX_REASONS);
        self.ours.sends.keep(&account);
        (!self.ours.sends.is_cut()).then_some(account)
    }

    fn receive_goaway(&mut self, frame: &Frame, now: Time) {
        let Ok(goaway) = Goaway::decode(frame.payload.clone()) else {
            return self.protocol_error("GOAWAY cannot be parsed".to_owned(), now);
        };
        let reason = Reason::from_number(goaway.reason).unwrap_or(Reason::Drain);
        let text = cut(&goaway.text, MAX_TEXT).into_owned();
        if reason == Reason::HelloRejected {
            let until = self.soon(now);
            return self.begin_closing(Cause::HelloRejected { text }, Reach::Nothing, until, now);
        }
        let last_id = match &self.peer.goaway {
            Some(old) => old.last_id.min(goaway.last_id),
            None => goaway.last_id.min(MAX_ID),
        };
        let at = self.peer.goaway.as_ref().map_or(now, |old| old.at);
        let is_last = goaway.account.is_some();
        let is_second = |old: &PeerGoaway| old.last_id == MAX_ID && last_id < MAX_ID;
        let is_next = |old: &PeerGoaway| is_second(old) || (is_last && !old.is_last);
        let is_expected = self.peer.goaway.as_deref().is_none_or(is_next);
        self.peer.goaway = Some(Box::new(PeerGoaway {
            reason,
            text,
            last_id,
            drain: Duration::from_millis(goaway.drain_ms),
            at,
            is_last: is_last || self.peer.goaway.as_ref().is_some_and(|old| old.is_last),
        }));
        if !is_expected {
            // A drain sends three. Each costs a look at all open calls, so there cannot be any number of them.
            self.fault(|counts| &counts.other_faults, "one more GOAWAY", now);
        }
        // Whoever waits here has not begun, and goes to another connection.
        self.ours.lines.clear_all(&mut self.wakes.woken);
        self.ours.sends.cut_above(last_id);
        self.fail_calls_above(last_id);
        if let Some(account) = goaway.account {
            let account = self.take_account(account);
            self.ours.sends.settle();
            self.ours
                .barriers
                .settled(account.as_ref(), &mut self.wakes.woken);
        }
        // In front of the PONG that the peer waits for, so that it is still there to answer.
        self.put_pings(now);
    }

    /// The peer dropped our calls above `last_id`: they fail at once, and no REPLY will come.
    fn fail_calls_above(&mut self, last_id: u64) {
        for id in self.ours.calls.above(last_id) {
            if let Some(cause) = self.goaway_cause() {
                self.ours
                    .calls
                    .fail(id, cause, Executed::No, &mut self.wakes.woken);
            }
            self.drop_fragments(id);
            self.close_call(id);
        }
    }

    /// What the peer's GOAWAY is for a call that it does not take.
    pub(super) fn goaway_cause(&self) -> Option<Cause> {
        self.peer.goaway.as_deref().map(PeerGoaway::cause)
    }
}

/// So many reasons for dropped one-ways are kept of an account; there are five.
const MAX_REASONS: usize = 64;

/// The HELLO in a frame, if the peer speaks our version; both sides come to the same result.
fn parse_hello(frame: &Frame) -> Result<Hello, String> {
    if frame.payload.len() > Hello::MAX_LEN {
        return Err(format!(
            "HELLO of {} bytes exceeds limit of {}",
            frame.payload.len(),
            Hello::MAX_LEN
        ));
    }
    let hello =
        Hello::decode(&frame.payload[..]).map_err(|error| format!("HELLO cannot be parsed: {error}"))?;
    if hello.magic != Hello::MAGIC {
        return Err(format!(
            "peer speaks another protocol: its magic is {:#018x}",
            hello.magic
        ));
    }
    let chosen = hello.version_max.min(VERSION);
    if chosen < hello.version_min || chosen < VERSION {
        return Err(format!(
            "peer speaks versions {} to {}, and we speak {VERSION}",
            hello.version_min, hello.version_max
        ));
    }
    Ok(hello)
}

/// Whether no limit is below what a side may use before it has read the HELLO.
fn check_limits(hello: &Hello) -> Result<(), String> {
    let limits = [
        ("max_frame", u64::from(hello.max_frame), u64::from(FLOOR_FRAME)),
        ("max_calls", u64::from(hello.max_calls), u64::from(FLOOR_CALLS)),
        ("call_bytes", hello.call_bytes, FLOOR_BYTES),
        ("send_bytes", hello.send_bytes, FLOOR_BYTES),
    ];
    for (name, value, floor) in limits {
        if value < floor {
            return Err(format!("{name} of {value} is below the floor of {floor}"));
        }
    }
    hello.to_metadata().map(drop).map_err(|error| error.to_string())
}
