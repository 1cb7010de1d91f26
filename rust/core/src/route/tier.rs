//! What is known of one tier: what it promises, and how it has been doing.

use crate::route::atomic::{AtomicU32, AtomicU64, Relaxed};
use crate::route::breaker::{Breaker, BreakerOptions};
use crate::route::clock::{millis, since};
use crate::route::latency::LatencyModel;
use crate::{Error, Result};

/// What a tier promises.
#[derive(Debug, Clone, PartialEq)]
pub struct TierSpec {
    /// Its name, unique among the router's tiers.
    pub name: String,
    /// Share of average prompts that it answers well, in (0, 1).
    pub quality: f64,
    /// US dollars per prompt token.
    pub input_cost: f64,
    /// US dollars per answer token.
    pub output_cost: f64,
    /// Tokens that prompt and answer may take together.
    pub context: Option<u32>,
    /// Whether it reads images.
    pub images: bool,
    /// Whether it calls tools.
    pub tools: bool,
    /// Calls that it answers at the same time without queueing.
    pub slots: Option<u32>,
    /// Expected seconds to the first token, until measured.
    pub ttft: Option<f64>,
    /// Expected seconds per answer token, until measured.
    pub tpot: Option<f64>,
}

impl TierSpec {
    /// A free text tier of this name and quality.
    pub fn new(name: &str, quality: f64) -> Self {
        Self {
            name: name.to_owned(),
            quality,
            input_cost: 0.0,
            output_cost: 0.0,
            context: None,
            images: false,
            tools: false,
            slots: None,
            ttft: None,
            tpot: None,
        }
    }

    /// Refuses values without a meaning.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names the field.
    pub fn check(&self) -> Result<()> {
        let bad = |name: &'static str, value: f64, expected: &str| {
            Err(Error::InvalidOption {
                name,
                value: format!("{value} (tier {})", self.name),
                expected: expected.to_owned(),
            })
        };
        if self.name.trim().is_empty() {
            return Err(Error::InvalidOption {
                name: "name",
                value: format!("{:?}", self.name),
                expected: "a tier name that is not blank".to_owned(),
            });
        }
        if !(self.quality > 0.0 && self.quality < 1.0) {
            return bad("quality", self.quality, "a share between 0 and 1, both excluded");
        }
        for (name, cost) in [("input_cost", self.input_cost), ("output_cost", self.output_cost)] {
            if !(cost >= 0.0 && cost.is_finite()) {
                return bad(name, cost, "US dollars, 0 or more");
            }
        }
        for (name, time) in [("ttft", self.ttft), ("tpot", self.tpot)] {
            if let Some(time) = time.filter(|time| !(*time >= 0.0 && time.is_finite())) {
                return bad(name, time, "seconds, 0 or more");
            }
        }
        for (name, count) in [("context_window", self.context), ("max_concurrency", self.slots)] {
            if count == Some(0) {
                return bad(name, 0.0, "at least 1, or None");
            }
        }
        Ok(())
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// It gave a first token after `ttft` seconds and `output` tokens `decode` seconds after it.
    Answered {
        /// Seconds to the first token, if there was any.
        ttft: Option<f64>,
        /// Seconds from the first token to the end.
        decode: f64,
        /// Tokens of the answer.
        output: u32,
    },
    /// It failed: counts against the breaker.
    Failed {
        /// Seconds it was waited for without a first token: the least its latency must have been.
        waited: Option<f64>,
    },
    /// Given up by the caller, or the loser of a hedge: says nothing about the tier's health.
    Cancelled {
        /// As for `Failed`.
        waited: Option<f64>,
    },
}

/// One tier and its state. All methods take `&self`; nothing waits.
#[derive(Debug)]
pub struct Tier {
    /// What it promises.
    pub spec: TierSpec,
    latency: LatencyModel,
    breaker: Breaker,
    in_flight: AtomicU32,
    calls: AtomicU64,
    failures: AtomicU64,
    resting: AtomicU64, // milliseconds of the last request to rest, then for how many
    options: BreakerOptions,
}

