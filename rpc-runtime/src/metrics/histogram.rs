//! Histogram: how often a duration fell between which bounds.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The number of buckets: one for each microsecond below 10, 16 for each power of ten up to 100 s, and one for all above.
pub(super) const BUCKETS: usize = 10 + 7 * 16 + 1;

/// Where the buckets of a power of ten begin, in tenths of it. They include 1, 2.5 and 5, so that the bounds that are shown are exact.
const STEPS: [u32; 16] = [10, 12, 14, 16, 18, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90];

/// Where the last bucket begins, in microseconds: 100 s.
const LONGEST: u64 = 100_000_000;

/// Where each bucket begins, in microseconds; nothing reaches the others.
static BOUNDS: [u32; 256] = bounds();

/// The bucket of the first duration in each cell. There are 16 cells for each power of two, so a cell holds no more than one bound.
static CELLS: [u8; 512] = cells();

/// The bounds that metrics show, in microseconds. With the one that is infinite they are 20.
pub(super) const SHOWN: [u32; 19] = [
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
];

const fn bounds() -> [u32; 256] {
    let mut bounds = [u32::MAX; 256];
    let mut bucket = 0;
    while bucket < 10 {
        bounds[bucket] = bucket as u32;
        bucket += 1;
    }
    let mut scale = 1;
    while bucket < BUCKETS - 1 {
        let mut step = 0;
        while step < STEPS.len() {
            bounds[bucket] = STEPS[step] * scale;
            bucket += 1;
            step += 1;
        }
        scale *= 10;
    }
    bounds[bucket] = LONGEST as u32;
    bounds
}

const fn cells() -> [u8; 512] {
    let bounds = bounds();
    let mut cells = [0; 512];
    let mut bucket = 0;
    let mut cell = 0;
    while cell < 384 {
        let first = ((16 + cell as u32 % 16) << (cell / 16)) - 16;
        while bounds[bucket + 1] <= first {
            bucket += 1;
        }
        cells[cell] = bucket as u8;
        cell += 1;
    }
    cells
}

/// Returns the bucket of a duration.
#[inline]
fn bucket(micros: u64) -> usize {
    let micros = micros.min(LONGEST) as u32;
    let shifted = micros + 16;
    let octave = 27 - shifted.leading_zeros();
    let cell = (octave * 16 + (shifted >> octave) - 16) as usize;
    let first = CELLS[cell % CELLS.len()];
    let next = first.wrapping_add(1);
    usize::from(first + u8::from(micros >= BOUNDS[usize::from(next)]))
}

/// A histogram in which any thread counts.
///
/// Its buckets are a tenth to a quarter of their lower bound wide.
#[derive(Debug)]
pub(super) struct AtomicHistogram {
    /// Some are never used: their number makes an index cheap to check.
    counts: [AtomicU64; 128],
    sum_us: AtomicU64,
}

impl AtomicHistogram {
    pub(super) const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; 128],
            sum_us: AtomicU64::new(0),
        }
    }

    /// Counts a duration.
    #[inline]
    pub(super) fn record(&self, micros: u64) {
        self.counts[bucket(micros) % 128].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(micros, Relaxed);
    }
}

/// How long calls took, in buckets: a part of a [`Snapshot`](super::Snapshot).
///
/// ```
/// use rpc_runtime::metrics;
///
/// for procedure in metrics::snapshot().procedures() {
///     let latency = procedure.latency();
///     println!("{}: p50 {:?}, p99 {:?}", procedure.path(), latency.quantile(0.5), latency.quantile(0.99));
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Histogram {
    counts: Vec<u64>,
    sum_us: u64,
}

impl Histogram {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            sum_us: 0,
        }
    }

    /// Adds what was counted in a part.
    pub(super) fn add(&mut self, part: &AtomicHistogram) {
        for (count, counted) in self.counts.iter_mut().zip(&part.counts) {
            *count += counted.load(Relaxed);
        }
        self.sum_us = self.sum_us.wrapping_add(part.sum_us.load(Relaxed));
    }

    /// Adds another one.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, counted) in self.counts.iter_mut().zip(&other.counts) {
            *count += counted;
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// What was counted since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts);
        Self {
            counts: counts.map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
        }
    }

    /// Returns how many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// Returns the mean of all durations; none if nothing was counted.
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.sum_us.checked_div(self.count())?;
        Some(Duration::from_micros(mean))
    }

    /// Estimates the duration that a part of all durations stay below: 0.5 asks for the median, 0.99 for that of 99 %.
    ///
    /// None if nothing was counted. The estimate is the middle of the right bucket: it is at most an eighth wrong, from 10 us to
    /// 100 s. Longer durations count as 100 s.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((part * count as f64).ceil() as u64).clamp(1, count);
        let mut before = 0;
        for (bucket, &counted) in self.counts.iter().enumerate() {
            if before + counted >= rank {
                return Some(middle(bucket));
            }
            before += counted;
        }
        // Not reached: the ranks end at the count.
        None
    }

    /// Returns the bounds that metrics show, each with how many durations were below it. The last bound is none, and all are below.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let mut bucket = 0;
        let mut below = 0;
        let up_to = move |bound: Option<u32>| {
            while bucket < BUCKETS && bound.is_none_or(|bound| BOUNDS[bucket] < bound) {
                below += self.counts[bucket];
                bucket += 1;
            }
            (bound.map(|bound| Duration::from_micros(bound.into())), below)
        };
        let bounds = SHOWN.into_iter().map(Some).chain([None]);
        bounds.map(up_to)
    }
}

