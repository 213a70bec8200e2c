//! LeastLoaded: the better one of two random backends.

use std::time::Duration;

use super::{Backend, Balancer, Pick, Picker};

/// Picks the better one of two random backends: the default.
///
/// Better is the one with fewer calls in flight for its weight, with quicker replies, and with fewer failures. Latencies count only if they
/// differ twofold and by more than half a millisecond, so that servers that are alike get the same load. A server that has failed lately
/// counts as up to 10,000 times slower, so one that fails quickly draws no calls. One that does not reply at all counts as ever slower.
///
/// Two random choices are nearly as even as the best of all, cost the same for any number of servers, and keep clients from running
/// to the same server together.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastLoaded;

impl Balancer for LeastLoaded {
    fn picker(&self, backends: &[Backend]) -> Picker {
        let backends = backends.to_vec();
        // The sums of weights up to each backend.
        let sums: Vec<f64> = backends
            .iter()
            .scan(0.0, |sum, one| {
                *sum += one.weight();
                Some(*sum)
            })
            .collect();
        Box::new(move |_: &Pick<'_>| {
            let first = draw(&sums, 0.0, 0.0);
            if backends.len() == 1 {
                return 0;
            }
            // The second one is another one: the draw skips the weight of the first.
            let from = if first == 0 { 0.0 } else { sums[first - 1] };
            let second = draw(&sums, from, sums[first]);
            match is_better(&backends[second], &backends[first]) {
                true => second,
                false => first,
            }
        })
    }
}

/// Draws an index by weight, without what lies between `from` and `to`.
fn draw(sums: &[f64], from: f64, to: f64) -> usize {
    let all = sums.last().copied().unwrap_or(0.0) - (to - from);
    let at = fastrand::f64() * all;
    let at = if at < from { at } else { at + (to - from) };
    sums.partition_point(|sum| *sum <= at).min(sums.len() - 1)
}

/// True if a call is better given to `one` than to `other`.
fn is_better(one: &Backend, other: &Backend) -> bool {
    let (mine, theirs) = (one.in_flight(), other.in_flight());
    let busy = |backend: &Backend, in_flight: u32| match mine + theirs {
        // Both are idle: the draw has respected the weights.
        0 => 1.0,
        _ => (f64::from(in_flight) + 1.0) / backend.weight(),
    };
    let (mut slow_one, mut slow_other) = slowness(one.latency(), other.latency());
    let (distrust_one, distrust_other) = (distrust(one), distrust(other));
    // Failures may be quick. That is no reason to prefer them.
    if distrust_one > 1.0 {
        slow_other = 1.0;
    }
    if distrust_other > 1.0 {
        slow_one = 1.0;
    }
    let one = busy(one, mine) * slow_one * distrust_one;
    let other = busy(other, theirs) * slow_other * distrust_other;
    one < other * 0.999
}

/// How much slower one is than the other: 1 for both if that is little, or if it is not known.
fn slowness(one: Option<Duration>, other: Option<Duration>) -> (f64, f64) {
    let (Some(one), Some(other)) = (one, other) else {
        // A newcomer is tried, unless it is known to keep calls waiting.
        let waits = |latency: Option<Duration>, known: Option<Duration>| match (latency, known) {
            (Some(latency), None) if latency >= WAITS => latency.as_secs_f64() / WAITS.as_secs_f64() * 10.0,
            _ => 1.0,
        };
        return (waits(one, other), waits(other, one));
    };
    let (one, other) = (one.max(QUICK).as_secs_f64(), other.max(QUICK).as_secs_f64());
    match one / other {
        ratio if ratio > 2.0 => (ratio, 1.0),
        ratio if ratio < 0.5 => (1.0, 1.0 / ratio),
        _ => (1.0, 1.0),
    }
}

/// How much slower a backend counts because of its failures.
fn distrust(backend: &Backend) -> f64 {
    match backend.success() {
        success if success > 0.9 => 1.0,
        success => 1.0 / success.max(0.01).powi(2),
    }
}

/// Differences between shorter times do not count.
const QUICK: Duration = Duration::from_micros(500);
/// Longer times count even beside a backend that is not known.
const WAITS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::balance::{
        Ended,
        selection::tests::{backends, counts},
    };

    fn train(backend: &Backend, took: Duration, ended: Ended) {
        let now = Instant::now();
        for _ in 0..20 {
            backend.measured().begin(true, now);
            backend.measured().end(true, took, ended, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_backends_get_calls_by_their_weights() {
        let backends = backends(&[1.0, 2.0, 3.0, 4.0]);
        let counts = counts(&LeastLoaded, &backends, 10_000);
        for (count, usual) in counts.into_iter().zip([1000, 2000, 3000, 4000]) {
            assert!(count.abs_diff(usual) < 200, "{count} instead of {usual}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_backend_is_picked_only_beside_none_that_is_quicker() {
        let backends = backends(&[1.0; 4]);
        for (index, backend) in backends.iter().enumerate() {
            let took = if index == 2 { 100 } else { 10 };
            train(backend, Duration::from_millis(took), Ended::Good);
        }
        let counts = counts(&LeastLoaded, &backends, 3000);
        assert_eq!(counts[2], 0, "{counts:?}");
        assert!(counts.iter().all(|count| *count < 1200), "{counts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_fails_quickly_draws_no_calls() {
        let backends = backends(&[1.0; 3]);
        train(&backends[0], Duration::from_micros(100), Ended::Good);
        train(&backends[0], Duration::from_micros(100), Ended::Bad);
        train(&backends[1], Duration::from_millis(50), Ended::Good);
        train(&backends[2], Duration::from_millis(50), Ended::Good);
        assert_eq!(counts(&LeastLoaded, &backends, 1000)[0], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_with_many_calls_in_flight_is_left_alone() {
        let backends = backends(&[1.0; 2]);
        backends[1].measured().begin(false, Instant::now());
        assert_eq!(counts(&LeastLoaded, &backends, 100), [100, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_never_replies_is_left_alone() {
        let backends = backends(&[1.0; 3]);
        backends[0].measured().begin(true, Instant::now());
        for backend in &backends[1..] {
            for _ in 0..5 {
                backend.measured().begin(false, Instant::now());
            }
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(counts(&LeastLoaded, &backends, 1000)[0], 0);
    }
}
