//! RingHash: the same backend for the same key.

use super::{
    Backend, Balancer, Pick, Picker,
    hash::{hash, mix},
};

/// Picks the same backend for the same key: each backend has places on a ring, and a key goes to the next place.
///
/// All clients with the same set of endpoints agree, in any process. If a backend comes or goes, only its share of the keys moves. A call
/// without a key goes to a random backend. The key is a field that the .proto file names, by `hash_by`, or that of
/// [`Call::hash_key`](crate::Call::hash_key).
///
/// While a backend is new, and its weight grows, its keys move to it step by step.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingHash;

impl Balancer for RingHash {
    fn picker(&self, backends: &[Backend]) -> Picker {
        let sum: f64 = backends.iter().map(Backend::weight).sum();
        let wanted = (backends.len() * PLACES_OF_EACH).clamp(MIN_PLACES, MAX_PLACES) as f64;
        let mut ring = Vec::new();
        for (index, backend) in backends.iter().enumerate() {
            let own = hash(backend.endpoint().address().as_bytes());
            let places = (wanted * backend.weight() / sum).round().max(1.0) as u64;
            ring.extend((0..places).map(|place| (mix(own.wrapping_add(place.wrapping_mul(GOLDEN))), index)));
        }
        ring.sort_unstable();
        Box::new(move |pick: &Pick<'_>| {
            let hash = pick.hash().unwrap_or_else(|| fastrand::u64(..));
            let next = ring.partition_point(|(place, _)| *place < hash);
            ring[next % ring.len()].1
        })
    }
}

/// How many places a backend of the usual weight has.
const PLACES_OF_EACH: usize = 160;
const MIN_PLACES: usize = 1024;
/// More places take memory and time, and make the shares hardly more even. Each backend has one at least.
const MAX_PLACES: usize = 1 << 17;
/// An odd number that spreads small numbers over all bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::selection::tests::backends;

    fn picks(backends: &[Backend]) -> Vec<String> {
        let picker = RingHash.picker(backends);
        let pick = |key: u32| {
            let hash = Some(hash(&key.to_le_bytes()));
            let index = picker(&Pick { procedure: "", hash });
            backends[index].endpoint().address().to_owned()
        };
        (0..10_000).map(pick).collect()
    }

    #[test]
    fn a_backend_that_leaves_moves_only_its_own_keys() {
        let all = backends(&[1.0; 10]);
        let (before, after) = (picks(&all), picks(&all[1..]));
        let left = all[0].endpoint().address();
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || before == left);
        }
        assert!(before.iter().any(|one| one == left));
    }

    #[test]
    fn keys_spread_by_weight() {
        let all = backends(&[1.0, 1.0, 1.0, 1.0, 4.0]);
        let picks = picks(&all);
        for (index, usual) in [1250, 1250, 1250, 1250, 5000].into_iter().enumerate() {
            let address = all[index].endpoint().address();
            let count = picks.iter().filter(|one| *one == address).count();
            assert!(count.abs_diff(usual) < usual / 4, "{count} instead of {usual}");
        }
    }

    #[test]
    fn the_order_of_endpoints_makes_no_difference() {
        let mut all = backends(&[1.0; 7]);
        let before = picks(&all);
        all.reverse();
        assert_eq!(picks(&all), before);
    }
}
