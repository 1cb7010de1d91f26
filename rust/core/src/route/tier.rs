//! What is known of one tier: what it promises, and how it has been doing.

use crate::route::atomic::{AtomicU32, AtomicU64, Relaxed};
use crate::route::breaker::{Breaker, BreakerOptions};
use crate::route::clock::{millis, since};
use crate::route::latency::{LatencyModel, Seen};
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
    /// Given up by the caller after the first token: it shows how fast the tier is, and that the answer is longer.
    Stopped {
        /// Seconds to the first token.
        ttft: f64,
        /// Seconds from the first token until it was given up.
        decode: f64,
        /// Tokens that had come.
        output: u32,
    },
}

/// What a call would take, were it made now.
#[derive(Debug, Clone, Copy)]
pub struct Forecast<'a> {
    latency: &'a LatencyModel,
    prompt: f64,
    limit: f64,
    wait: f64,
    held: Option<f64>,
    /// Seconds to the first token, if anything is known.
    pub ttft: Option<f64>,
    /// Seconds per token after it, if known.
    pub tpot: Option<f64>,
}

impl Forecast<'_> {
    /// Seconds to the end of an answer of so many tokens.
    pub fn e2e(&self, output: f64) -> Option<f64> {
        Some(self.ttft? + self.tpot.unwrap_or(0.0) * (output - 1.0).max(0.0))
    }

    /// Expected tokens of the answer; `None` before any.
    pub fn output(&self) -> Option<f64> {
        self.latency.over_lengths(self.prompt, |tokens| tokens.min(self.limit))
    }

    /// What a call of `seconds` takes from those who come after it, as a share of their deadline: each of them waits
    /// for it, and the longer the line the more of them there are.
    pub fn burden(&self, seconds: f64, deadline: f64) -> f64 {
        let Some(held) = self.held.filter(|held| *held > 0.0) else { return 0.0 };
        self.wait / held * (seconds - self.wait).max(0.0) / deadline
    }

    /// Probability that a call made now ends within a deadline: over the lengths that answers have, and with forecasts
    /// off by about a third. 1 where nothing is known.
    pub fn in_time(&self, deadline: f64, typical: f64) -> f64 {
        let of = |output: f64| {
            let Some(e2e) = self.e2e(output.min(self.limit)) else { return 1.0 };
            // Log-logistic: its spread is that of a lognormal of sigma 0.3, and no transcendental is needed.
            1.0 / (1.0 + (e2e / deadline).powi(6))
        };
        self.latency.over_lengths(self.prompt, of).unwrap_or_else(|| of(typical))
    }
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
        self.join(now).is_some()
    }

    /// As [`Tier::start`]; returns how many calls are under way with it, for [`Tier::leave`].
    pub fn join(&self, now: f64) -> Option<u32> {
        if !self.breaker.acquire(self.options, now) {
            return None;
        }
        self.calls.fetch_add(1, Relaxed);
        Some(self.in_flight.fetch_add(1, Relaxed) + 1)
    }

    /// Ends a call for a prompt of `tokens`; its times are net of any queueing in front of the tier.
    pub fn finish(&self, outcome: Outcome, tokens: f64, now: f64) {
        self.leave(outcome, tokens, self.in_flight(), now);
    }

    /// As [`Tier::finish`], of a call that was under way with so many when it started, itself among them: what it shows
    /// is how the tier is then.
    pub fn leave(&self, outcome: Outcome, tokens: f64, calls: u32, now: f64) {
        let load = self.working(f64::from(calls));
        let _ = self.in_flight.fetch_update(Relaxed, Relaxed, |calls| calls.checked_sub(1));
        match outcome {
            Outcome::Answered { ttft, decode, output } => {
                self.breaker.succeed();
                if let Some(ttft) = ttft {
                    self.latency.observe_ttft(ttft, tokens, now);
                }
                self.latency.observe_load(&Seen { prompt: tokens, ttft, decode, output, whole: true }, load, now);
            }
            Outcome::Stopped { ttft, decode, output } => {
                self.latency.observe_ttft(ttft, tokens, now);
                let ttft = Some(ttft);
                self.latency.observe_load(&Seen { prompt: tokens, ttft, decode, output, whole: false }, load, now);
            }
            Outcome::Failed { waited } => {
                self.failures.fetch_add(1, Relaxed);
                self.breaker.fail(self.options, now);
                self.learn_wait(waited, tokens, load, now);
            }
            Outcome::Cancelled { waited } => self.learn_wait(waited, tokens, load, now),
        }
    }

    /// How many of so many calls are worked on: those beyond the slots stated wait in front.
    fn working(&self, calls: f64) -> f64 {
        self.spec.slots.map_or(calls, |slots| calls.min(f64::from(slots)))
    }

    /// Calls that are worked on together with one that comes now.
    fn next_load(&self) -> f64 {
        self.working(f64::from(self.in_flight()) + 1.0)
    }

    /// A wait without a token is a lower bound: it counts only where it exceeds what was predicted.
    fn learn_wait(&self, waited: Option<f64>, tokens: f64, load: f64, now: f64) {
        if let Some(waited) = waited
            && self.latency.under(load, tokens, now).0.is_none_or(|predicted| waited > predicted)
        {
            self.latency.observe_ttft(waited, tokens, now);
            self.latency.observe_wait(waited, tokens, load, now);
        }
    }

    /// What a call for a prompt of `tokens` would take if it came now.
    pub fn forecast(&self, tokens: f64, limit: f64, now: f64) -> Forecast<'_> {
        let load = self.next_load();
        let (ttft, tpot) = self.latency.under(load, tokens, now);
        let mut forecast = Forecast {
            wait: if load > 1.0 { self.latency.waits(load, now) } else { 0.0 },
            held: self.latency.holds(load, now),
            latency: &self.latency,
            prompt: tokens,
            limit,
            ttft: ttft.or(self.spec.ttft),
            tpot: tpot.or(self.spec.tpot),
        };
        if let (Some(slots), Some(ttft)) = (self.spec.slots.map(f64::from), forecast.ttft) {
            // Those ahead of it beyond the slots, each of the usual length.
            let ahead = (f64::from(self.in_flight.load(Relaxed)) + 1.0 - slots).max(0.0);
            let each = self.latency.holds(slots, now).unwrap_or(ttft);
            let queue = ahead / slots * each;
            forecast.ttft = Some(ttft + queue);
            forecast.wait += queue;
        }
        forecast
    }

    /// Predicted seconds to the first token of a prompt of `tokens`, if anything is known.
    pub fn predicted_ttft(&self, tokens: f64, now: f64) -> Option<f64> {
        self.forecast(tokens, f64::INFINITY, now).ttft
    }

    /// The best this tier has done of late for such prompts; `None` while unknown.
    pub fn best_ttft(&self, tokens: f64) -> Option<f64> {
        self.latency.best_ttft(tokens)
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
        assert!((small.forecast(10.0, f64::INFINITY, 1.0).tpot.unwrap() - 0.1).abs() < 1e-3);
        assert!(small.start(1.0));
        small.finish(Outcome::Cancelled { waited: Some(0.01) }, 10.0, 1.0);
        assert!((small.predicted_ttft(10.0, 1.0).unwrap() - 0.2).abs() < 1e-3);
        let fail = || {
            assert!(small.start(1.0));
            small.finish(Outcome::Failed { waited: Some(3.0) }, 10.0, 1.0);
            small.predicted_ttft(10.0, 1.0).unwrap()
        };
        let first = fail();
        assert!(first > 0.2 && first < 1.5, "one call that hangs is not yet a slow tier: {first}");
        let last = (0..4).fold(first, |_, _| fail());
        assert!(last > 2.0, "{last}");
        assert_eq!((small.in_flight(), small.counts()), (0, (7, 5)));
    }

    #[test]
    fn queueing_beyond_the_slots_predicts_a_longer_wait() {
        let local = tier(TierSpec { slots: Some(1), ttft: Some(1.0), ..TierSpec::new("local", 0.6) });
        assert_eq!(local.predicted_ttft(1.0, 0.0), Some(1.0));
        assert!(local.start(0.0) && local.start(0.0));
        assert_eq!(local.predicted_ttft(1.0, 0.0), Some(3.0));
    }

    #[test]
    fn calls_at_a_load_tell_how_long_the_next_one_waits() {
        let far = tier(TierSpec::new("far", 0.6));
        for round in 0..30 {
            for calls in [2, 40] {
                assert!(far.start(f64::from(round)));
                let ttft = if calls > 20 { 3.0 } else { 0.2 };
                far.leave(
                    Outcome::Answered { ttft: Some(ttft), decode: 1.0, output: 11 },
                    10.0,
                    calls,
                    f64::from(round),
                );
            }
        }
        for _ in 0..39 {
            assert!(far.start(30.0));
        }
        let busy = far.forecast(10.0, f64::INFINITY, 30.0);
        assert!(busy.ttft.unwrap() > 2.0, "{busy:?}");
        assert!(busy.burden(4.0, 10.0) > 0.0);
        assert!(busy.in_time(20.0, 1.0) > 0.95 && busy.in_time(1.0, 1.0) < 0.1);
        for _ in 0..38 {
            far.finish(Outcome::Cancelled { waited: None }, 10.0, 30.0);
        }
        let quiet = far.forecast(10.0, f64::INFINITY, 30.0);
        assert!(quiet.ttft.unwrap() < 0.5 && quiet.burden(4.0, 10.0) < busy.burden(4.0, 10.0), "{quiet:?}");
    }

    #[test]
    fn an_answer_given_up_shows_the_pace_and_a_tier_left_alone_is_tried_again() {
        let slow = tier(TierSpec::new("slow", 0.6));
        let answer = |decode, now| {
            assert!(slow.start(now));
            slow.finish(Outcome::Stopped { ttft: 0.2, decode, output: 101 }, 10.0, now);
        };
        answer(1.0, 0.0);
        let in_time = |now| slow.forecast(10.0, f64::INFINITY, now).in_time(3.0, 1.0);
        assert!(in_time(0.0) > 0.7, "{}", in_time(0.0));
        for _ in 0..5 {
            answer(10.0, 1.0);
        }
        assert!(in_time(1.0) < 0.1, "{}", in_time(1.0));
        assert!(in_time(200.0) > 0.7, "{}", in_time(200.0));
        assert!(slow.start(200.0));
        assert!(in_time(200.0) < 0.1, "by one call at a time: {}", in_time(200.0));
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
