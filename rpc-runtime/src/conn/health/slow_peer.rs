//! Slow: what the peer has begun and does not go on with, a frame or a message in fragments.

use crate::conn::{
    Cause, Connection, Cut, Time, end::Life, ours::calls::Reach, outbox::write_stall::Stall, types::earliest,
};
use crate::{
    conn::memory::Share,
    wire::{codec::Rest, frame::control::Reason},
};

/// What the peer has begun.
#[derive(Debug, Default)]
pub(in crate::conn) struct Slow {
    /// A frame of which some bytes have come.
    frame: Option<Begun>,
    /// A message in fragments that is not whole: one of them, if there are several.
    message: Option<Unfinished>,
    /// When a timer came so late that the process must have slept.
    woke: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    since: Time,
    rest: Rest,
}

/// A stretch of time in which some of what is unfinished has to come.
///
/// It is the fragments of all messages that count, for it is the sender's business which of them goes first.
#[derive(Clone, Copy, Debug)]
struct Unfinished {
    /// The message that makes the connection wait; none if it was finished meanwhile.
    id: Option<u64>,
    since: Time,
    /// How many bytes of fragments came.
    bytes: u64,
}

/// So much of a frame, or of unfinished messages, comes in a stretch, at least: as much as a peer has to take of what is written,
/// so that no sender is too slow for one side and quick enough for the other.
const LEAST: u64 = Stall::LEAST;
/// A timer that comes this late says that the process has slept. What the peer did meanwhile is read in as much time.
const LATE: Time = Time::from_secs(1);
/// It may have slept so often: a process that is never on time still finds dead peers.
const SLEEPS: Time = Time::from_secs(60);

impl Slow {
    /// A fragment of `len` bytes came; more are to come, or this was the last one.
    pub(in crate::conn) fn fragment(&mut self, id: u64, len: usize, more: bool, now: Time) {
        let Some(message) = &mut self.message else {
            self.message = more.then_some(Unfinished {
                id: Some(id),
                since: now,
                bytes: 0,
            });
            return;
        };
        message.bytes += len as u64;
        if !more && message.id == Some(id) {
            message.id = None;
        }
    }

    /// Notes that a timer came that was due at `due`.
    pub(in crate::conn) fn note_timer(&mut self, due: Option<Time>, now: Time) {
        let is_late = due.is_some_and(|due| due.saturating_add(LATE) < now);
        let is_rare = self.woke.is_none_or(|woke| woke.saturating_add(SLEEPS) < now);
        if is_late && is_rare {
            self.woke = Some(now);
        }
    }

    /// Whether the peer has begun anything.
    #[inline]
    fn is_anything(&self) -> bool {
        self.frame.is_some() || self.message.is_some()
    }

    /// When something is due that says that the peer is to blame: not before what it did while the process slept is read.
    pub(in crate::conn) fn after_sleep(&self, due: Time) -> Time {
        self.woke.map_or(due, |woke| due.max(woke.saturating_add(LATE)))
    }
}

impl Connection {
    /// All whole frames of what was read are taken in. Behind them stands the beginning of one, or nothing; it is a new one
    /// unless none was whole.
    pub(crate) fn handle_rest(&mut self, rest: Option<Rest>, is_new: bool, now: Time) {
        self.health.slow.frame = rest.map(|rest| Begun {
            since: match self.health.slow.frame {
                Some(begun) if !is_new => begun.since,
                _ => now,
            },
            rest,
        });
        if self.holdings.share.is_told() || self.unread() >= Share::STEP {
            self.note_held();
        }
    }

    /// When it is to be looked at what the peer has begun.
    #[inline]
    pub(in crate::conn) fn slow_due(&self) -> Option<Time> {
        match self.health.slow.is_anything() && matches!(self.end.life, Life::Open) {
            true => self.begun_due(),
            false => None,
        }
    }

    #[cold]
    fn begun_due(&self) -> Option<Time> {
        let message = self.health.slow.message.map(|message| {
            let due = message.since.saturating_add(self.settings.slow_frame);
            self.health.slow.after_sleep(due)
        });
        earliest([self.frame_due(), message])
    }

    fn frame_due(&self) -> Option<Time> {
        let begun = self.health.slow.frame?;
        let stretches = u32::try_from(begun.rest.len.div_ceil(LEAST)).unwrap_or(u32::MAX);
        let time = self.settings.slow_frame.saturating_mul(stretches);
        let due = begun.since.saturating_add(time);
        Some(self.health.slow.after_sleep(due))
    }

    /// Sends a peer away that does not go on with what it has begun.
    pub(in crate::conn) fn check_slow(&mut self, now: Time) {
        if self.slow_due().is_none_or(|due| due > now) {
            return;
        }
        let text = if self.frame_due().is_some_and(|due| due <= now) {
            let len = self.health.slow.frame.map_or(0, |begun| begun.rest.len);
            format!("frame of {len} bytes did not come to its end in time")
        } else if self.is_stuck() {
            let time = self.settings.slow_frame;
            format!("less than {LEAST} bytes of unfinished messages came in {time:?}")
        } else {
            let id = self
                .theirs
                .requests
                .first_unfinished()
                .or_else(|| self.ours.calls.first_unfinished());
            self.health.slow.message = id.map(|id| Unfinished {
                id: Some(id),
                since: now,
                bytes: 0,
            });
            return;
        };
        self.note_cut(Cut::SlowFrame);
        self.put_goaway(Reason::Timeout, self.theirs.requests.last_id(), &text);
        let cause = Cause::Lost { text, source: None };
        self.begin_closing(cause, Reach::Output, self.soon(now), now);
    }

    /// Whether too little came of unfinished messages, one of which was there all the time.
    fn is_stuck(&mut self) -> bool {
        let Some(message) = self.health.slow.message else {
            return false;
        };
        let here = self.health.slow.frame.map_or(0, |begun| begun.rest.here);
        let Some(id) = message.id.filter(|_| message.bytes + here < LEAST) else {
            return false;
        };
        let assembly = if self.side.gives(id) {
            self.ours.calls.assembly(id)
        } else {
            self.theirs.requests.assembly(id)
        };
        assembly.is_some_and(|assembly| !assembly.is_discarded())
    }
}