impl Tier {
    /// A tier about which nothing has been measured.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] where the promise has no meaning.
    pub fn new(spec: TierSpec, options: BreakerOptions) -> Result<Self> {
        spec.check()?;
        Ok(Self {
            spec,
            latency: LatencyModel::default(),
            breaker: Breaker::default(),
            in_flight: AtomicU32::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            resting: AtomicU64::new(0),
            options,
        })
    }

    /// Starts a call unless the breaker forbids it; every `true` needs one [`Tier::finish`].
    pub fn start(&self, now: f64) -> bool {
        if !self.breaker.acquire(self.options, now) {
            return false;
        }
        self.in_flight.fetch_add(1, Relaxed);
        self.calls.fetch_add(1, Relaxed);
        true
    }

    /// Ends a call for a prompt of `tokens`; its times are net of any queueing in front of the tier.
    pub fn finish(&self, outcome: Outcome, tokens: f64, now: f64) {
        let _ = self.in_flight.fetch_update(Relaxed, Relaxed, |calls| calls.checked_sub(1));
        match outcome {
            Outcome::Answered { ttft, decode, output } => {
                self.breaker.succeed();
                if let Some(ttft) = ttft {
                    self.latency.observe_ttft(ttft, tokens, now);
                }
                self.latency.observe_decode(decode, output, now);
            }
            Outcome::Failed { waited } => {
                self.failures.fetch_add(1, Relaxed);
                self.breaker.fail(self.options, now);
                self.learn_wait(waited, tokens, now);
            }
            Outcome::Cancelled { waited } => self.learn_wait(waited, tokens, now),
        }
    }

    /// A wait without a token is a lower bound: it counts only where it exceeds what was predicted.
    fn learn_wait(&self, waited: Option<f64>, tokens: f64, now: f64) {
        if let Some(waited) = waited
            && self.latency.ttft(tokens, now).is_none_or(|predicted| waited > predicted)
        {
            self.latency.observe_ttft(waited, tokens, now);
        }
    }

    /// Predicted seconds to the first token of a prompt of `tokens`, if anything is known.
    pub fn predicted_ttft(&self, tokens: f64, now: f64) -> Option<f64> {
        let alone = self.latency.ttft(tokens, now).or(self.spec.ttft)?;
        Some(alone + self.queue_wait(alone, now))
    }

    /// Seconds until a new call gets one of the tier's slots: those ahead of it beyond the slots, each of the usual
    /// length. Scaling the time to first token alone kept 39 % of the deadlines of a replayed trace (Azure
    /// conversations at 80 % load, one of three tiers degraded), this 76 %.
    fn queue_wait(&self, ttft: f64, now: f64) -> f64 {
        let Some(slots) = self.spec.slots.map(f64::from) else { return 0.0 };
        let ahead = (f64::from(self.in_flight.load(Relaxed)) + 1.0 - slots).max(0.0);
        let decode = self.predicted_tpot(now).unwrap_or(0.0) * (self.expected_output().unwrap_or(1.0) - 1.0).max(0.0);
        ahead / slots * (ttft + decode)
    }

    /// The best this tier has done of late for such prompts; `None` while unknown.
    pub fn best_ttft(&self, tokens: f64) -> Option<f64> {
        self.latency.best_ttft(tokens)
    }

    /// Predicted seconds per answer token, if known.
    pub fn predicted_tpot(&self, now: f64) -> Option<f64> {
        self.latency.tpot(now).or(self.spec.tpot)
    }

    /// Expected answer length in tokens.
    pub fn expected_output(&self) -> Option<f64> {
        self.latency.output_tokens()
    }

    /// A quantile of the time to first token over the last minutes, once `least` calls support it: for prompts of about
    /// `tokens` as far as there are enough of them, or for all.
    pub fn ttft_quantile(&self, tokens: Option<f64>, q: f64, least: u32, now: f64) -> Option<f64> {
        self.latency.ttft_quantile(tokens, q, least, now)
    }

    /// Sends no call for so many seconds, as its server has asked; up to an hour, the longest request counts.
    pub fn rest(&self, seconds: f64, now: f64) {
        if !(seconds > 0.0 && seconds.is_finite()) {
            return;
        }
        let (left, length) = (self.resting_for(now), seconds.min(3_600.0));
        if length > left {
            self.resting.store(u64::from(millis(now)) << 32 | (length * 1e3).ceil() as u64, Relaxed);
        }
    }

