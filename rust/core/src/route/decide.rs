//! The decision: among the tiers that can, the most quality for the cost in the time there is.

use std::fmt;
use std::sync::Arc;

use crate::route::breaker::BreakerOptions;
use crate::route::head::{Head, Reading};
use crate::route::request::{Conversation, Need};
use crate::route::rules::{Holds, Rules};
use crate::route::ruling::{self, Applied};
use crate::route::tier::{Tier, TierSpec};
use crate::{Error, Result};

/// Answer length assumed before any was seen; the median of the Azure 2023 conversation trace is of this order.
const TYPICAL_OUTPUT: f64 = 128.0;

/// Probability of being in time below which a tier is not considered.
const HOPELESS: f64 = 0.1;

/// What a missed deadline costs beside the answer, in qualities: a caller who set one would rather have a good answer
/// in time than an excellent one late.
const MISSED: f64 = 2.0;

/// What a deadline's worth of delay costs that a call causes to those who come after it, in qualities. Of 5 to 12 any
/// does well in the replays of `nearhit bench route`; below, lines grow where one tier is preferred by all.
const DELAY: f64 = 8.0;

/// What to prefer among the tiers that can take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Quality against cost, by the prompt's complexity.
    Complexity,
    /// The highest quality.
    Best,
    /// The lowest cost.
    Cheapest,
    /// The shortest predicted answer time.
    Fastest,
}

impl Strategy {
    /// Reads a strategy's name.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names what would be accepted.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "complexity" => Ok(Self::Complexity),
            "best" => Ok(Self::Best),
            "cheapest" => Ok(Self::Cheapest),
            "fastest" => Ok(Self::Fastest),
            _ => Err(Error::InvalidOption {
                name: "strategy",
                value: format!("{name:?}"),
                expected: "\"complexity\", \"best\", \"cheapest\" or \"fastest\"".to_owned(),
            }),
        }
    }
}

/// How to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What to prefer.
    pub strategy: Strategy,
    /// Quality that the dearest tier must add to be worth its price: lambda in "quality - lambda * cost", cost being
    /// relative to the dearest tier.
    pub cost_weight: f64,
    /// When tiers are set aside after failures.
    pub breaker: BreakerOptions,
}

impl Default for Policy {
    fn default() -> Self {
        Self { strategy: Strategy::Complexity, cost_weight: 0.3, breaker: BreakerOptions::default() }
    }
}

impl Policy {
    fn check(&self) -> Result<()> {
        if !(self.cost_weight >= 0.0 && self.cost_weight.is_finite()) {
            return Err(Error::InvalidOption {
                name: "cost_weight",
                value: self.cost_weight.to_string(),
                expected: "a number, 0 or more".to_owned(),
            });
        }
        self.breaker.check()
    }
}

/// Why a tier can or cannot take a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// It can.
    Eligible,
    /// It is predicted to miss the deadline.
    TooSlow,
    /// It would cost more than allowed.
    TooDear,
    /// It lacks something the request needs.
    Unable(&'static str),
    /// Its breaker is open for so many seconds more.
    Down(f64),
    /// It has failed this request already.
    Excluded,
    /// A rule does not allow it; the number is the rule's in [`Decision::rules`].
    Ruled(usize),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eligible => f.write_str("eligible"),
            Self::TooSlow => f.write_str("predicted to miss the deadline"),
            Self::TooDear => f.write_str("would cost more than max_cost"),
            Self::Unable(what) => write!(f, "cannot take it: {what}"),
            Self::Down(seconds) => write!(f, "set aside after failures, next probe in {seconds:.1} s"),
            Self::Excluded => f.write_str("has failed this request already"),
            Self::Ruled(_) => f.write_str("ruled out"),
        }
    }
}

/// One tier as seen by a decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Number of the tier.
    pub tier: usize,
    /// Probability that it answers well.
    pub quality: f64,
    /// Predicted US dollars.
    pub cost: f64,
    /// Cost relative to the dearest tier's; without any price, the tier's place in the order given.
    pub relative: f64,
    /// Predicted seconds to the first token, if anything is known.
    pub ttft: Option<f64>,
    /// Predicted seconds to the end, if anything is known.
    pub e2e: Option<f64>,
    /// Probability that it ends before the deadline; 1 without one.
    pub in_time: f64,
    /// What it takes from requests that come after it, as a share of their deadline; 0 without one.
    pub burden: f64,
    /// What the strategy maximises where there is no deadline.
    pub preference: f64,
    /// What it maximises: the preference, less what a deadline makes of it.
    pub utility: f64,
    /// Whether it can take the request.
    pub verdict: Verdict,
}

