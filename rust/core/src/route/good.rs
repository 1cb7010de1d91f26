//! A good value of something that is observed again and again.

use crate::route::atomic::{AtomicU32, Relaxed};

/// A good value: the least seen, which rises slowly where all later ones are above it.
#[derive(Debug, Default)]
pub(super) struct Good(AtomicU32); // f32 bits; 0 = nothing seen

impl Good {
    /// Adds a value; what was remembered moves up by a share of the way to one above it.
    pub(super) fn observe(&self, value: f64, rise: f32) {
        let value = value as f32;
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let good = f32::from_bits(word);
            let good = if word == 0 || value < good { value } else { good + rise * (value - good) };
            Some(good.max(f32::MIN_POSITIVE).to_bits())
        });
    }

    /// The value; `None` before any.
    pub(super) fn read(&self) -> Option<f64> {
        let good = f32::from_bits(self.0.load(Relaxed));
        (good > 0.0).then_some(f64::from(good))
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::Good;

    #[test]
    fn the_good_value_is_the_least_and_rises_slowly() {
        let good = Good::default();
        assert_eq!(good.read(), None);
        good.observe(2.0, 0.05);
        good.observe(0.1, 0.05);
        assert!((good.read().unwrap() - 0.1).abs() < 1e-6);
        good.observe(2.0, 0.05);
        assert!(good.read().is_some_and(|value| value < 0.2));
        (0..200).for_each(|_| good.observe(2.0, 0.05));
        assert!(good.read().is_some_and(|value| value > 1.9));
    }

    #[test]
    fn none_is_as_good_as_nothing_at_all() {
        let good = Good::default();
        good.observe(0.0, 0.05);
        good.observe(1.0, 0.05);
        assert!(good.read().is_some_and(|value| value < 0.06), "{:?}", good.read());
    }
}
