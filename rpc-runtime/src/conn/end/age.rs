//! Age: a connection that is old, or has been idle for long, comes to its end by itself, and loses no call.

use std::time::Duration;

use crate::conn::{Connection, Side, Time, end::Life, end::drain::Drain, types::earliest};
use crate::wire::frame::{Kind, control::Reason};

impl Connection {
    /// When the connection is too old, or was idle for too long.
    pub(in crate::conn) fn age_due(&self) -> Option<Time> {
        if self.end.drain.is_some() {
            return None;
        }
        earliest([self.old_at(), self.idle_at()])
    }

    /// Begins the connection's end if it is due. A handshake has a limit of its own.
    pub(in crate::conn) fn run_age(&mut self, now: Time) {
        if self.end.drain.is_some() || !matches!(self.end.life, Life::Open) {
            return;
        }
        if self.old_at().is_some_and(|at| at <= now) {
            self.retire(&format!("connection is {:?} old", whole(now)), now);
        } else if self.idle_at().is_some_and(|at| at <= now) {
            let idle = now.saturating_sub(self.health.last_used);
            self.retire(&format!("connection was idle for {:?}", whole(idle)), now);
        }
    }

    /// Something of a user goes one way or the other.
    pub(in crate::conn) fn note_use(&mut self, now: Time) {
        self.health.last_used = now;
    }

    /// As [`Connection::note_use`], if a frame of the peer is about something of a user.
    pub(in crate::conn) fn note_frame(&mut self, kind: Kind, now: Time) {
        if matches!(
            kind,
            Kind::Call | Kind::Send | Kind::Data | Kind::Reply | Kind::Cancel
        ) {
            self.note_use(now);
        }
    }

    fn old_at(&self) -> Option<Time> {
        Some(spread(self.settings.max_age?, self.settings.random))
    }

    fn idle_at(&self) -> Option<Time> {
        let time = spread(self.settings.max_idle?, self.settings.random);
        self.is_unused()
            .then(|| self.health.last_used.saturating_add(time))
    }

    /// Whether nothing is open, unfinished or unwritten, one-way requests left out that were sent whole.
    fn is_unused(&self) -> bool {
        self.ours.calls.is_empty()
            && self.theirs.requests.is_empty()
            && !self.is_unwritten()
            && self.is_quiet()
    }

    /// Drains this connection, and nothing but it. The side that connected starts no more on it either: it has another
    /// where to go.
    fn retire(&mut self, text: &str, now: Time) {
        let grace = self.settings.max_age_grace;
        let drain = Drain {
            own: self.side == Side::Connector,
            ..Drain::new(Reason::MaxAge, text, grace, now)
        };
        self.start_drain(drain, now);
    }
}

/// `time`, 10 % more or less as `random` says.
fn spread(time: Duration, random: u32) -> Time {
    let nanos = time.as_nanos();
    let least = nanos - nanos / 10;
    let more = (nanos / 5).saturating_mul(u128::from(random)) >> 32;
    Duration::from_nanos(u64::try_from(least.saturating_add(more)).unwrap_or(u64::MAX))
}

/// `time` in a form that a person likes to read.
fn whole(time: Time) -> Duration {
    if time < Duration::from_secs(10) {
        Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    } else {
        Duration::from_secs(time.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_ten_percent_either_way() {
        let hour = Duration::from_secs(3600);
        assert_eq!(spread(hour, 0), Duration::from_secs(3240));
        assert_eq!(spread(hour, 1 << 31), hour);
        let most = spread(hour, u32::MAX);
        assert!(
            most > Duration::from_secs(3959) && most < Duration::from_secs(3960),
            "{most:?}"
        );
        assert!(spread(Duration::MAX, u32::MAX) > Duration::from_secs(1 << 30));
        assert_eq!(spread(Duration::ZERO, 7), Duration::ZERO);
    }
}
