//! Health: whether the peer lives and keeps up.
//!
//! `pings` asks whether it lives. `dead_peer` says when it counts as dead. `slow_peer` knows what it has begun and does not go
//! on with.

mod dead_peer;
mod pings;
mod slow_peer;

use self::{pings::KeepAlive, slow_peer::SlowPeer};
use super::{Settings, Time, assembly::FragmentWatch, peer::PeerState, step::Violation, types::PING_LEN};
use crate::wire::frame::{Frame, Kind};

pub(super) use self::{pings::parse_pong, slow_peer::Slowness};

/// What shows whether the peer lives and keeps up.
#[derive(Debug, Default)]
pub(super) struct Health {
    keep_alive: KeepAlive,
    slow: SlowPeer,
    fragments: FragmentWatch,
    /// When something of a user went one way or the other.
    last_used: Time,
}

impl Health {
    /// Notes that something of a user goes one way or the other.
    #[inline]
    pub(super) fn note_use(&mut self, now: Time) {
        self.last_used = now;
    }

    /// Notes that a frame of the peer came.
    #[inline]
    pub(super) fn note_frame(&mut self, kind: Kind, now: Time) {
        match kind {
            Kind::Call | Kind::Send | Kind::Data => {
                self.note_use(now);
                self.keep_alive.request_read();
            }
            Kind::Reply | Kind::Cancel => self.note_use(now),
            _ => {}
        }
    }

    /// When something of a user went one way or the other.
    #[inline]
    pub(super) fn last_used(&self) -> Time {
        self.last_used
    }

    /// The watch over messages in fragments.
    #[inline]
    pub(super) fn fragments(&mut self) -> &mut FragmentWatch {
        &mut self.fragments
    }

    /// Notes that bytes came, behind our request `last_id`. True if that ends doubts.
    #[inline]
    #[must_use]
    pub(super) fn read(&mut self, now: Time, last_id: u64) -> bool {
        self.keep_alive.read(now, last_id)
    }

    /// Notes that the OS took bytes that had to wait.
    pub(super) fn written(&mut self, now: Time) {
        self.keep_alive.written(now);
    }

    /// Notes that a CALL, SEND or DATA goes out.
    #[inline]
    pub(super) fn request_sent(&mut self) {
        self.keep_alive.request_sent();
    }

    /// Notes that our call `id` has missed its deadline. True if nothing was read since it began.
    #[must_use]
    pub(super) fn missed(&mut self, id: u64) -> bool {
        self.keep_alive.missed(id)
    }

    /// How many doubts there are that the peer lives.
    pub(super) fn doubts(&self) -> u32 {
        self.keep_alive.doubts()
    }

    /// Numbers a PING that goes out now.
    pub(super) fn send_ping(&mut self, now: Time) -> u64 {
        self.keep_alive.send_ping(now)
    }

    /// Notes that a PING was answered; false if that was not expected.
    #[must_use]
    pub(super) fn answer(&mut self, ping: u64, now: Time) -> bool {
        self.keep_alive.answer(ping, now)
    }

    /// How long the answer to a PING took last.
    pub(super) fn round_trip(&self) -> Option<Time> {
        self.keep_alive.round_trip()
    }

    /// When bytes came last; zero before the first.
    pub(super) fn last_read(&self) -> Time {
        self.keep_alive.last_read()
    }

    /// True if a PING of ours is not answered.
    pub(super) fn is_ping_waiting(&self) -> bool {
        self.keep_alive.is_waiting()
    }

    /// From when on a PING may go out; the peer accepts one every `floor`.
    pub(super) fn ping_allowed_at(&self, floor: Time) -> Time {
        self.keep_alive.allowed_at(floor)
    }

    /// When a PING should go out because nothing came for `silence`.
    pub(super) fn ping_due_at(&self, silence: Time, floor: Time) -> Option<Time> {
        self.keep_alive.due_at(silence, floor)
    }

    /// Takes in a PING of the peer, which may send one every so often.
    pub(super) fn receive_ping(
        &mut self,
        frame: &Frame,
        peer: &PeerState,
        settings: &Settings,
        now: Time,
    ) -> Result<(), Violation> {
        // A peer that drains has its reasons to ask once more.
        let floor = match peer.goaway() {
            Some(_) => Time::ZERO,
            None => settings.ping_floor,
        };
        let ping = pings::parse_ping(frame)?;
        if self.keep_alive.ping_read(ping, floor, now) {
            settings.counts.early_pings.add();
        }
        match self.keep_alive.has_struck_out() {
            true => {
                let text = format!(
                    "too many PINGs, less than {:?} apart: Limits::ping_floor",
                    settings.ping_floor
                );
                Err(Violation::Excess(text))
            }
            false => Ok(()),
        }
    }

    /// When the peer's HELLO must be here.
    #[inline]
    pub(super) fn handshake_due(&self, settings: &Settings) -> Time {
        self.after_sleep(settings.handshake_timeout)
    }

    /// True if a PING of the peer is not answered.
    pub(super) fn owes_pong(&self) -> bool {
        self.keep_alive.owes_pong()
    }

    /// The newest PING of the peer that is not answered; it is answered now.
    pub(super) fn take_unanswered(&mut self) -> Option<[u8; PING_LEN]> {
        self.keep_alive.take_unanswered()
    }
}
