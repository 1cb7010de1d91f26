//! The price of quality (lambda) that meets a target on a sample of prompts.
//!
//! For one prompt the utility of each tier is a line in lambda, quality - lambda * relative cost, and the choice is the
//! upper envelope of these lines. Over a sample, what a lambda comes to is therefore a step function with one step for
//! each corner of an envelope: all of them are looked at, so that what is found is exact.

use crate::route::decide::{Candidate, Verdict};
use crate::{Error, Result};

/// Lambdas closer than this, relatively, are the same step.
const SAME: f64 = 1e-9;

/// What is aimed at, on average over the sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Share of prompts that go to the strong tier, or to one as dear: the nearest that there is.
    StrongShare(f64),
    /// Predicted US dollars a prompt: the most quality that costs no more.
    Cost(f64),
    /// Probability of a good answer: the least cost with no less.
    Quality(f64),
}

impl Target {
    /// Reads a target's name.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names what would be accepted.
    pub fn parse(name: &str, value: f64) -> Result<Self> {
        match name {
            "strong share" => Ok(Self::StrongShare(value)),
            "cost" => Ok(Self::Cost(value)),
            "quality" => Ok(Self::Quality(value)),
            _ => Err(refuse("target", format!("{name:?}"), "\"strong share\", \"cost\" or \"quality\"")),
        }
    }
}

/// What a lambda comes to on the sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    /// Lambda; see [`crate::route::Policy::cost_weight`].
    pub cost_weight: f64,
    /// Share of prompts that go to the strong tier, or to one as dear.
    pub strong_share: f64,
    /// Predicted US dollars a prompt.
    pub cost: f64,
    /// Mean probability of a good answer.
    pub quality: f64,
    /// Share of prompts by tier.
    pub shares: Vec<f64>,
}

/// What each prompt of a sample could be answered by.
#[derive(Debug)]
pub struct Sample {
    tiers: usize,
    priced: bool,
    prompts: Vec<Options>,
}

/// One prompt's tiers; a call counts as strong from this relative cost on.
#[derive(Debug)]
struct Options {
    candidates: Vec<Candidate>,
    strong_from: f64,
}

/// A corner of one prompt's envelope: from this lambda on, another tier is chosen.
struct Corner {
    cost_weight: f64,
    from: Choice,
    to: Choice,
}

#[derive(Clone, Copy)]
struct Choice {
    tier: usize,
    strong: bool,
    cost: f64,
    quality: f64,
}

/// Sums over the sample while lambda rises.
struct Sums {
    strong: i64,
    cost: f64,
    quality: f64,
    tiers: Vec<i64>,
}

impl Sums {
    fn add(&mut self, choice: Choice, times: i64) {
        self.strong += times * i64::from(choice.strong);
        self.cost += times as f64 * choice.cost;
        self.quality += times as f64 * choice.quality;
        self.tiers[choice.tier] += times;
    }
}

impl Options {
    fn choice(&self, each: &Candidate) -> Choice {
        Choice { tier: each.tier, strong: each.relative >= self.strong_from, cost: each.cost, quality: each.quality }
    }

    /// The choice where lambda is as good as 0, and the corners after it.
    fn envelope(&self, corners: &mut Vec<Corner>) -> Option<Choice> {
        let usable = || self.candidates.iter().filter(|each| each.verdict == Verdict::Eligible);
        let better = |a: &&Candidate, b: &&Candidate| {
            // Of equal lines the first given wins, as in a decision; `max_by` would keep the last.
            let order = a.quality.total_cmp(&b.quality).then(b.relative.total_cmp(&a.relative));
            order.then(b.tier.cmp(&a.tier))
        };
        let mut current = usable().max_by(better)?;
        let first = self.choice(current);
        loop {
            let cheaper = usable().filter(|each| each.relative < current.relative);
            let crossing = |each: &Candidate| (current.quality - each.quality) / (current.relative - each.relative);
            let next = cheaper.min_by(|a, b| {
                let order = crossing(a).total_cmp(&crossing(b));
                order.then(a.relative.total_cmp(&b.relative)).then(a.tier.cmp(&b.tier))
            });
            let Some(next) = next else { return Some(first) };
            corners.push(Corner { cost_weight: crossing(next), from: self.choice(current), to: self.choice(next) });
            current = next;
        }
    }
}

impl Sample {
    /// A sample without prompts, for a router of so many tiers; `priced` where any of them has a price.
    pub fn new(tiers: usize, priced: bool) -> Self {
        Self { tiers, priced, prompts: Vec::new() }
    }

    /// Adds a prompt's options, as [`crate::route::Router::options`] gives them; `strong` is the strong tier's number.
    pub fn add(&mut self, candidates: Vec<Candidate>, strong: usize) {
        let strong_from = candidates[strong].relative;
        self.prompts.push(Options { candidates, strong_from });
    }

