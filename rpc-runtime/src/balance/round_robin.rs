//! RoundRobin: one backend after the other.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Backend, Balancer, Pick, Picker};

/// Picks one backend after the other, each as often as its weight says.
///
/// Each client begins at a random one, so that many clients with few calls do not all begin at the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl Balancer for RoundRobin {
    fn picker(&self, backends: &[Backend]) -> Picker {
        let greatest = backends.iter().map(Backend::weight).fold(0.0, f64::max);
        // In each round a backend is picked if its sum of shares passes a whole number there.
        let shares: Vec<f64> = backends.iter().map(|one| one.weight() / greatest).collect();
        let turn = AtomicUsize::new(fastrand::usize(..1 << 16));
        Box::new(move |_: &Pick<'_>| {
            loop {
                let turn = turn.fetch_add(1, Relaxed);
                let (round, index) = (turn / shares.len(), turn % shares.len());
                let round = (round % ROUNDS) as f64;
                let passes = (shares[index] * (round + 1.0)).floor() > (shares[index] * round).floor();
                // The heaviest one is picked in each round, so this ends.
                if shares[index] >= 1.0 || passes {
                    return index;
                }
            }
        })
    }
}

/// After so many rounds the sums begin anew, so that a number without end does not lose its fraction.
const ROUNDS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::selection::tests::{backends, counts};

    #[test]
    fn each_backend_gets_its_turn() {
        let backends = backends(&[1.0, 1.0, 1.0]);
        assert_eq!(counts(&RoundRobin, &backends, 300), [100, 100, 100]);
    }

    #[test]
    fn turns_follow_weights() {
        let backends = backends(&[1.0, 4.0, 0.5]);
        let counts = counts(&RoundRobin, &backends, 5500);
        for (count, usual) in counts.into_iter().zip([1000, 4000, 500]) {
            assert!(count.abs_diff(usual) <= 10, "{count} instead of {usual}");
        }
    }
}
