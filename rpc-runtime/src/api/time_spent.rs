//! TimeSpent: where the time of a call went.

use std::{fmt, time::Duration};

/// Where the time of a call went, as far as it is known on the side of its caller.
///
/// [`Error::time_spent`](crate::Error::time_spent) returns it for a call whose deadline passed. `{spent}` prints
/// `1ms queued here, 49ms since it was sent`, or, if the server has told its part, `1ms queued here, 30ms queued there, 18ms in the handler,
/// 1ms on the wire`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSpent {
    queued_here: Duration,
    /// None if the call was never sent.
    since_sent: Option<Duration>,
    there: Option<ServerTime>,
}

/// What a server has told of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServerTime {
    queued: Duration,
    ran: Duration,
}

impl TimeSpent {
    /// The time of a call that was never sent.
    pub(crate) fn unsent(queued_here: Duration) -> Self {
        Self {
            queued_here,
            since_sent: None,
            there: None,
        }
    }

    /// The time of a call that was sent after `queued_here`, and took `total`.
    pub(crate) fn sent(queued_here: Duration, total: Duration) -> Self {
        Self {
            queued_here,
            since_sent: Some(total.saturating_sub(queued_here)),
            there: None,
        }
    }

    /// Adds how long the server says that the call waited and ran.
    pub(crate) fn with_server_time(self, queued: Duration, ran: Duration) -> Self {
        Self {
            there: Some(ServerTime { queued, ran }),
            ..self
        }
    }

    /// Returns how long the call waited here: for a connection, for credit, for its turn.
    pub fn queued_here(&self) -> Duration {
        self.queued_here
    }

    /// Returns the time since the call was sent; none if it never was.
    pub fn since_sent(&self) -> Option<Duration> {
        self.since_sent
    }

    /// Returns how long the call waited at the server; none if the server has not said it.
    pub fn queued_there(&self) -> Option<Duration> {
        self.there.map(|there| there.queued)
    }

    /// Returns how long the handler ran; none if the server has not said it.
    pub fn ran(&self) -> Option<Duration> {
        self.there.map(|there| there.ran)
    }

    /// Returns what is left of the time since the call was sent: on the wire, and in the queues of the operating systems. None if the server
    /// has not told its part.
    pub fn on_the_wire(&self) -> Option<Duration> {
        let there = self.there?;
        Some(self.since_sent?.saturating_sub(there.queued + there.ran))
    }
}

impl fmt::Display for TimeSpent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} queued here", whole(self.queued_here))?;
        match (self.there, self.since_sent) {
            (_, None) => Ok(()),
            (None, Some(since)) => write!(f, ", {:?} since it was sent", whole(since)),
            (Some(ServerTime { queued, ran }), Some(_)) => write!(
                f,
                ", {:?} queued there, {:?} in the handler, {:?} on the wire",
                whole(queued),
                whole(ran),
                whole(self.on_the_wire().unwrap_or_default())
            ),
        }
    }
}

/// In whole microseconds, which are precise enough to read.
fn whole(time: Duration) -> Duration {
    Duration::from_micros(time.as_micros().try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told() {
        let ms = Duration::from_millis;
        let unsent = TimeSpent::unsent(ms(50));
        assert_eq!(unsent.to_string(), "50ms queued here");
        let sent = TimeSpent::sent(Duration::from_nanos(1_234_567), ms(50));
        assert_eq!(
            sent.to_string(),
            "1.234ms queued here, 48.765ms since it was sent"
        );
        assert_eq!(
            (sent.queued_there(), sent.ran(), sent.on_the_wire()),
            (None, None, None)
        );
        let told = TimeSpent::sent(ms(1), ms(50)).with_server_time(ms(30), ms(18));
        assert_eq!(
            told.to_string(),
            "1ms queued here, 30ms queued there, 18ms in the handler, 1ms on the wire"
        );
        // Two clocks may disagree a little.
        let odd = TimeSpent::sent(ms(1), ms(2)).with_server_time(ms(30), ms(18));
        assert_eq!(odd.on_the_wire(), Some(Duration::ZERO));
    }
}
