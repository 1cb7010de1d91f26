//! Decisions with an error bound, learned from judged answers.
//!
//! vCache (arXiv 2502.03771, equations 9-11) keeps for each entry the similarities at which its answer was
//! right or wrong, fits a logistic curve to them, takes a pessimistic value of it at confidence `1 - e`, and
//! explores with probability `1 - delta / (1 - alpha)`, `alpha = (1 - e) L(s)`, for the `e` that serves best.
//! Three things keep that from serving anything on traffic that repeats little, and are different here:
//!
//! - *Pooled prior.* An entry starts with what all entries have shown: one curve over the verifier's log odds,
//!   shared and learned online, plus an offset of its own with a normal prior. An entry without a single label
//!   serves as soon as the pool knows enough; an entry that was wrong pays for it alone. Both are updated by one
//!   step of an extended Kalman filter a label, in constant time and space.
//! - *Honest tails.* The pessimistic value uses Student's t with as many degrees of freedom as there are labels,
//!   on a logarithmic grid of `e`: a linear one has no value small enough to pay for a bound of a per cent.
//! - *One budget.* The bound is on wrong hits among all requests. Spending `delta` on every request alike, as the
//!   randomised rule does, spends most on the candidates that are worst. Here candidates are served from the
//!   surest down, as far as the expected errors of the last requests add up to `delta` of them; whatever judged
//!   answers show above that is taken off the budget.
//!
//! A small share of what would be served is explored all the same, so that labels keep coming and drift is seen.

use crate::{Error, Result};
use std::collections::VecDeque;

/// Requests that the budget looks back on.
const WINDOW: usize = 1024;
/// Requests after which the line between serving and exploring is drawn anew.
const REDRAW: usize = 32;
/// Variance of an entry's own offset before any label, in squared log odds.
const OFFSET_VARIANCE: f64 = 1.0;
/// Variances of the pool's intercept and slope before any label: the shipped calibration is close, not exact.
const POOL_VARIANCE: [f64; 2] = [0.25, 0.04];
/// Labels that the shipped calibration is worth, in degrees of freedom.
const PRIOR_LABELS: f64 = 30.0;
/// Log odds beyond this count as this.
const MAX_LOGIT: f64 = 12.0;
/// Share of the budget that is planned with; the rest is for what the estimates do not see.
const PLANNED: f64 = 0.8;
/// Quantiles of the t distribution's normal limit on a logarithmic grid of `e`, largest last.
const GRID: [(f64, f64); 7] =
    [(1e-4, 3.719), (3e-4, 3.432), (1e-3, 3.090), (3e-3, 2.748), (1e-2, 2.326), (3e-2, 1.881), (1e-1, 1.282)];

/// What an entry's labels have shown: its offset from the pool, in log odds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offset {
    mean: f64,
    variance: f64,
    /// Labels seen.
    pub labels: u32,
}

impl Default for Offset {
    fn default() -> Self {
        Self { mean: 0.0, variance: OFFSET_VARIANCE, labels: 0 }
    }
}

/// What to do with a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Serve it; otherwise ask the model, and learn from its answer if it can be judged.
    pub serve: bool,
    /// Pessimistic probability that serving it would be wrong.
    pub risk: f64,
    /// Greatest risk that is served at present.
    pub limit: f64,
}

/// What all entries have shown: one curve over the verifier's log odds.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Intercept and slope, with their covariance.
    mean: [f64; 2],
    covariance: [[f64; 2]; 2],
    labels: u64,
}

impl Default for Pool {
    fn default() -> Self {
        // The shipped calibration is right on average over entries; with offsets spread around it, the curve of
        // an entry is steeper than the average of all of them.
        let steeper = (1.0 + std::f64::consts::PI * OFFSET_VARIANCE / 8.0).sqrt();
        Self { mean: [0.0, steeper], covariance: [[POOL_VARIANCE[0], 0.0], [0.0, POOL_VARIANCE[1]]], labels: 0 }
    }
}

impl Pool {
    /// Pessimistic probability that an answer of an entry would be wrong.
    pub fn risk(&self, confidence: f64, offset: &Offset) -> f64 {
        let x = logit(confidence);
        let (mean, pool) = self.predict(x);
        let spread = 1.0 + std::f64::consts::PI * offset.variance / 8.0;
        let centre = (mean + offset.mean) / spread.sqrt();
        let deviation = (pool / spread).sqrt();
        let freedom = PRIOR_LABELS + self.labels as f64;
        let sure =
            GRID.iter().map(|&(error, normal)| (1.0 - error) * sigmoid(centre - student(normal, freedom) * deviation));
        1.0 - sure.fold(0.0, f64::max)
    }

