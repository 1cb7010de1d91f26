//! How long lookups and stores take: a histogram with buckets an eighth of a doubling wide.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets in one doubling of the time, so that a quantile is off by at most 9 %.
const STEPS: u32 = 8;
/// Doublings from 1 ns up: the last bucket begins at 17 s.
const DOUBLINGS: u32 = 34;

/// Counts of durations by size. Adding is one relaxed increment.
#[derive(Debug)]
pub(super) struct Histogram(Box<[AtomicU64]>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..STEPS * (DOUBLINGS + 1)).map(|_| AtomicU64::new(0)).collect())
    }
}

/// Quantiles of some operation's time, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quantiles {
    /// Measurements behind the quantiles.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 95 % took at most this.
    pub p95: f64,
    /// 99 % took at most this.
    pub p99: f64,
}

impl Histogram {
    pub(super) fn add(&self, took: Duration) {
        self.0[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let at = |share: f64| {
            let rank = (share * total as f64).ceil().max(1.0) as u64;
            let mut seen = 0;
            let place = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            place.map_or(0.0, middle)
        };
        Quantiles { count: total, p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

/// The bucket of a duration: its highest bit, and the three below it.
fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
    let doubling = nanos.ilog2().min(DOUBLINGS);
    let step = if doubling < 3 { nanos << (3 - doubling) } else { nanos >> (doubling - 3) };
    (doubling * STEPS) as usize + (step & u64::from(STEPS - 1)) as usize
}

/// Seconds in the middle of a bucket.
fn middle(place: usize) -> f64 {
    let (doubling, step) = (place as u32 / STEPS, place as u32 % STEPS);
    f64::from(doubling).exp2() * (1.0 + (f64::from(step) + 0.5) / f64::from(STEPS)) * 1e-9
}

#[cfg(test)]
mod tests {
    use super::{Duration, Histogram};

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let histogram = Histogram::default();
        for nanos in 1..=100_000_u64 {
            histogram.add(Duration::from_nanos(nanos));
        }
        let found = histogram.quantiles();
        assert_eq!(found.count, 100_000);
        for (quantile, truth) in [(found.p50, 50e-6), (found.p95, 95e-6), (found.p99, 99e-6)] {
            assert!((quantile / truth - 1.0_f64).abs() < 0.09, "{quantile} for {truth}");
        }
    }

    #[test]
    fn extremes_have_a_place() {
        let histogram = Histogram::default();
        assert!(histogram.quantiles().p99.abs() < f64::EPSILON);
        histogram.add(Duration::ZERO);
        histogram.add(Duration::MAX);
        assert_eq!(histogram.quantiles().count, 2);
    }
}