    /// Seconds of rest that its server has asked for and that are left.
    pub fn resting_for(&self, now: f64) -> f64 {
        let word = self.resting.load(Relaxed);
        let length = f64::from(word as u32) / 1e3;
        if word == 0 { 0.0 } else { (length - since((word >> 32) as u32, millis(now))).max(0.0) }
    }

    /// Seconds until breaker and server let a call through; 0 while the tier is up.
    pub fn down_for(&self, now: f64) -> f64 {
        self.breaker.wait(self.options, now).max(self.resting_for(now))
    }

    /// Calls under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Calls started and calls failed since the beginning.
    pub fn counts(&self) -> (u64, u64) {
        (self.calls.load(Relaxed), self.failures.load(Relaxed))
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::{Outcome, Tier, TierSpec};
    use crate::route::breaker::BreakerOptions;

    fn tier(spec: TierSpec) -> Tier {
        Tier::new(spec, BreakerOptions::default()).unwrap()
    }

    #[test]
    fn learns_from_answers_and_from_waits_that_exceed_them() {
        let small = tier(TierSpec { ttft: Some(9.0), ..TierSpec::new("small", 0.6) });
        assert_eq!(small.predicted_ttft(10.0, 0.0), Some(9.0));
        assert!(small.start(0.0));
        small.finish(Outcome::Answered { ttft: Some(0.2), decode: 1.0, output: 11 }, 10.0, 1.0);
        assert!((small.predicted_ttft(10.0, 1.0).unwrap() - 0.2).abs() < 1e-3);
        assert!((small.predicted_tpot(1.0).unwrap() - 0.1).abs() < 1e-3);
        assert!(small.start(1.0));
        small.finish(Outcome::Cancelled { waited: Some(0.01) }, 10.0, 1.0);
        assert!((small.predicted_ttft(10.0, 1.0).unwrap() - 0.2).abs() < 1e-3);
        assert!(small.start(1.0));
        small.finish(Outcome::Failed { waited: Some(3.0) }, 10.0, 1.0);
        assert!(small.predicted_ttft(10.0, 1.0).unwrap() > 2.9);
        assert_eq!((small.in_flight(), small.counts()), (0, (3, 1)));
    }

    #[test]
    fn queueing_beyond_the_slots_predicts_a_longer_wait() {
        let local = tier(TierSpec { slots: Some(1), ttft: Some(1.0), ..TierSpec::new("local", 0.6) });
        assert_eq!(local.predicted_ttft(1.0, 0.0), Some(1.0));
        assert!(local.start(0.0) && local.start(0.0));
        assert_eq!(local.predicted_ttft(1.0, 0.0), Some(3.0));
    }

    #[test]
    fn a_server_that_asks_for_rest_gets_it() {
        let busy = tier(TierSpec::new("busy", 0.6));
        busy.rest(2.0, 1.0);
        busy.rest(0.5, 1.5);
        assert!((busy.down_for(1.5) - 1.5).abs() < 1e-9, "a shorter one does not end a longer one");
        assert!(busy.down_for(3.0) <= 0.0);
        for nonsense in [-1.0, 0.0, f64::NAN, f64::INFINITY] {
            busy.rest(nonsense, 4.0);
        }
        assert!(busy.down_for(4.0) <= 0.0);
        busy.rest(1e9, 4.0);
        assert!((busy.down_for(4.0) - 3_600.0).abs() < 1e-3, "an hour at most");
    }

    #[test]
    fn promises_without_meaning_are_refused() {
        for spec in [
            TierSpec::new(" ", 0.5),
            TierSpec::new("a", 1.0),
            TierSpec::new("a", f64::NAN),
            TierSpec { input_cost: -1.0, ..TierSpec::new("a", 0.5) },
            TierSpec { ttft: Some(f64::INFINITY), ..TierSpec::new("a", 0.5) },
            TierSpec { slots: Some(0), ..TierSpec::new("a", 0.5) },
        ] {
            assert!(spec.check().is_err(), "{spec:?}");
        }
    }
}