/// Why the chosen tier was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The strategy's first choice.
    Preferred,
    /// The only one that can.
    Only,
    /// The preferred tier cannot take it (its verdict says why).
    NextBest,
    /// The preferred tier, of this number, is less sure to be in time, or more is waiting for it.
    InTime(usize),
    /// None is predicted to make the deadline; this one comes nearest.
    NearestToDeadline,
}

/// The outcome: which tier, why, and what was thought of the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Number of the chosen tier.
    pub tier: usize,
    /// Why.
    pub reason: Reason,
    /// Difficulty of the prompt in logits, 0 for an average one.
    pub difficulty: f64,
    /// True where an earlier turn's difficulty was used.
    pub inherited: bool,
    /// Every tier, in the order of the router.
    pub candidates: Vec<Candidate>,
    /// The rules that hold, in the order in which they were applied.
    pub rules: Vec<Applied>,
}

/// Tiers, a head, a policy and rules.
///
/// ```
/// use nearhit_core::route::{Conversation, Head, Need, Policy, Router, TierSpec};
///
/// let tiers = vec![TierSpec::new("small", 0.6), TierSpec::new("large", 0.9)];
/// let router = Router::new(tiers, Head::default(), Policy::default())?;
/// let request = Conversation::prompt("Translate 'good morning' to French.")?;
/// let decision = router.decide(&request, &Need::default(), None, &[], 0.0)?;
/// assert_eq!(decision.candidates.len(), 2);
/// # Ok::<(), nearhit_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Router {
    tiers: Arc<[Tier]>,
    head: Head,
    policy: Policy,
    priced: bool,
    rules: Option<Rules>,
}

impl Router {
    /// Puts a router together.
    ///
    /// # Errors
    /// [`Error::InvalidOption`]: no tiers, a name twice, a promise or an option without a meaning.
    pub fn new(specs: Vec<TierSpec>, head: Head, policy: Policy) -> Result<Self> {
        let refuse =
            |name, value: String, expected: &str| Error::InvalidOption { name, value, expected: expected.into() };
        if specs.is_empty() {
            return Err(refuse("tiers", "[]".to_owned(), "at least one tier"));
        }
        for (at, spec) in specs.iter().enumerate() {
            if specs[..at].iter().any(|other| other.name == spec.name) {
                return Err(refuse("tiers", format!("{:?} twice", spec.name), "a different name for each tier"));
            }
        }
        policy.check()?;
        head.check(specs.len())?;
        let priced = specs.iter().any(|spec| spec.input_cost > 0.0 || spec.output_cost > 0.0);
        let tiers = specs.into_iter().map(|spec| Tier::new(spec, policy.breaker)).collect::<Result<Arc<[_]>>>()?;
        Ok(Self { tiers, head, policy, priced, rules: None })
    }

    /// Another router over the same tiers in the same state, with a head and a policy of its own and without rules.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] as for [`Router::new`].
    pub fn beside(&self, head: Head, policy: Policy) -> Result<Self> {
        policy.check()?;
        head.check(self.tiers.len())?;
        Ok(Self { tiers: Arc::clone(&self.tiers), head, policy, priced: self.priced, rules: None })
    }