    /// Learns whether an entry's answer was right for a request of this confidence.
    pub fn learn(&mut self, confidence: f64, offset: &mut Offset, right: bool) {
        let x = logit(confidence);
        let (mean, pool) = self.predict(x);
        let probability = sigmoid(mean + offset.mean);
        let slope = (probability * (1.0 - probability)).max(1e-4);
        let surprise = f64::from(u8::from(right)) - probability;
        let gain = 1.0 / (slope + slope * slope * (pool + offset.variance));
        let direction =
            [self.covariance[0][0] + self.covariance[0][1] * x, self.covariance[1][0] + self.covariance[1][1] * x];
        for (i, step) in direction.iter().enumerate() {
            self.mean[i] += step * slope * gain * surprise;
        }
        let before = self.covariance;
        for (i, row) in self.covariance.iter_mut().enumerate() {
            for (j, value) in row.iter_mut().enumerate() {
                *value = before[i][j] - direction[i] * direction[j] * slope * slope * gain;
            }
        }
        let variance = offset.variance;
        offset.mean += variance * slope * gain * surprise;
        offset.variance = (variance - variance * variance * slope * slope * gain).max(1e-3);
        offset.labels = offset.labels.saturating_add(1);
        self.labels += 1;
    }

    /// Labels learned from.
    pub fn labels(&self) -> u64 {
        self.labels
    }

    /// Mean and variance of the curve at `x`.
    fn predict(&self, x: f64) -> (f64, f64) {
        let [[a, b], [_, d]] = self.covariance;
        (self.mean[0] + self.mean[1] * x, (a + 2.0 * b * x + d * x * x).max(0.0))
    }
}

/// The errors that one scope may spend: which risks are served, and which are explored.
#[derive(Debug, Clone)]
pub struct Budget {
    delta: f64,
    exploration: f64,
    /// Risks of the last requests; 1 where there was no candidate.
    recent: VecDeque<f64>,
    since_redraw: usize,
    limit: f64,
    /// Judged candidates that were wrong, and the risk that had been expected of all that were judged.
    audited_wrong: f64,
    audited_risk: f64,
    random: u64,
}

impl Budget {
    /// Keeps wrong hits below `delta` of all requests; `exploration` of what would be served is explored.
    pub fn new(delta: f64, exploration: f64, seed: u64) -> Result<Self> {
        if !(delta > 0.0 && delta < 1.0) {
            return Err(out_of_range("delta", delta, "a share of requests between 0 and 1, such as 0.02"));
        }
        if !(0.0..1.0).contains(&exploration) {
            return Err(out_of_range("exploration", exploration, "a share in [0, 1), such as 0.02"));
        }
        Ok(Self {
            delta,
            exploration,
            recent: VecDeque::new(),
            since_redraw: 0,
            limit: delta,
            audited_wrong: 0.0,
            audited_risk: 0.0,
            random: seed,
        })
    }

    /// Counts a request without a candidate: it cannot err, and leaves its share of the budget to others.
    pub fn pass(&mut self) {
        self.remember(1.0);
    }

    /// Decides about a candidate of this risk.
    pub fn choose(&mut self, risk: f64) -> Choice {
        self.remember(risk);
        let explored = self.uniform() < self.exploration;
        Choice { serve: risk <= self.limit && !explored, risk, limit: self.limit }
    }

    /// Checks the estimates: a candidate of this risk, which would have been served, was judged.
    pub fn audit(&mut self, risk: f64, right: bool) {
        if risk <= self.limit {
            self.audited_wrong += f64::from(u8::from(!right));
            self.audited_risk += risk;
        }
    }

    /// Greatest risk that is served at present.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        size_of::<Self>() + self.recent.capacity() * size_of::<f64>()
    }

    fn remember(&mut self, risk: f64) {
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(risk);
        self.since_redraw += 1;
        if self.since_redraw >= REDRAW {
            self.since_redraw = 0;
            self.redraw();
        }
    }

    /// Serves from the surest down until the expected errors reach the budget.
    fn redraw(&mut self) {
        let mut risks: Vec<f64> = self.recent.iter().copied().filter(|risk| *risk < 0.5).collect();
        risks.sort_unstable_by(f64::total_cmp);
        // Judged hits worse than expected make every further error count for more.
        let excess = (self.audited_wrong + 2.0) / (self.audited_risk + 2.0);
        let budget = PLANNED * self.delta * self.recent.len() as f64 / excess.max(1.0);
        let mut spent = 0.0;
        self.limit = 0.0;
        for risk in risks {
            spent += risk;
            if spent > budget {
                break;
            }
            self.limit = risk;
        }
    }

    /// A number in [0, 1), by splitmix64.
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Decides for one scope, and learns.
#[derive(Debug, Clone)]
pub struct Verified {
    pool: Pool,
    budget: Budget,
}

