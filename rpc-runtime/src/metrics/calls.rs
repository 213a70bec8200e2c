//! CallCounts: what is counted of the calls of one procedure, on one side and by one protocol.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    histogram::{AtomicHistogram, Histogram},
    labels::{FATES, FateLabel},
};
use crate::api::status::Code;

/// How many codes there are.
pub(super) const CODES: usize = Code::Unauthenticated as usize + 1;

/// One part of what is counted of the calls of a procedure. No two parts share a cache line.
#[repr(align(128))]
pub(crate) struct CallCounts {
    started: AtomicU64,
    /// Those that have ended, by their codes.
    ended: [AtomicU64; CODES],
    latency: AtomicHistogram,
    /// One-way calls, by what became of them.
    fates: [AtomicU64; FATES.len()],
    /// Times that a handler blocked its thread.
    blocked: AtomicU64,
}

impl CallCounts {
    pub(super) const fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            ended: [const { AtomicU64::new(0) }; CODES],
            latency: AtomicHistogram::new(),
            fates: [const { AtomicU64::new(0) }; FATES.len()],
            blocked: AtomicU64::new(0),
        }
    }

    /// Counts a call that begins. It has to come to its end by [`CallCounts::end`].
    #[inline]
    pub(crate) fn begin(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    /// Counts a call that has ended after `micros` microseconds.
    #[inline]
    pub(crate) fn end(&self, code: Code, micros: u64) {
        self.ended[code as usize].fetch_add(1, Relaxed);
        self.latency.record(micros);
    }

    /// Counts what became of one-way calls.
    #[inline]
    pub(crate) fn one_ways(&self, fate: FateLabel, count: u64) {
        self.fates[fate.index()].fetch_add(count, Relaxed);
    }

    /// Counts a handler that blocks its thread.
    pub(crate) fn blocks(&self) {
        self.blocked.fetch_add(1, Relaxed);
    }
}

/// Says nothing of the numbers: requests have a reference to it.
impl fmt::Debug for CallCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallCounts")
    }
}

/// The sum of all parts at one moment.
#[derive(Clone, Debug)]
pub(super) struct CallTotals {
    pub(super) started: u64,
    pub(super) ended: [u64; CODES],
    pub(super) latency: Histogram,
    pub(super) fates: [u64; FATES.len()],
    pub(super) blocked: u64,
}

impl CallTotals {
    /// Nothing.
    pub(super) fn new() -> Self {
        Self {
            started: 0,
            ended: [0; CODES],
            latency: Histogram::new(),
            fates: [0; FATES.len()],
            blocked: 0,
        }
    }

    /// Adds what was counted in `parts`.
    pub(super) fn add(&mut self, parts: &[CallCounts]) {
        for part in parts {
            // Ends first: a call that begins and ends meanwhile has begun, and is not in flight below zero.
            self.latency.add(&part.latency);
            add_all(&mut self.ended, &part.ended);
            add_all(&mut self.fates, &part.fates);
            self.blocked += part.blocked.load(Relaxed);
        }
        self.started += parts.iter().map(|part| part.started.load(Relaxed)).sum::<u64>();
    }

    /// What was counted since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            started: self.started.saturating_sub(earlier.started),
            ended: std::array::from_fn(|at| self.ended[at].saturating_sub(earlier.ended[at])),
            latency: self.latency.since(&earlier.latency),
            fates: std::array::from_fn(|at| self.fates[at].saturating_sub(earlier.fates[at])),
            blocked: self.blocked.saturating_sub(earlier.blocked),
        }
    }

    /// How many calls have begun and not ended.
    pub(super) fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.ended.iter().sum())
    }

    /// Adds others.
    pub(super) fn merge(&mut self, other: &Self) {
        self.started += other.started;
        self.latency.merge(&other.latency);
        self.blocked += other.blocked;
        for (sum, count) in self.ended.iter_mut().zip(other.ended) {
            *sum += count;
        }
        for (sum, count) in self.fates.iter_mut().zip(other.fates) {
            *sum += count;
        }
    }
}

fn add_all<const N: usize>(sums: &mut [u64; N], counts: &[AtomicU64; N]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count.load(Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// One thing that is counted, in one part.
    #[derive(Clone, Copy, Debug)]
    enum Counted {
        Begin,
        End(Code, u64),
        OneWays(FateLabel, u64),
        Blocks,
    }

    fn counted() -> impl Strategy<Value = (usize, Counted)> {
        let code = (0..17_u32).prop_map(Code::from_number);
        let fate = (1..7_u32).prop_map(|reason| FateLabel::dropped(reason).unwrap());
        let one = prop_oneof![
            4 => Just(Counted::Begin),
            4 => (code, 0..200_000_000_u64).prop_map(|(code, micros)| Counted::End(code, micros)),
            1 => (fate, 1..1000_u64).prop_map(|(fate, count)| Counted::OneWays(fate, count)),
            1 => Just(Counted::Blocks),
        ];
        (0..4_usize, one)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn threads_that_count_at_once_lose_nothing_and_no_number_goes_back(
            work in prop::collection::vec(prop::collection::vec(counted(), 0..200), 1..5)
        ) {
            let parts: Vec<CallCounts> = (0..4).map(|_| CallCounts::new()).collect();
            let total = || {
                let mut total = CallTotals::new();
                total.add(&parts);
                total
            };
            thread::scope(|scope| {
                for work in &work {
                    let parts = &parts;
                    scope.spawn(move || {
                        for &(part, one) in work {
                            let part = &parts[part];
                            match one {
                                Counted::Begin => part.begin(),
                                Counted::End(code, micros) => part.end(code, micros),
                                Counted::OneWays(fate, count) => part.one_ways(fate, count),
                                Counted::Blocks => part.blocks(),
                            }
                        }
                    });
                }
                let mut last = total();
                for _ in 0..20 {
                    let next = total();
                    assert!(next.started >= last.started && next.blocked >= last.blocked);
                    assert!(next.ended.iter().zip(last.ended).all(|(next, last)| *next >= last));
                    assert!(next.latency.count() >= last.latency.count());
                    last = next;
                }
            });
            let mut right = CallTotals::new();
            let mut micros_of_all = 0;
            let mut ends = 0;
            for &(_, one) in work.iter().flatten() {
                match one {
                    Counted::Begin => right.started += 1,
                    Counted::End(code, micros) => {
                        right.ended[code as usize] += 1;
                        micros_of_all += micros;
                        ends += 1;
                    }
                    Counted::OneWays(fate, count) => right.fates[fate.index()] += count,
                    Counted::Blocks => right.blocked += 1,
                }
            }
            let found = total();
            prop_assert_eq!(found.started, right.started);
            prop_assert_eq!(found.ended, right.ended);
            prop_assert_eq!(found.fates, right.fates);
            prop_assert_eq!(found.blocked, right.blocked);
            prop_assert_eq!(found.latency.count(), ends);
            prop_assert_eq!(found.latency.sum(), std::time::Duration::from_micros(micros_of_all));
        }
    }
}