    /// The same with rules, which were compiled for the names of its tiers.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules: (!rules.is_empty()).then_some(rules), ..self }
    }

    /// The rules; `None` without any.
    pub fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref()
    }

    /// The tiers, in the order given.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// Chooses a tier; changes nothing. `holds` are the rules that [`Rules::holding`] has found to hold for the request.
    ///
    /// # Errors
    /// [`Error::NoTier`] if no tier can take the request, [`Error::Deadline`] if none has ever been fast enough,
    /// [`Error::InvalidOption`] for limits without a meaning.
    pub fn decide(
        &self,
        request: &Conversation,
        need: &Need,
        embedding: Option<&[f32]>,
        holds: &[Holds],
        now: f64,
    ) -> Result<Decision> {
        need.check()?;
        let reading = self.head.read(&request.features, embedding);
        let mut candidates: Vec<Candidate> =
            self.tiers.iter().enumerate().map(|(tier, _)| self.assess(tier, request, need, &reading, now)).collect();
        self.rate(&mut candidates);
        let rules = match &self.rules {
            Some(rules) => ruling::apply(rules, holds, &mut candidates),
            None => Vec::new(),
        };
        let (tier, reason) = self.choose(&candidates, &rules, request, need)?;
        Ok(Decision { tier, reason, difficulty: reading.difficulty, inherited: request.inherited, candidates, rules })
    }

    /// What a request could be answered by, whatever the state of the tiers: for [`Sample`](crate::route::Sample).
    ///
    /// # Errors
    /// [`Error::NoTier`] if no tier can take the request.
    pub fn options(
        &self,
        request: &Conversation,
        embedding: Option<&[f32]>,
        holds: &[Holds],
        now: f64,
    ) -> Result<Vec<Candidate>> {
        let reading = self.head.read(&request.features, embedding);
        let need = Need::default();
        let mut candidates: Vec<Candidate> =
            (0..self.tiers.len()).map(|tier| self.assess(tier, request, &need, &reading, now)).collect();
        for each in candidates.iter_mut().filter(|each| matches!(each.verdict, Verdict::Down(_))) {
            each.verdict = Verdict::Eligible;
        }
        self.rate(&mut candidates);
        let applied = self.rules.as_ref().map(|rules| ruling::apply(rules, holds, &mut candidates)).unwrap_or_default();
        if candidates.iter().any(|each| each.verdict == Verdict::Eligible) {
            Ok(candidates)
        } else {
            Err(self.refusal(&candidates, &applied))
        }
    }

    /// Whether any tier has a price.
    pub fn is_priced(&self) -> bool {
        self.priced
    }

    fn assess(&self, number: usize, request: &Conversation, need: &Need, reading: &Reading<'_>, now: f64) -> Candidate {
        let tier = &self.tiers[number];
        let spec = &tier.spec;
        let limit = need.max_tokens.map_or(f64::INFINITY, f64::from);
        let forecast = tier.forecast(request.tokens, limit, now);
        let output = forecast.output().unwrap_or(TYPICAL_OUTPUT).min(limit);
        let cost = request.tokens * spec.input_cost + output * spec.output_cost;
        let (ttft, e2e) = (forecast.ttft, forecast.e2e(output));
        let burden = match (need.deadline, e2e) {
            (Some(deadline), Some(e2e)) => forecast.burden(e2e, deadline),
            _ => 0.0,
        };
        let in_time = need.deadline.map_or(1.0, |deadline| forecast.in_time(deadline, TYPICAL_OUTPUT));
        let down = tier.down_for(now);
        let verdict = if need.excluded.contains(&number) {
            Verdict::Excluded
        } else if request.images && !spec.images {
            Verdict::Unable("it does not read images")
        } else if need.tools && !spec.tools {
            Verdict::Unable("it does not call tools")
        } else if spec.context.is_some_and(|context| request.tokens + output.min(limit) > f64::from(context)) {
            Verdict::Unable("the prompt is too long for its context")
        } else if down > 0.0 {
            Verdict::Down(down)
        } else if need.max_cost.is_some_and(|most| cost > most) {
            Verdict::TooDear
        } else if in_time < HOPELESS {
            Verdict::TooSlow
        } else {
            Verdict::Eligible
        };
        let quality = self.head.quality(number, spec.quality, reading);
        Candidate {
            tier: number,
            quality,
            cost,
            relative: 0.0,
            ttft,
            e2e,
            in_time,
            burden,
            preference: 0.0,
            utility: 0.0,
            verdict,
        }
    }

    /// Fills in what the strategy maximises.
    fn rate(&self, candidates: &mut [Candidate]) {
        let dearest = candidates.iter().map(|each| each.cost).fold(0.0, f64::max);
        let last = (candidates.len() - 1).max(1) as f64;
        let known: Vec<f64> = candidates.iter().filter_map(|each| each.e2e).collect();
        let typical = known.iter().sum::<f64>() / known.len().max(1) as f64;
        for each in candidates {
            // Without any price the order given stands for it: cheapest first.
            each.relative = if !self.priced {
                each.tier as f64 / last
            } else if dearest > 0.0 {
                each.cost / dearest
            } else {
                0.0
            };
            // Without a deadline nothing can be missed, and nothing is owed to others.
            let owed = MISSED * (1.0 - each.in_time) + DELAY * each.burden;
            each.preference = match self.policy.strategy {
                Strategy::Complexity => each.quality - self.policy.cost_weight * each.relative,
                Strategy::Best => each.quality,
                Strategy::Cheapest => -each.relative,
                Strategy::Fastest => -each.e2e.unwrap_or(typical),
            };
            each.utility = match self.policy.strategy {
                Strategy::Complexity | Strategy::Best => each.preference - each.quality * (1.0 - each.in_time) - owed,
                Strategy::Cheapest => each.preference - owed,
                Strategy::Fastest => each.preference,
            };
        }
    }

    fn choose(
        &self,
        candidates: &[Candidate],
        rules: &[Applied],
        request: &Conversation,
        need: &Need,
    ) -> Result<(usize, Reason)> {
        let best = |accept: &dyn Fn(&Candidate) -> bool, rank: fn(&Candidate) -> f64| {
            let mut best: Option<&Candidate> = None;
            for each in candidates.iter().filter(|each| accept(each)) {
                // Strictly more: of equals the first given wins.
                if best.is_none_or(|best| rank(each) > rank(best)) {
                    best = Some(each);
                }
            }
            best
        };
        let eligible = |each: &Candidate| each.verdict == Verdict::Eligible;
        if let Some(chosen) = best(&eligible, |each| each.utility) {
            let first = best(&Candidate::is_allowed, |each| each.preference);
            let alone = candidates.len() > 1 && candidates.iter().filter(|each| eligible(each)).count() == 1;
            let reason = match first {
                Some(first) if first.tier == chosen.tier => Reason::Preferred,
                _ if alone => Reason::Only,
                Some(first) if eligible(first) => Reason::InTime(first.tier),
                _ => Reason::NextBest,
            };
            return Ok((chosen.tier, reason));
        }
        let slow = candidates.iter().filter(|each| each.verdict == Verdict::TooSlow);
        let nearest = slow.min_by(|a, b| a.e2e.unwrap_or(0.0).total_cmp(&b.e2e.unwrap_or(0.0)));
        let Some(nearest) = nearest else { return Err(self.refusal(candidates, rules)) };
        // A prediction may be wrong, so the nearest is tried; what has never been reached is refused at once.
        let deadline = need.deadline.unwrap_or(f64::INFINITY);
        let hopeless = candidates.iter().filter(|each| each.verdict == Verdict::TooSlow).all(|each| {
            let best = self.tiers[each.tier].best_ttft(request.tokens).or(self.tiers[each.tier].spec.ttft);
            best.is_some_and(|best| best > deadline)
        });
        if hopeless {
            return Err(Error::Deadline {
                deadline,
                nearest: self.tiers[nearest.tier].spec.name.clone(),
                predicted: nearest.e2e.unwrap_or(0.0),
            });
        }
        Ok((nearest.tier, Reason::NearestToDeadline))
    }

    fn refusal(&self, candidates: &[Candidate], rules: &[Applied]) -> Error {
        let words = |each: &Candidate| format!("{}: {}", self.tiers[each.tier].spec.name, each.words(rules));
        let reasons = candidates.iter().map(words);
        Error::NoTier { reasons: reasons.collect::<Vec<_>>().join("; ") }
    }
}