    /// The lambda that meets a target.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] without prompts, and for a target that no lambda attains; the message has the range.
    pub fn calibrate(&self, target: Target) -> Result<Calibrated> {
        let steps = self.steps();
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
            return Err(refuse("prompts", "[]".to_owned(), "at least one prompt"));
        };
        let range = |low: f64, high: f64| format!("from {low:.6} to {high:.6}, what these prompts attain");
        let found = match target {
            Target::StrongShare(share) => {
                let slack = 0.5 / self.prompts.len() as f64;
                if !(last.strong_share - slack <= share && share <= first.strong_share + slack) {
                    let expected = range(last.strong_share, first.strong_share);
                    return Err(refuse("strong_share", share.to_string(), &format!("a share {expected}")));
                }
                let far = |step: &Calibrated| (step.strong_share - share).abs();
                steps.iter().min_by(|a, b| far(a).total_cmp(&far(b)))
            }
            Target::Cost(_) if !self.priced => {
                return Err(refuse("cost", "a target".to_owned(), "tiers with prices: none has one"));
            }
            Target::Cost(cost) => {
                let enough = |step: &&Calibrated| step.cost <= cost * (1.0 + SAME);
                let Some(found) = steps.iter().find(enough) else {
                    let expected = range(last.cost, first.cost);
                    return Err(refuse("cost", cost.to_string(), &format!("US dollars a prompt {expected}")));
                };
                Some(found)
            }
            Target::Quality(quality) => {
                let enough = |step: &&Calibrated| step.quality >= quality - SAME;
                let Some(found) = steps.iter().rfind(enough) else {
                    let expected = range(last.quality, first.quality);
                    return Err(refuse("quality", quality.to_string(), &format!("a mean probability {expected}")));
                };
                Some(found)
            }
        };
        Ok(found.unwrap_or(first).clone())
    }

    /// What lambda comes to between each two corners, from the lowest lambda on.
    fn steps(&self) -> Vec<Calibrated> {
        if self.prompts.is_empty() {
            return Vec::new();
        }
        let mut corners = Vec::new();
        let mut sums = Sums { strong: 0, cost: 0.0, quality: 0.0, tiers: vec![0; self.tiers] };
        for prompt in &self.prompts {
            if let Some(choice) = prompt.envelope(&mut corners) {
                sums.add(choice, 1);
            }
        }
        corners.sort_by(|a, b| a.cost_weight.total_cmp(&b.cost_weight));
        let mut steps = Vec::new();
        let (mut low, mut at) = (0.0, 0);
        loop {
            let high = corners.get(at).map_or(2.0 * low, |corner| corner.cost_weight);
            // Without any corner, any lambda does.
            let between = if corners.is_empty() { 1.0 } else { f64::midpoint(low, high) };
            steps.push(self.step(between, &sums));
            if at == corners.len() {
                return steps;
            }
            while let Some(corner) = corners.get(at).filter(|corner| corner.cost_weight <= high * (1.0 + SAME)) {
                sums.add(corner.from, -1);
                sums.add(corner.to, 1);
                low = corner.cost_weight;
                at += 1;
            }
        }
    }

    fn step(&self, cost_weight: f64, sums: &Sums) -> Calibrated {
        let count = self.prompts.len() as f64;
        Calibrated {
            cost_weight,
            strong_share: sums.strong as f64 / count,
            cost: sums.cost / count,
            quality: sums.quality / count,
            shares: sums.tiers.iter().map(|&calls| calls as f64 / count).collect(),
        }
    }
}

