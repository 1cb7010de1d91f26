//! A circuit breaker in one atomic word.

use crate::route::atomic::{AtomicU64, Relaxed};
use crate::route::clock::{millis, since};
use crate::{Error, Result};

/// When a tier is set aside and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerOptions {
    /// Failures in a row that open the breaker.
    pub failures: u16,
    /// Seconds until the first probe; doubles with each failed probe, up to 32 times.
    pub cooldown: f64,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures: 5, cooldown: 5.0 }
    }
}

impl BreakerOptions {
    /// Refuses values without a meaning.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names both.
    pub fn check(&self) -> Result<()> {
        if self.cooldown > 0.0 && self.cooldown.is_finite() && self.failures > 0 {
            return Ok(());
        }
        let value = format!("{} failures, {} s", self.failures, self.cooldown);
        let expected = "at least 1 failure and a cooldown above 0 s".to_owned();
        Err(Error::InvalidOption { name: "breaker", value, expected })
    }
}

/// Closed while calls succeed, open after failures in a row, then one probe decides.
///
/// The word holds the milliseconds of the last change, whether a probe is out, how often it opened without a
/// success in between, and the failures in a row.
#[derive(Debug, Default)]
pub struct Breaker(AtomicU64);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct State {
    changed: u32,
    probing: bool,
    opened: u8,
    failures: u16,
}

impl State {
    const fn unpack(word: u64) -> Self {
        Self {
            changed: (word >> 32) as u32,
            probing: word >> 24 & 1 == 1,
            opened: (word >> 16) as u8,
            failures: word as u16,
        }
    }

    const fn pack(self) -> u64 {
        (self.changed as u64) << 32 | (self.probing as u64) << 24 | (self.opened as u64) << 16 | self.failures as u64
    }

    fn wait(self, options: BreakerOptions, now: u32) -> Option<f64> {
        if self.opened == 0 {
            return None;
        }
        let cooldown = options.cooldown * f64::from(1_u32 << (self.opened - 1).min(5));
        let elapsed = since(self.changed, now);
        Some((cooldown - elapsed).max(0.0))
    }
}

impl Breaker {
    /// Seconds until a call would be let through: 0 when closed or ready for a probe.
    pub fn wait(&self, options: BreakerOptions, now: f64) -> f64 {
        State::unpack(self.0.load(Relaxed)).wait(options, millis(now)).unwrap_or(0.0)
    }

    /// Takes the right to call. While open, one caller at a time gets it, as the probe; a probe that never reports
    /// gives way to the next after another cooldown.
    pub fn acquire(&self, options: BreakerOptions, now: f64) -> bool {
        let now = millis(now);
        self.0
            .fetch_update(Relaxed, Relaxed, |word| {
                let state = State::unpack(word);
                match state.wait(options, now) {
                    None => Some(word),
                    Some(0.0) => Some(State { changed: now, probing: true, ..state }.pack()),
                    Some(_) => None,
                }
            })
            .is_ok()
    }

    /// Reports a success: the breaker closes.
    pub fn succeed(&self) {
        self.0.store(0, Relaxed);
    }

    /// Reports a failure; true if the breaker is now open.
    pub fn fail(&self, options: BreakerOptions, now: f64) -> bool {
        let now = millis(now);
        let update = |word| {
            let state = State::unpack(word);
            let failures = state.failures.saturating_add(1);
            let opens = state.probing || (state.opened == 0 && failures >= options.failures);
            let changed = if opens { now } else { state.changed };
            let opened = state.opened.saturating_add(u8::from(opens));
            Some(State { changed, probing: false, opened, failures }.pack())
        };
        // The closure never refuses, so both arms hold the word before the update.
        let (Ok(word) | Err(word)) = self.0.fetch_update(Relaxed, Relaxed, update);
        update(word).is_some_and(|new| State::unpack(new).opened > 0)
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::{Breaker, BreakerOptions};

    const OPTIONS: BreakerOptions = BreakerOptions { failures: 3, cooldown: 10.0 };

    fn open_at(now: f64) -> Breaker {
        let breaker = Breaker::default();
        for last in [false, false, true] {
            assert_eq!(breaker.fail(OPTIONS, now), last);
        }
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let breaker = Breaker::default();
        breaker.fail(OPTIONS, 0.0);
        breaker.fail(OPTIONS, 0.0);
        breaker.succeed();
        assert!(!breaker.fail(OPTIONS, 0.0));
        assert!(breaker.acquire(OPTIONS, 0.0));
        assert!(!open_at(0.0).acquire(OPTIONS, 9.0));
    }

    #[test]
    fn one_probe_at_a_time() {
        let breaker = open_at(0.0);
        assert!((breaker.wait(OPTIONS, 4.0) - 6.0).abs() < 1e-9);
        let let_through = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| breaker.acquire(OPTIONS, 10.0))).collect();
            tries.into_iter().filter_map(|each| each.join().ok()).filter(|&through| through).count()
        });
        assert_eq!(let_through, 1);
        assert!(breaker.acquire(OPTIONS, 20.0), "a lost probe gives way");
    }

    #[test]
    fn a_failed_probe_doubles_the_wait_and_a_success_closes() {
        let breaker = open_at(0.0);
        assert!(breaker.acquire(OPTIONS, 10.0));
        assert!(breaker.fail(OPTIONS, 11.0));
        assert!(!breaker.acquire(OPTIONS, 30.0));
        assert!(breaker.acquire(OPTIONS, 31.0));
        breaker.succeed();
        assert!((0..5).all(|_| breaker.acquire(OPTIONS, 31.0)));
    }
}