impl Candidate {
    /// False where a rule does not allow the tier.
    fn is_allowed(&self) -> bool {
        !matches!(self.verdict, Verdict::Ruled(_))
    }

    /// The verdict in words; `rules` are the decision's.
    pub fn words(&self, rules: &[Applied]) -> String {
        match self.verdict {
            Verdict::Ruled(rule) => format!("{} by {}", self.verdict, rules[rule]),
            verdict => verdict.to_string(),
        }
    }
}

impl Decision {
    /// The tiers not chosen, the most useful first.
    pub fn others(&self) -> Vec<&Candidate> {
        let mut others: Vec<&Candidate> = self.candidates.iter().filter(|each| each.tier != self.tier).collect();
        others.sort_by(|a, b| b.utility.total_cmp(&a.utility));
        others
    }

    /// The decision in words; `names` are the tiers' in order.
    pub fn explain(&self, names: &[String]) -> String {
        let name = |tier: usize| names.get(tier).map_or("?", String::as_str);
        let chosen = &self.candidates[self.tier];
        let turn = if self.inherited { " (of the turn it continues)" } else { "" };
        let head = format!(
            "{}difficulty {:+.2}{turn}; {} answers well with probability {:.2}",
            self.ruling(names),
            self.difficulty,
            name(self.tier),
            chosen.quality
        );
        let others = self.others();
        let first = others.iter().find(|each| each.is_allowed());
        let why = match self.reason {
            Reason::Preferred => match first {
                Some(other) => format!(
                    "{head}; after cost {:.2} against {:.2} for {}",
                    chosen.utility,
                    other.utility,
                    name(other.tier)
                ),
                None if others.is_empty() => format!("{head}; it is the only tier"),
                None => format!("{head}; it is the only tier allowed"),
            },
            Reason::Only => format!("{head}; no other tier can take it ({})", self.verdicts(&others, names)),
            Reason::NextBest => format!("{head}; preferred tiers cannot take it ({})", self.verdicts(&others, names)),
            Reason::InTime(first) => {
                let preferred = &self.candidates[first];
                format!(
                    "{head} and is in time with probability {:.2}; {}, else preferred, is with {:.2} and would hold up \
                     others by {:.2} of their deadline against {:.2}",
                    chosen.in_time,
                    name(first),
                    preferred.in_time,
                    preferred.burden,
                    chosen.burden
                )
            }
            Reason::NearestToDeadline => {
                format!("{head}; no tier is predicted to make the deadline, this one comes nearest")
            }
        };
        let aside = self.rules.iter().filter(|rule| !rule.kept);
        aside.fold(why, |why, rule| format!("{why}; {rule} set aside: no tier that it allows can take the request"))
    }

