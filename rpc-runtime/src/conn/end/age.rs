//! Age: when a connection that is old, or has been idle for long, drains by itself. It loses no call.

use std::time::Duration;

use super::drain_state::Drain;
use crate::{
    conn::{Settings, Side, Time, types::earliest},
    wire::frame::control::Reason,
};

/// When the connection is too old, or was idle for too long; `unused_since` is none while anything is open.
pub(in crate::conn) fn due(settings: &Settings, unused_since: Option<Time>) -> Option<Time> {
    earliest([old_at(settings), idle_at(settings, unused_since)])
}

/// The drain of a connection that is too old, or was idle for too long, if it is. The side that connected starts no more on it
/// either: it has another where to go.
pub(in crate::conn) fn retire(
    settings: &Settings,
    side: Side,
    unused_since: Option<Time>,
    now: Time,
) -> Option<Drain> {
    let text = reason_to_retire(settings, unused_since, now)?;
    Some(Drain {
        own: side == Side::Connector,
        ..Drain::new(Reason::MaxAge, &text, settings.max_age_grace, now)
    })
}

fn reason_to_retire(settings: &Settings, unused_since: Option<Time>, now: Time) -> Option<String> {
    if old_at(settings).is_some_and(|at| at <= now) {
        return Some(format!("connection is {:?} old: Limits::max_age", whole(now)));
    }
    if idle_at(settings, unused_since).is_some_and(|at| at <= now) {
        let idle = now.saturating_sub(unused_since.unwrap_or(now));
        return Some(format!(
            "connection was idle for {:?}: Limits::max_idle",
            whole(idle)
        ));
    }
    None
}

fn old_at(settings: &Settings) -> Option<Time> {
    Some(spread(settings.max_age?, settings.random))
}

fn idle_at(settings: &Settings, unused_since: Option<Time>) -> Option<Time> {
    let time = spread(settings.max_idle?, settings.random);
    Some(unused_since?.saturating_add(time))
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
