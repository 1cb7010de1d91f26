//! What may be spent on calls beyond one a request: token buckets for retries and hedges, and the pause before a retry.

use crate::route::atomic::{AtomicU64, Relaxed};
use crate::route::clock::{millis, since};
use crate::route::dice::Dice;
use crate::{Error, Result};

/// Thousandths of a call: the unit in which budgets count.
const UNIT: f64 = 1e3;

/// What fills a budget and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetOptions {
    /// Calls earned by each request.
    pub share: f64,
    /// Calls earned by each second, so that a service with little traffic can retry at all.
    pub per_second: f64,
    /// Calls that it holds at most, and at the start.
    pub burst: f64,
}

/// A token bucket in one atomic word: what is left in thousandths of a call, then when time last added to it.
#[derive(Debug)]
pub struct Budget {
    word: AtomicU64,
    options: BudgetOptions,
}

fn pack(level: f64, millis: u32) -> u64 {
    (level as u64) << 32 | u64::from(millis)
}

fn unpack(word: u64) -> (f64, u32) {
    ((word >> 32) as f64, word as u32)
}

impl Budget {
    /// A full budget.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a share outside [0, 1].
    pub fn new(name: &'static str, options: BudgetOptions) -> Result<Self> {
        if !(0.0..=1.0).contains(&options.share) {
            let expected = "a share of all requests between 0 and 1".to_owned();
            return Err(Error::InvalidOption { name, value: options.share.to_string(), expected });
        }
        Ok(Self { word: AtomicU64::new(pack(options.burst * UNIT, 0)), options })
    }

    /// What a word holds at a later time.
    fn filled(&self, word: u64, now: u32) -> (f64, u32) {
        let (level, then) = unpack(word);
        let earned = (since(then, now) * self.options.per_second * UNIT).floor();
        // Time that has not earned a whole unit yet goes on counting.
        let then = if earned >= 1.0 { now } else { then };
        ((level + earned).min(self.options.burst * UNIT), then)
    }

    fn update(&self, now: f64, change: impl Fn(f64) -> Option<f64>) -> bool {
        let now = millis(now);
        self.word
            .fetch_update(Relaxed, Relaxed, |word| {
                let (level, then) = self.filled(word, now);
                change(level).map(|level| pack(level.min(self.options.burst * UNIT), then))
            })
            .is_ok()
    }

    /// Adds what a request earns.
    pub fn earn(&self, now: f64) {
        self.update(now, |level| Some(level + self.options.share * UNIT));
    }

    /// Takes one call; false, and nothing is taken, if less than one is left.
    pub fn take(&self, now: f64) -> bool {
        self.options.share > 0.0 && self.update(now, |level| (level >= UNIT).then_some(level - UNIT))
    }

    /// Calls left.
    pub fn left(&self, now: f64) -> f64 {
        self.filled(self.word.load(Relaxed), millis(now)).0 / UNIT
    }
}

/// Seconds before the first retry; doubles with each further one.
const FIRST_PAUSE: f64 = 0.1;
/// Seconds that a pause of ours reaches at most; what a server asks for may be longer.
const LONGEST_PAUSE: f64 = 5.0;

/// The calls that a router may make beyond one a request.
#[derive(Debug)]
pub struct ExtraCalls {
    retries: Budget,
    hedges: Budget,
    dice: Dice,
}

impl ExtraCalls {
    /// Full budgets.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a share outside [0, 1].
    pub fn new(retry_share: f64, hedge_share: f64) -> Result<Self> {
        let retries = BudgetOptions { share: retry_share, per_second: 0.1, burst: 10.0 };
        let hedges = BudgetOptions { share: hedge_share, per_second: 0.0, burst: 5.0 };
        Ok(Self {
            retries: Budget::new("retry_share", retries)?,
            hedges: Budget::new("hedge_share", hedges)?,
            dice: Dice::default(),
        })
    }