    /// What the rules that were kept leave, in words.
    fn ruling(&self, names: &[String]) -> String {
        let kept: Vec<_> = self.rules.iter().filter(|rule| rule.kept).map(ToString::to_string).collect();
        if kept.is_empty() {
            return String::new();
        }
        let left = self.candidates.iter().filter(|each| each.is_allowed());
        let left: Vec<_> = left.filter_map(|each| names.get(each.tier).map(String::as_str)).collect();
        format!("{} {} {}; ", kept.join(", "), if kept.len() == 1 { "leaves" } else { "leave" }, left.join(", "))
    }

    fn verdicts(&self, others: &[&Candidate], names: &[String]) -> String {
        let barred = others.iter().filter(|each| each.verdict != Verdict::Eligible);
        let words = barred
            .map(|each| format!("{} {}", names.get(each.tier).map_or("?", String::as_str), each.words(&self.rules)));
        words.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Policy, Reason, Router, Strategy, Verdict};
    use crate::Error;
    use crate::route::head::Head;
    use crate::route::request::{Conversation, Need};
    use crate::route::tier::{Outcome, TierSpec};

    const EASY: &str = "What is the capital of France?";

    fn spec(name: &str, quality: f64, price: f64, ttft: f64) -> TierSpec {
        let (input_cost, output_cost) = (price * 1e-6, price * 4e-6);
        TierSpec { input_cost, output_cost, ttft: Some(ttft), tpot: Some(0.0), ..TierSpec::new(name, quality) }
    }

    fn router(strategy: Strategy) -> Router {
        let specs = vec![spec("small", 0.6, 0.1, 0.1), spec("large", 0.9, 10.0, 1.0)];
        Router::new(specs, Head::flat(), Policy { strategy, ..Policy::default() }).unwrap()
    }

    fn ask(router: &Router, need: &Need) -> crate::Result<super::Decision> {
        router.decide(&Conversation::prompt(EASY).unwrap(), need, None, &[], 0.0)
    }

    /// Quality, price, times to first token that were seen, and calls under way.
    type Lived = (f64, f64, Vec<f64>, u32);

