//! Chance, without a lock: numbers that spread load, never keep a secret.

use std::hash::{BuildHasher, RandomState};

use crate::route::atomic::{AtomicU64, Relaxed};

/// `SplitMix64` (Steele, Lea and Flood 2014): one addition to shared state, the rest is mixing.
#[derive(Debug)]
pub(super) struct Dice(AtomicU64);

impl Default for Dice {
    fn default() -> Self {
        Self(AtomicU64::new(RandomState::new().hash_one(0)))
    }
}

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub(super) const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(mix(seed)))
    }

    /// A number in [0, 1).
    pub(super) fn draw(&self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `count`, which is at least 1.
    pub(super) fn below(&self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    fn next(&self) -> u64 {
        mix(self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed))
    }
}

/// Spreads a number over all 64 bits.
pub(super) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::Dice;

    #[test]
    fn every_side_comes_up_about_as_often() {
        let dice = Dice::default();
        let mut counts = [0; 5];
        for _ in 0..10_000 {
            counts[dice.below(5)] += 1;
            assert!((0.0..1.0).contains(&dice.draw()));
        }
        assert!(counts.iter().all(|count| (1_700..2_300).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_seed_says_how_they_fall() {
        let draws = |seed| {
            let dice = Dice::seeded(seed);
            [0; 8].map(|_: u64| dice.next())
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }
}