/// Returns the duration in the middle of a bucket.
fn middle(bucket: usize) -> Duration {
    let first = u64::from(BOUNDS[bucket]);
    let width = match bucket {
        // What is there is whole microseconds, and behind the last bound nothing ends.
        0..10 => 0,
        _ if bucket == BUCKETS - 1 => 0,
        _ => u64::from(BOUNDS[bucket + 1]) - first,
    };
    Duration::from_nanos(first * 1000 + width * 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Histogram {
        let counted = AtomicHistogram::new();
        micros.into_iter().for_each(|micros| counted.record(micros));
        let mut histogram = Histogram::new();
        histogram.add(&counted);
        histogram
    }

    /// Every bound, its neighbours, and some durations between.
    fn durations() -> impl Iterator<Item = u64> {
        let bounds = BOUNDS[..BUCKETS].iter().map(|&bound| u64::from(bound));
        let near = bounds.flat_map(|bound| [bound.saturating_sub(1), bound, bound + 1]);
        near.chain(0..4096).chain((0..10_000).map(|step| step * 10_007))
    }

    #[test]
    fn each_duration_is_in_the_bucket_that_begins_last_before_it() {
        for micros in durations() {
            let right = BOUNDS[..BUCKETS]
                .iter()
                .rposition(|&bound| u64::from(bound) <= micros);
            assert_eq!(Some(bucket(micros)), right, "{micros}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn bounds_grow_by_a_quarter_at_most_and_those_shown_are_among_them() {
        assert_eq!(BOUNDS[BUCKETS - 1], 100_000_000);
        assert_eq!(BOUNDS[BUCKETS], u32::MAX);
        for pair in BOUNDS[10..BUCKETS].windows(2) {
            assert!(pair[0] < pair[1] && pair[1] - pair[0] <= pair[0] / 4, "{pair:?}");
        }
        assert!(SHOWN.iter().all(|shown| BOUNDS[..BUCKETS].contains(shown)));
    }

    #[test]
    fn a_bound_counts_what_is_below_it_and_the_last_one_all() {
        let histogram = of([49, 50, 99, 100, 3_000, u64::MAX / 2]);
        let shown: Vec<_> = histogram.buckets().collect();
        assert_eq!(shown.len(), 20);
        assert_eq!(shown[0], (Some(Duration::from_micros(50)), 1));
        assert_eq!(shown[1], (Some(Duration::from_micros(100)), 3));
        assert_eq!(shown[5], (Some(Duration::from_micros(2_500)), 4));
        assert_eq!(shown[6], (Some(Duration::from_millis(5)), 5));
        assert_eq!(shown[18], (Some(Duration::from_secs(100)), 5));
        assert_eq!(shown[19], (None, 6));
    }

    #[test]
    fn quantiles_are_near_the_right_ones() {
        assert_eq!(of([]).quantile(0.5), None);
        assert_eq!(of([]).mean(), None);
        for most in [20_u64, 1_000, 70_000, 9_000_000] {
            let all: Vec<u64> = (1..=10_000).map(|step| step * most / 10_000).collect();
            let histogram = of(all.iter().copied());
            for part in [0.1, 0.5, 0.9, 0.99, 1.0] {
                let right = all[(part * 10_000.0) as usize - 1] as f64 / 1e6;
                let found = histogram.quantile(part).unwrap().as_secs_f64();
                // Below 10 us a bucket is one microsecond.
                assert!(
                    (found - right).abs() <= 0.125 * right + 1e-6,
                    "{part} of {most}: {found} for {right}"
                );
            }
        }
    }

    #[test]
    fn sums_and_merges_lose_nothing() {
        let mut histogram = of([1, 2, 3]);
        histogram.merge(&of([4_000_000]));
        assert_eq!(
            (histogram.count(), histogram.sum()),
            (4, Duration::from_micros(4_000_006))
        );
        assert_eq!(histogram.mean(), Some(Duration::from_micros(1_000_001)));
        assert_eq!(histogram.quantile(0.0), Some(Duration::from_micros(1)));
        let since = histogram.since(&of([1, 3]));
        assert_eq!(
            (since.count(), since.sum()),
            (2, Duration::from_micros(4_000_002))
        );
    }
}
