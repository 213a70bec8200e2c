//! Frames of the peer: which part of a connection takes in which of them.

use super::{
    Connection, Time,
    either_call::EitherCall,
    end::goaway::parse_goaway,
    health::parse_pong,
    step::{self, Violation, step_of},
};
use crate::wire::frame::{Flags, Frame, Kind};

impl Connection {
    /// Takes in a frame of a connection that is live.
    #[inline(always)]
    pub(super) fn receive(&mut self, frame: &mut Frame, now: Time) {
        let result = match frame.kind {
            _ if self.end.is_handshaking() => self.receive_hello(frame, now),
            Kind::Call | Kind::Send => self.receive_request(frame, now),
            Kind::Reply => {
                let inbox = self.theirs.held_in_streams().bytes;
                let step = &mut step_of!(self, now);
                self.ours.receive_reply(frame, self.side, inbox, step)
            }
            Kind::Data => self.receive_data(frame, now),
            Kind::Cancel => {
                let step = &mut step_of!(self, now);
                self.theirs.receive_cancel(frame.id, self.side, step)
            }
            Kind::Credit => self.receive_credit(frame, now),
            _ => self.receive_control(frame, now),
        };
        if let Err(violation) = result {
            self.ending(now).violation(violation);
        }
    }

    fn receive_control(&mut self, frame: &Frame, now: Time) -> Result<(), Violation> {
        match frame.kind {
            Kind::Other(kind) if frame.kind.is_critical() => step::protocol(format!("unknown kind {kind}")),
            Kind::Other(_) => {
                let text = "frame of an unknown kind";
                step_of!(self, now).fault(|counts| &counts.ignored_frames, text)
            }
            _ if frame.id != 0 => step::protocol(format!("{} has id {}", frame.kind, frame.id)),
            Kind::Ping => self.health.receive_ping(frame, &self.peer, &self.settings, now),
            Kind::Pong => self.receive_pong(frame, now),
            Kind::Goaway => self.receive_goaway(frame, now),
            _ => step::protocol("second HELLO"),
        }
    }

    /// Takes in the first frame, which must be the HELLO.
    fn receive_hello(&mut self, frame: &Frame, now: Time) -> Result<(), Violation> {
        let side = self.side;
        self.ending(now).receive_hello(frame, side)?;
        self.put_pings(now);
        Ok(())
    }

    /// Takes in the first frame of a request.
    #[inline]
    fn receive_request(&mut self, frame: &mut Frame, now: Time) -> Result<(), Violation> {
        if frame.kind == Kind::Send && frame.flags.contains(Flags::PACKED) {
            return self.receive_row(frame, now);
        }
        self.theirs.open(frame, self.side)?;
        if self.end.is_above_last(frame.id) {
            return Ok(());
        }
        let lacks_memory = self.lacks_memory();
        let step = &mut step_of!(self, now);
        self.theirs.receive_request(frame, lacks_memory, step)
    }

    /// Takes in several one-way requests in one frame.
    fn receive_row(&mut self, frame: &mut Frame, now: Time) -> Result<(), Violation> {
        let opened = self
            .theirs
            .open_row(frame, self.side, self.settings.max_message)?;
        // The last id that is taken is that of the last frame that was read whole, so it never lies within this one.
        if self.end.is_above_last(frame.id) {
            return Ok(());
        }
        let lacks_memory = self.lacks_memory();
        let step = &mut step_of!(self, now);
        self.theirs.receive_row(frame, opened, lacks_memory, step)
    }

    /// Takes in a fragment, or a message of a stream.
    fn receive_data(&mut self, frame: &mut Frame, now: Time) -> Result<(), Violation> {
        let limits = self.streams.limits(self.held(), frame.encoding, &self.settings);
        if self.side.gives(frame.id) {
            let inbox = self.theirs.held_in_streams().bytes;
            let step = &mut step_of!(self, now);
            return self.ours.receive_data(frame, self.side, limits, inbox, step);
        }
        self.theirs.check_opened(frame)?;
        if self.end.is_above_last(frame.id) {
            return Ok(());
        }
        let step = &mut step_of!(self, now);
        self.theirs.receive_data(frame, limits, step)
    }

    fn receive_credit(&mut self, frame: &Frame, now: Time) -> Result<(), Violation> {
        let granted = self.peer.stream_window();
        let step = &mut step_of!(self, now);
        if frame.length == 0 {
            return step.empty_frame("empty CREDIT");
        }
        if frame.id == 0 {
            self.ours.grant_sends(frame.length);
            return Ok(());
        }
        let call = EitherCall::new(self.side, frame.id, &mut self.ours, &mut self.theirs);
        call.receive_credit(frame.length, granted, step)
    }

    fn receive_pong(&mut self, frame: &Frame, now: Time) -> Result<(), Violation> {
        let (ping, account) = parse_pong(frame)?;
        if !self.health.answer(ping, now) {
            return step_of!(self, now).fault(|counts| &counts.other_faults, "PONG without its PING");
        }
        self.ours.pong(ping, account, self.wakes.woken());
        self.outbox.ping_answered(ping, now);
        if self.end.drain().is_some_and(|drain| drain.is_noticed_by(ping)) {
            self.ending(now).finalise_drain();
        }
        Ok(())
    }

    fn receive_goaway(&mut self, frame: &Frame, now: Time) -> Result<(), Violation> {
        let goaway = parse_goaway(frame)?;
        let is_expected = self.ending(now).receive_goaway(goaway);
        // In front of the PONG that the peer waits for, so that it is still there to answer.
        self.put_pings(now);
        match is_expected {
            true => Ok(()),
            // A drain sends three. Each costs a look at all open calls, so there cannot be any number of them.
            false => step_of!(self, now).fault(|counts| &counts.other_faults, "one more GOAWAY"),
        }
    }
}
