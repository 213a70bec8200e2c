//! Pace: how fast a peer must go on with what it has begun.

use std::time::Duration;

use tokio::time::Instant;

/// How fast a peer must send or take something: 64 KiB, or the rest, within some time. It is the rule of native connections.
#[derive(Debug)]
pub(crate) struct Pace {
    time: Duration,
    due: Instant,
    moved: usize,
}

impl Pace {
    /// Begins now.
    pub(crate) fn new(time: Duration) -> Self {
        Self {
            time,
            due: after(time),
            moved: 0,
        }
    }

    /// When the peer is too slow, unless more moves before.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Notes that `bytes` more have moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved += bytes;
        if self.moved >= LEAST {
            *self = Self::new(self.time);
        }
    }
}

/// Now and `time` more; far away for one that no clock reaches.
pub(crate) fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}

/// How much must move within the time.
const LEAST: usize = 64 << 10;
const FAR: Duration = Duration::from_secs(86_400 * 365);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_enough_bytes_give_more_time() {
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        let mut pace = Pace::new(second);
        tokio::time::advance(second / 2).await;
        pace.moved(LEAST - 1);
        assert_eq!(pace.due(), begun + second);
        pace.moved(1);
        assert_eq!(pace.due(), begun + second * 3 / 2);
        assert!(Pace::new(Duration::MAX).due() > begun + second);
    }
}