fn refuse(name: &'static str, value: String, expected: &str) -> Error {
    Error::InvalidOption { name, value, expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Calibrated, Sample, Target};
    use crate::Error;
    use crate::route::decide::{Policy, Router};
    use crate::route::head::Head;
    use crate::route::request::{Conversation, Need};
    use crate::route::tier::TierSpec;

    const PROMPTS: [&str; 8] = [
        "What is the capital of France?",
        "Prove, step by step, that the square root of 2 is irrational.",
        "Translate 'good morning' to French.",
        "Write a function that merges two sorted lists, and analyse its complexity.",
        "Hi!",
        "Tom buys 3 pens at 2 dollars each and 5 pads at 4 dollars. How much does he pay?",
        "Which?\nA. one\nB. two\nC. three\nAnswer:",
        "Derive the Euler-Lagrange equation and apply it to the double pendulum.",
    ];

    fn specs(tiers: &[(f64, f64)]) -> Vec<TierSpec> {
        let spec = |(at, (quality, price)): (usize, &(f64, f64))| TierSpec {
            input_cost: price * 1e-6,
            output_cost: price * 4e-6,
            ..TierSpec::new(&at.to_string(), *quality)
        };
        tiers.iter().enumerate().map(spec).collect()
    }

    fn router(tiers: &[(f64, f64)], cost_weight: f64) -> Router {
        Router::new(specs(tiers), Head::default(), Policy { cost_weight, ..Policy::default() }).unwrap()
    }

    fn sample(tiers: &[(f64, f64)], strong: usize) -> Sample {
        let router = router(tiers, 0.0);
        let mut sample = Sample::new(tiers.len(), router.is_priced());
        for text in PROMPTS {
            let request = Conversation::prompt(text).unwrap();
            sample.add(router.options(&request, None, &[], 0.0).unwrap(), strong);
        }
        sample
    }

    /// What decisions with this lambda really come to: cost, quality, share by tier.
    fn measured(tiers: &[(f64, f64)], cost_weight: f64) -> (f64, f64, Vec<f64>) {
        let router = router(tiers, cost_weight);
        let (mut cost, mut quality, mut shares) = (0.0, 0.0, vec![0.0; tiers.len()]);
        for text in PROMPTS {
            let request = Conversation::prompt(text).unwrap();
            let decision = router.decide(&request, &Need::default(), None, &[], 0.0).unwrap();
            let chosen = &decision.candidates[decision.tier];
            cost += chosen.cost / PROMPTS.len() as f64;
            quality += chosen.quality / PROMPTS.len() as f64;
            shares[decision.tier] += 1.0 / PROMPTS.len() as f64;
        }
        (cost, quality, shares)
    }

    fn is_what_decisions_come_to(tiers: &[(f64, f64)], found: &Calibrated) -> bool {
        let (cost, quality, shares) = measured(tiers, found.cost_weight);
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-12);
        near(cost, found.cost)
            && near(quality, found.quality)
            && shares.iter().zip(&found.shares).all(|(a, b)| (a - b).abs() < 1e-9)
    }

    #[test]
    fn every_share_of_strong_calls_is_met_exactly() {
        let tiers = [(0.6, 0.2), (0.9, 10.0)];
        let sample = sample(&tiers, 1);
        for strong in 0..=8_i32 {
            let share = f64::from(strong) / 8.0;
            let found = sample.calibrate(Target::StrongShare(share)).unwrap();
            assert!((found.strong_share - share).abs() < 1e-9, "{share} {found:?}");
            assert!((found.shares[1] - share).abs() < 1e-9);
            assert!(is_what_decisions_come_to(&tiers, &found), "{found:?}");
        }
    }

    #[test]
    fn what_no_lambda_attains_is_refused_with_the_range() {
        let sample = sample(&[(0.6, 0.2), (0.9, 10.0)], 1);
        for target in [Target::StrongShare(1.2), Target::StrongShare(-0.1), Target::Cost(1e-9), Target::Quality(0.99)] {
            let Err(Error::InvalidOption { expected, .. }) = sample.calibrate(target) else { panic!("{target:?}") };
            assert!(expected.contains("from 0.") && expected.contains("attain"), "{expected}");
        }
        assert!(sample.calibrate(Target::StrongShare(f64::NAN)).is_err());
        assert!(Sample::new(2, true).calibrate(Target::Cost(1.0)).is_err(), "no prompts");
        let free = [(0.6, 0.0), (0.9, 0.0)];
        assert!(self::sample(&free, 1).calibrate(Target::Cost(1.0)).is_err(), "no prices");
        assert!(self::sample(&free, 1).calibrate(Target::StrongShare(0.5)).is_ok(), "the order stands for the price");
    }

    #[test]
    fn one_tier_takes_all_for_any_lambda() {
        let found = sample(&[(0.7, 1.0)], 0).calibrate(Target::Quality(0.1)).unwrap();
        assert_eq!(found.shares, [1.0]);
        assert!(is_what_decisions_come_to(&[(0.7, 1.0)], &found));
    }

    proptest! {
        #[test]
        fn targets_are_kept_and_more_never_buys_less(
            tiers in prop::collection::vec((0.05..0.95_f64, 0.01..20.0_f64), 2..6),
            strong in 0..6_usize,
            wanted in (0.0..1.0_f64, 0.0..1.0_f64),
        ) {
            let sample = sample(&tiers, strong % tiers.len());
            let steps = sample.steps();
            let (first, last) = (&steps[0], &steps[steps.len() - 1]);
            let share = |at: f64| last.strong_share + at * (first.strong_share - last.strong_share);
            let cost = |at: f64| last.cost + at * (first.cost - last.cost);
            let quality = |at: f64| last.quality + at * (first.quality - last.quality);
            let (less, more) = (wanted.0.min(wanted.1), wanted.0.max(wanted.1));
            let calibrate = |target| sample.calibrate(target).unwrap();
            for (tight, wide) in [
                (calibrate(Target::StrongShare(share(less))), calibrate(Target::StrongShare(share(more)))),
                (calibrate(Target::Cost(cost(less))), calibrate(Target::Cost(cost(more)))),
                (calibrate(Target::Quality(quality(less))), calibrate(Target::Quality(quality(more)))),
            ] {
                prop_assert!(tight.cost_weight >= wide.cost_weight);
                prop_assert!(tight.cost <= wide.cost + 1e-12 && tight.quality <= wide.quality + 1e-9);
                prop_assert!(is_what_decisions_come_to(&tiers, &tight), "{:?}", tight);
            }
            prop_assert!(calibrate(Target::Cost(cost(less))).cost <= cost(less) * (1.0 + 1e-8));
            prop_assert!(calibrate(Target::Quality(quality(less))).quality >= quality(less) - 1e-8);
        }
    }
}