    /// A router whose tiers have learned their latency; tier `raised` costs `factor` times its price.
    fn seasoned(tiers: &[Lived], policy: Policy, raised: usize, factor: f64) -> Router {
        let specs = tiers.iter().enumerate().map(|(at, (quality, price, ..))| {
            let slots = Some(2);
            let price = price * if at == raised { factor } else { 1.0 };
            TierSpec { slots, ttft: None, tpot: None, ..spec(&at.to_string(), *quality, price, 1.0) }
        });
        let router = Router::new(specs.collect(), Head::default(), policy).unwrap();
        for (tier, (_, _, seen, busy)) in router.tiers().iter().zip(tiers) {
            for &ttft in seen {
                assert!(tier.start(0.0));
                tier.finish(Outcome::Answered { ttft: Some(ttft), decode: 0.1, output: 20 }, 7.0, 0.0);
            }
            assert!((0..*busy).all(|_| tier.start(0.0)));
        }
        router
    }

    fn lived() -> impl proptest::strategy::Strategy<Value = Vec<Lived>> {
        let seen = prop::collection::vec(0.01..5.0_f64, 0..12);
        prop::collection::vec((0.05..0.95_f64, 0.01..50.0_f64, seen, 0..6_u32), 2..6)
    }

    #[test]
    fn strategies_prefer_what_they_say() {
        let free = Need::default();
        let choice = |strategy| ask(&router(strategy), &free).unwrap().tier;
        assert_eq!(choice(Strategy::Best), 1);
        assert_eq!(choice(Strategy::Cheapest), 0);
        assert_eq!(choice(Strategy::Fastest), 0);
        assert!(Strategy::parse("magic").is_err());
    }

    #[test]
    fn a_deadline_moves_to_the_faster_tier_and_says_so() {
        let need = Need { deadline: Some(0.5), ..Need::default() };
        let decision = ask(&router(Strategy::Best), &need).unwrap();
        assert_eq!((decision.tier, decision.reason), (0, Reason::Only));
        assert_eq!(decision.candidates[1].verdict, Verdict::TooSlow);
        let names = ["small".to_owned(), "large".to_owned()];
        assert!(decision.explain(&names).contains("large predicted to miss the deadline"));
    }

    #[test]
    fn what_no_tier_ever_reached_is_refused_at_once() {
        let need = Need { deadline: Some(0.01), ..Need::default() };
        assert!(matches!(ask(&router(Strategy::Best), &need), Err(Error::Deadline { .. })));
    }

    #[test]
    fn a_slow_spell_is_tried_since_it_may_be_over() {
        let router = router(Strategy::Best);
        for tier in router.tiers() {
            for ttft in [0.2, 30.0] {
                assert!(tier.start(0.0));
                tier.finish(Outcome::Answered { ttft: Some(ttft), decode: 0.0, output: 1 }, 7.0, 0.0);
            }
        }
        let decision = ask(&router, &Need { deadline: Some(2.0), ..Need::default() }).unwrap();
        assert_eq!(decision.reason, Reason::NearestToDeadline);
    }

    #[test]
    fn tiers_that_cannot_are_named_in_the_refusal() {
        let need = Need { max_cost: Some(1e-12), tools: true, ..Need::default() };
        let Err(Error::NoTier { reasons }) = ask(&router(Strategy::Best), &need) else { panic!("expected a refusal") };
        assert!(reasons.contains("small: cannot take it") && reasons.contains("large:"), "{reasons}");
    }

    #[test]
    fn an_open_breaker_and_an_excluded_tier_are_passed_over() {
        let router = router(Strategy::Best);
        for _ in 0..5 {
            assert!(router.tiers()[1].start(0.0));
            router.tiers()[1].finish(Outcome::Failed { waited: None }, 7.0, 0.0);
        }
        assert_eq!(ask(&router, &Need::default()).unwrap().tier, 0);
        let refused = ask(&router, &Need { excluded: vec![0], ..Need::default() });
        assert!(matches!(refused, Err(Error::NoTier { .. })));
    }