impl Verified {
    /// A policy that keeps wrong hits below `delta` of all requests; `exploration` of what would be served is explored.
    pub fn new(delta: f64, exploration: f64, seed: u64) -> Result<Self> {
        Ok(Self { pool: Pool::default(), budget: Budget::new(delta, exploration, seed)? })
    }

    /// Counts a request without a candidate: it cannot err, and leaves its share of the budget to others.
    pub fn pass(&mut self) {
        self.budget.pass();
    }

    /// Decides about a candidate of this confidence, whose entry has shown `offset`.
    pub fn decide(&mut self, confidence: f64, offset: &Offset) -> Choice {
        self.budget.choose(self.risk(confidence, offset))
    }

    /// Pessimistic probability that an answer of an entry would be wrong.
    pub fn risk(&self, confidence: f64, offset: &Offset) -> f64 {
        self.pool.risk(confidence, offset)
    }

    /// Learns whether the entry's answer was right for a request of this confidence, served or explored.
    pub fn learn(&mut self, confidence: f64, offset: &mut Offset, right: bool) {
        self.budget.audit(self.risk(confidence, offset), right);
        self.pool.learn(confidence, offset, right);
    }

    /// Greatest risk that is served at present.
    pub fn limit(&self) -> f64 {
        self.budget.limit()
    }

    /// Labels learned from.
    pub fn labels(&self) -> u64 {
        self.pool.labels()
    }
}

fn out_of_range(name: &'static str, value: f64, expected: &str) -> Error {
    Error::InvalidOption { name, value: value.to_string(), expected: expected.into() }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln().clamp(-MAX_LOGIT, MAX_LOGIT)
}

/// Student's t quantile from the normal one (Cornish and Fisher, two terms).
fn student(normal: f64, freedom: f64) -> f64 {
    let z = normal;
    z + (z.powi(3) + z) / (4.0 * freedom) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * freedom * freedom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_was_wrong_is_not_served_again_and_others_are() {
        let mut policy = Verified::new(0.05, 0.0, 1).unwrap();
        let (mut bad, good) = (Offset::default(), Offset::default());
        let before = policy.risk(0.95, &bad);
        for _ in 0..4 {
            policy.learn(0.95, &mut bad, false);
        }
        assert!(policy.risk(0.95, &bad) > 0.3, "{before} -> {}", policy.risk(0.95, &bad));
        assert!(policy.risk(0.95, &good) < policy.risk(0.95, &bad));
        let mut fine = Offset::default();
        for _ in 0..20 {
            policy.learn(0.9, &mut fine, true);
        }
        assert!(policy.risk(0.9, &fine) < policy.risk(0.9, &Offset::default()));
    }

    #[test]
    fn expected_errors_stay_within_the_budget() {
        let mut policy = Verified::new(0.02, 0.0, 1).unwrap();
        let (mut spent, mut served) = (0.0, 0);
        for step in 0..20_000_u32 {
            let confidence = f64::from(step * 7919 % 1000) / 1000.0;
            let choice = policy.decide(confidence, &Offset::default());
            if choice.serve {
                spent += choice.risk;
                served += 1;
            }
        }
        assert!(spent / 20_000.0 <= 0.02, "{spent}");
        assert!(served > 1_000, "{served}");
    }

    #[test]
    fn wrong_hits_tighten_the_limit_even_when_the_curve_says_otherwise() {
        let mut policy = Verified::new(0.05, 0.0, 1).unwrap();
        for step in 0..4_000_u32 {
            policy.decide(0.5 + f64::from(step % 500) / 1000.0, &Offset::default());
        }
        let calm = policy.limit();
        for _ in 0..200 {
            let mut fresh = Offset::default();
            policy.learn(0.995, &mut fresh, false);
            policy.decide(0.9, &Offset::default());
        }
        assert!(policy.limit() < calm, "{calm} -> {}", policy.limit());
    }

    #[test]
    fn the_residual_share_is_explored() {
        let mut policy = Verified::new(0.5, 0.1, 7).unwrap();
        let served = (0..10_000).filter(|_| policy.decide(0.9999, &Offset::default()).serve).count();
        assert!((8_700..9_300).contains(&served), "{served}");
    }

    #[test]
    fn options_out_of_range_are_refused() {
        for delta in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(matches!(Verified::new(delta, 0.0, 1), Err(Error::InvalidOption { name: "delta", .. })));
        }
        assert!(Verified::new(0.1, 1.0, 1).is_err());
    }
}