    /// The same with pauses that a seed determines, for replays.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { dice: Dice::seeded(seed), ..self }
    }

    /// Counts a request, which earns its share of both.
    pub fn arrived(&self, now: f64) {
        self.retries.earn(now);
        self.hedges.earn(now);
    }

    /// Takes a retry, if the budget allows one.
    pub fn retry(&self, now: f64) -> bool {
        self.retries.take(now)
    }

    /// Takes a hedge, if the budget allows one.
    pub fn hedge(&self, now: f64) -> bool {
        self.hedges.take(now)
    }

    /// Retries and hedges left.
    pub fn left(&self, now: f64) -> (f64, f64) {
        (self.retries.left(now), self.hedges.left(now))
    }

    /// Seconds to wait before retry number `retry` (the first is 0).
    ///
    /// Half of the pause is drawn by chance, so that requests that failed together do not come back together; what the
    /// server asked for is waited for in full, and the pause added to it.
    pub fn pause(&self, retry: u32, retry_after: Option<f64>) -> f64 {
        let longest = (FIRST_PAUSE * 2.0_f64.powi(retry.min(16) as i32)).min(LONGEST_PAUSE);
        let drawn = longest * (0.5 + 0.5 * self.dice.draw());
        retry_after.filter(|asked| *asked > 0.0).unwrap_or(0.0) + drawn
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::{Budget, BudgetOptions, ExtraCalls};
    use proptest::prelude::*;

    const OPTIONS: BudgetOptions = BudgetOptions { share: 0.1, per_second: 0.5, burst: 2.0 };

    #[test]
    fn requests_and_time_earn_what_calls_spend() {
        let budget = Budget::new("retry_share", OPTIONS).unwrap();
        assert!(budget.take(0.0) && budget.take(0.0) && !budget.take(0.0));
        for _ in 0..9 {
            budget.earn(0.0);
        }
        assert!(!budget.take(0.0));
        budget.earn(0.0);
        assert!(budget.take(0.0) && !budget.take(1.9));
        assert!(budget.take(2.0) && !budget.take(2.0));
        assert!((budget.left(1e4) - 2.0).abs() < 1e-9, "never more than the burst");
    }

    #[test]
    fn little_by_little_time_earns_as_much() {
        let budget = Budget::new("retry_share", OPTIONS).unwrap();
        assert!(budget.take(0.0) && budget.take(0.0));
        for step in 0..2_000 {
            budget.left(f64::from(step) * 1e-3);
            budget.earn(0.0); // out of order, as threads report
        }
        assert!((budget.left(2.0) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_share_of_nothing_spends_nothing() {
        let extra = ExtraCalls::new(0.0, 0.0).unwrap();
        assert!(!extra.retry(1e6) && !extra.hedge(1e6));
        for share in [-0.1, 1.1, f64::NAN] {
            assert!(ExtraCalls::new(share, 0.0).is_err() && ExtraCalls::new(0.0, share).is_err());
        }
    }

    #[test]
    fn pauses_grow_and_never_undercut_the_server() {
        let extra = ExtraCalls::new(0.1, 0.1).unwrap();
        for retry in 0..40 {
            let longest = (0.1 * 2.0_f64.powi(retry)).min(5.0);
            let pause = extra.pause(retry as u32, None);
            assert!(pause >= longest / 2.0 && pause <= longest, "{retry}: {pause}");
            assert!(extra.pause(retry as u32, Some(7.0)) >= 7.0);
        }
        let drawn: Vec<f64> = (0..8).map(|_| extra.pause(0, None)).collect();
        assert!(drawn.iter().any(|pause| (pause - drawn[0]).abs() > 1e-6), "no jitter: {drawn:?}");
    }

    proptest! {
        #[test]
        fn spending_stays_within_burst_share_and_time(steps in prop::collection::vec((any::<bool>(), 0.0..0.5_f64), 1..200)) {
            let budget = Budget::new("hedge_share", OPTIONS).unwrap();
            let (mut now, mut earned, mut spent) = (0.0, 0.0, 0.0);
            for (request, pause) in steps {
                now += pause;
                if request {
                    budget.earn(now);
                    earned += OPTIONS.share;
                } else if budget.take(now) {
                    spent += 1.0;
                }
                prop_assert!(spent <= OPTIONS.burst + earned + now * OPTIONS.per_second + 1e-6);
            }
        }
    }
}