    #[test]
    fn a_router_beside_shares_the_tiers_state_and_nothing_else() {
        let first = router(Strategy::Best);
        let second = first.beside(Head::flat(), Policy { strategy: Strategy::Cheapest, ..Policy::default() }).unwrap();
        assert_eq!((ask(&first, &Need::default()).unwrap().tier, ask(&second, &Need::default()).unwrap().tier), (1, 0));
        assert!(first.tiers()[0].start(0.0));
        first.tiers()[0].finish(Outcome::Answered { ttft: Some(7.0), decode: 0.0, output: 1 }, 7.0, 0.0);
        assert_eq!(ask(&second, &Need::default()).unwrap().candidates[0].ttft, Some(7.0));
        assert!(first.beside(Head::flat(), Policy { cost_weight: f64::NAN, ..Policy::default() }).is_err());
    }

    #[test]
    fn bad_routers_are_refused() {
        let new = |specs| Router::new(specs, Head::flat(), Policy::default());
        assert!(new(vec![]).is_err());
        assert!(new(vec![TierSpec::new("a", 0.5), TierSpec::new("a", 0.6)]).is_err());
        let policy = Policy { cost_weight: -1.0, ..Policy::default() };
        assert!(Router::new(vec![TierSpec::new("a", 0.5)], Head::flat(), policy).is_err());
    }

    proptest! {
        #[test]
        fn raising_a_tiers_price_never_wins_it_the_request(
            qualities in prop::collection::vec(0.05..0.95_f64, 2..6),
            prices in prop::collection::vec(0.01..50.0_f64, 6),
            rise in 1.0..10.0_f64,
            raised in 0..6_usize,
            cost_weight in 0.0..1.0_f64,
        ) {
            let raised = raised % qualities.len();
            let choose = |factor: f64| {
                let specs = qualities.iter().enumerate().map(|(at, &quality)| {
                    spec(&at.to_string(), quality, prices[at] * if at == raised { factor } else { 1.0 }, 1.0)
                });
                let policy = Policy { cost_weight, ..Policy::default() };
                ask(&Router::new(specs.collect(), Head::default(), policy).unwrap(), &Need::default()).unwrap().tier
            };
            if choose(1.0) != raised {
                prop_assert_ne!(choose(rise), raised);
            }
        }

        #[test]
        fn a_longer_deadline_never_lowers_the_utility(
            tiers in prop::collection::vec((0.05..0.95_f64, 0.01..50.0_f64, 0.01..5.0_f64), 1..6),
            deadline in 0.01..5.0_f64,
            extra in 0.0..5.0_f64,
        ) {
            let specs = tiers.iter().enumerate().map(|(at, t)| spec(&at.to_string(), t.0, t.1, t.2)).collect();
            let router = Router::new(specs, Head::default(), Policy::default()).unwrap();
            let utility = |seconds| {
                let decision = ask(&router, &Need { deadline: Some(seconds), ..Need::default() }).ok()?;
                (decision.reason != Reason::NearestToDeadline).then(|| decision.candidates[decision.tier].utility)
            };
            if let Some(tight) = utility(deadline) {
                prop_assert!(utility(deadline + extra).is_some_and(|wide| wide >= tight));
            }
        }

        #[test]
        fn with_learned_latency_too_a_rise_of_price_never_wins_the_request(
            tiers in lived(),
            raised in 0..6_usize,
            rise in 1.0..10.0_f64,
            deadline in prop::option::of(0.05..10.0_f64),
            cost_weight in 0.0..1.0_f64,
        ) {
            let raised = raised % tiers.len();
            let choose = |factor: f64| {
                let policy = Policy { cost_weight, ..Policy::default() };
                let need = Need { deadline, ..Need::default() };
                ask(&seasoned(&tiers, policy, raised, factor), &need).ok().map(|decision| decision.tier)
            };
            if choose(1.0) != Some(raised) {
                prop_assert_ne!(choose(rise), Some(raised));
            }
        }

        #[test]
        fn with_learned_latency_too_a_longer_deadline_never_lowers_the_utility(
            tiers in lived(),
            deadline in 0.05..10.0_f64,
            extra in 0.0..10.0_f64,
        ) {
            let router = seasoned(&tiers, Policy::default(), 0, 1.0);
            let utility = |seconds| {
                let decision = ask(&router, &Need { deadline: Some(seconds), ..Need::default() }).ok()?;
                (decision.reason != Reason::NearestToDeadline).then(|| decision.candidates[decision.tier].utility)
            };
            if let Some(tight) = utility(deadline) {
                prop_assert!(utility(deadline + extra).is_some_and(|wide| wide >= tight - 1e-12));
            }
        }
    }
}
