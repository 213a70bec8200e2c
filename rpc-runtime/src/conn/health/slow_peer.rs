//! Slow peer: what the peer has begun and does not go on with, a frame or a message in fragments.

use super::Health;
use crate::{
    conn::{
        Time,
        tuning::{LATE_TIMER, SLEEP_AGAIN, STALL_LEAST},
        types::earliest,
    },
    wire::codec::Rest,
};

/// A frame that the peer has begun, and when this process has slept.
#[derive(Debug, Default)]
pub(super) struct SlowPeer {
    /// A frame of which some bytes have come.
    frame: Option<BegunFrame>,
    /// When a timer came so late that the process must have slept.
    woke: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct BegunFrame {
    since: Time,
    rest: Rest,
}

/// What the peer does not go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum Slowness {
    /// A frame of this many bytes.
    Frame(u64),
    /// A message that is read: the one with this id.
    Message(u64),
    /// Nothing: a new stretch of time begins.
    None,
}

impl Slowness {
    /// What is said of it; none if there is nothing to say. `time` is how long too little came.
    pub(in crate::conn) fn text(self, time: Time) -> Option<String> {
        match self {
            Self::Frame(len) => Some(format!(
                "frame of {len} bytes did not come to its end in time: Limits::slow_frame"
            )),
            Self::Message(_) => Some(format!(
                "less than {STALL_LEAST} bytes of unfinished messages came in {time:?}: Limits::slow_frame"
            )),
            Self::None => None,
        }
    }
}

impl Health {
    /// Notes which frame has begun behind the whole ones; it is a new one unless none was whole.
    #[inline]
    pub(in crate::conn) fn set_begun_frame(&mut self, rest: Option<Rest>, is_new: bool, now: Time) {
        self.slow.frame = rest.map(|rest| BegunFrame {
            since: match self.slow.frame {
                Some(begun) if !is_new => begun.since,
                _ => now,
            },
            rest,
        });
    }

    /// Notes that a timer came that was due at `due`.
    pub(in crate::conn) fn note_timer(&mut self, due: Option<Time>, now: Time) {
        let is_late = due.is_some_and(|due| due.saturating_add(LATE_TIMER) < now);
        let woke = self.slow.woke;
        let is_rare = woke.is_none_or(|woke| woke.saturating_add(SLEEP_AGAIN) < now);
        if is_late && is_rare {
            self.slow.woke = Some(now);
        }
    }

    /// When a timer is due that blames the peer: not before this side has read what the peer did while the process slept.
    pub(in crate::conn) fn after_sleep(&self, due: Time) -> Time {
        let woke = self.slow.woke;
        woke.map_or(due, |woke| due.max(woke.saturating_add(LATE_TIMER)))
    }

    /// When to look at what the peer has begun; `time` is how long too little may come of it.
    #[inline]
    pub(in crate::conn) fn slow_due(&self, time: Time) -> Option<Time> {
        let is_anything = self.slow.frame.is_some() || self.fragments.message().is_some();
        match is_anything {
            true => self.begun_due(time),
            false => None,
        }
    }

    #[cold]
    fn begun_due(&self, time: Time) -> Option<Time> {
        let message = self.fragments.message().map(|message| {
            let due = message.since.saturating_add(time);
            self.after_sleep(due)
        });
        earliest([self.frame_due(time), message])
    }

    fn frame_due(&self, time: Time) -> Option<Time> {
        let begun = self.slow.frame?;
        let stretches = u32::try_from(begun.rest.len.div_ceil(STALL_LEAST)).unwrap_or(u32::MAX);
        let due = begun.since.saturating_add(time.saturating_mul(stretches));
        Some(self.after_sleep(due))
    }

    /// What the peer does not go on with, once [`Health::slow_due`] has passed.
    pub(in crate::conn) fn slowness(&self, time: Time, now: Time) -> Slowness {
        if self.frame_due(time).is_some_and(|due| due <= now) {
            let len = self.slow.frame.map_or(0, |begun| begun.rest.len);
            return Slowness::Frame(len);
        }
        let here = self.slow.frame.map_or(0, |begun| begun.rest.here);
        let message = self.fragments.message();
        let slow = message.filter(|message| message.bytes + here < STALL_LEAST);
        slow.and_then(|message| message.id)
            .map_or(Slowness::None, Slowness::Message)
    }
}
