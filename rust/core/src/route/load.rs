//! What a quantity is at a given number of calls in flight, learned as it comes.

use crate::route::atomic::{AtomicU64, Relaxed};
use crate::route::clock::{millis, since};
use crate::route::good::Good;

/// Classes of load: each number up to 8, then four an octave, up to some 500.
const BINS: usize = 33;
/// What the means of a load and of its two neighbours on both sides count for.
const NEAR: [f64; 5] = [0.1, 0.3, 1.0, 0.3, 0.1];
/// Observations from which on a mean is not the surer for more of them.
const ENOUGH: u32 = 20;
/// Weight of a new observation at a load that was often seen.
const LEAST_WEIGHT: f32 = 0.06;
/// Share of the way that the good value moves up with each higher observation.
const GOOD_RISE: f32 = 0.01;
/// Weight of a new observation in the drift.
const DRIFT_WEIGHT: f32 = 0.15;
/// An observation counts as so many times what was expected at most.
const LARGEST_DRIFT: f32 = 8.0;
/// Seconds in which the drift of a tier that is not called loses 63 %: it may have recovered.
const TAU: f64 = 20.0;

fn bin_of(load: f64) -> usize {
    let bin = if load <= 8.0 { load } else { 8.0 + 4.0 * (load / 8.0).log2() };
    (bin.round().max(1.0) as usize).min(BINS - 1)
}

fn load_of(bin: usize) -> f64 {
    if bin <= 8 { bin as f64 } else { 8.0 * ((bin - 8) as f64 / 4.0).exp2() }
}

const fn pack(value: f32, rest: u32) -> u64 {
    (value.to_bits() as u64) << 32 | rest as u64
}

const fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// A positive quantity by load: means that learn slowly, and how far the last observations were off them.
///
/// At a load that was not seen it is that of the nearest, and in proportion above the highest seen: a tier that was
/// never asked so much is not believed to bear it as well.
#[derive(Debug)]
pub(super) struct ByLoad {
    means: [AtomicU64; BINS], // f32 bits of the mean, then its observations; 0 = nothing seen
    drift: AtomicU64,         // f32 bits of the factor less 1, then milliseconds
    good: Good,
}

impl Default for ByLoad {
    fn default() -> Self {
        Self { means: std::array::from_fn(|_| AtomicU64::new(0)), drift: AtomicU64::new(0), good: Good::default() }
    }
}

impl ByLoad {
    /// Adds an observation at a load.
    pub(super) fn observe(&self, value: f64, load: f64, now: f64) {
        let value = value.max(0.0);
        self.good.observe(value, GOOD_RISE);
        let expected = self.mean(load).unwrap_or(value).max(1e-9);
        // Not of logarithms: the mean of a skewed quantity is above what its logarithms say.
        let off = ((value.max(1e-9) / expected) as f32).min(LARGEST_DRIFT) - 1.0;
        let _ = self.drift.fetch_update(Relaxed, Relaxed, |word| {
            let (old, then) = unpack(word);
            // After a silence, what is heard counts for more.
            let kept = fade(then, now);
            let weight = (1.0 - kept).max(DRIFT_WEIGHT);
            Some(pack(old * kept + weight * (off - old * kept), millis(now)))
        });
        let _ = self.means[bin_of(load)].fetch_update(Relaxed, Relaxed, |word| {
            let (mean, seen) = unpack(word);
            let seen = seen.saturating_add(1);
            let weight = (1.0 / seen as f32).max(LEAST_WEIGHT);
            Some(pack(mean + weight * (value as f32 - mean), seen))
        });
    }

    /// What is to be expected at a load, were the last observations to go on; `None` before any.
    pub(super) fn read(&self, load: f64, now: f64) -> Option<f64> {
        let (drift, then) = unpack(self.drift.load(Relaxed));
        let drift = f64::from(drift * fade(then, now));
        Some(self.alone(self.mean(load)? * (1.0 + drift), load, now))
    }

    /// What is usual at a load, whatever the last observations were; `None` before any.
    pub(super) fn usual(&self, load: f64, now: f64) -> Option<f64> {
        Some(self.alone(self.mean(load)?, load, now))
    }

    /// A value at a load; that of a tier with nothing else to do goes towards a good one, the longer it was not called.
    /// So it is tried again, by one call at a time.
    fn alone(&self, value: f64, load: f64, now: f64) -> f64 {
        if load > 1.0 {
            return value;
        }
        let (_, then) = unpack(self.drift.load(Relaxed));
        let good = self.good.read().map_or(value, |good| good.min(value));
        good + (value - good) * f64::from(fade(then, now))
    }

    fn mean(&self, load: f64) -> Option<f64> {
        let bin = bin_of(load);
        let (mut sum, mut weights) = (0.0, 0.0);
        for (at, share) in (bin.saturating_sub(2)..).zip(if bin < 2 { &NEAR[2 - bin..] } else { &NEAR[..] }) {
            let (mean, seen) = self.means.get(at).map_or((0.0, 0), |word| unpack(word.load(Relaxed)));
            let weight = share * f64::from(seen.min(ENOUGH));
            sum += weight * f64::from(mean);
            weights += weight;
        }
        if weights > 0.0 {
            return Some(sum / weights);
        }
        let seen = |at: usize| {
            let word = self.means[at].load(Relaxed);
            (word != 0).then(|| f64::from(unpack(word).0))
        };
        let below = (1..=bin).rev().find_map(|at| Some((at, seen(at)?)));
        let above = (bin..BINS).find_map(|at| Some((at, seen(at)?)));
        match (below, above) {
            (Some((low, a)), Some((high, b))) if high > low => {
                let share = (load_of(bin) - load_of(low)) / (load_of(high) - load_of(low));
                Some(a + share * (b - a))
            }
            (Some((low, a)), None) => Some(a * (load / load_of(low)).max(1.0).sqrt()),
            (Some((_, a)), _) => Some(a),
            (None, Some((_, b))) => Some(b),
            (None, None) => None,
        }
    }
}

fn fade(then: u32, now: f64) -> f32 {
    (-since(then, millis(now)) / TAU).exp() as f32
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::ByLoad;

    fn near(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value / expected - 1.0).abs() < 0.1)
    }

    #[test]
    fn loads_are_kept_apart_and_lie_between_those_seen() {
        let pace = ByLoad::default();
        assert_eq!(pace.read(3.0, 0.0), None);
        for _ in 0..40 {
            pace.observe(1.0, 2.0, 0.0);
            pace.observe(3.0, 32.0, 0.0);
        }
        assert!(near(pace.usual(2.0, 0.0), 1.0) && near(pace.usual(32.0, 0.0), 3.0));
        assert!(pace.usual(12.0, 0.0).is_some_and(|value| value > 1.1 && value < 2.5));
        assert!(near(pace.usual(128.0, 0.0), 6.0), "beyond what was seen it is worse: {:?}", pace.usual(128.0, 0.0));
    }

    #[test]
    fn a_slow_spell_shows_at_once_at_every_load_and_is_forgotten() {
        let pace = ByLoad::default();
        for _ in 0..200 {
            pace.observe(1.0, 2.0, 0.0);
            pace.observe(1.0, 32.0, 0.0);
        }
        for _ in 0..8 {
            pace.observe(4.0, 32.0, 1.0);
        }
        assert!(pace.read(2.0, 1.0).is_some_and(|value| value > 2.0), "{:?}", pace.read(2.0, 1.0));
        assert!(near(pace.read(2.0, 200.0), 1.0), "{:?}", pace.read(2.0, 200.0));
    }
}
