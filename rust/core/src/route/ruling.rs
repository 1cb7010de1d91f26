//! What the rules that hold for a request leave of the tiers.

use std::fmt;
use std::sync::Arc;

use crate::route::decide::{Candidate, Verdict};
use crate::route::rules::{Holds, Rules};

/// What a rule that holds came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Name of the rule.
    pub name: Arc<str>,
    /// What shows that it holds.
    pub evidence: Arc<str>,
    /// False where it was set aside: no tier that it allows can take the request.
    pub kept: bool,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {:?} ({})", self.name, self.evidence)
    }
}

/// Rules out the tiers that the rules do not allow.
///
/// Each rule narrows what those before it have left. One that would leave nothing that can take the request is set
/// aside, unless it is strict: then nothing else may take it either. `holds` has the strict rules first.
pub(super) fn apply(rules: &Rules, holds: &[Holds], candidates: &mut [Candidate]) -> Vec<Applied> {
    let mut applied = Vec::with_capacity(holds.len());
    for Holds { rule, evidence } in holds {
        let rule = &rules.compiled[*rule];
        let allows = |each: &Candidate| rule.allows(each.tier, each.quality);
        let wanted = if candidates.iter().any(|each| each.verdict == Verdict::Eligible) {
            Verdict::Eligible
        } else {
            Verdict::TooSlow // what is only predicted to be late may still be tried
        };
        let kept = rule.strict || candidates.iter().any(|each| each.verdict == wanted && allows(each));
        if kept {
            for each in candidates.iter_mut() {
                if matches!(each.verdict, Verdict::Eligible | Verdict::TooSlow) && !allows(each) {
                    each.verdict = Verdict::Ruled(applied.len());
                }
            }
        }
        applied.push(Applied { name: Arc::clone(&rule.name), evidence: Arc::clone(evidence), kept });
    }
    applied
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Error;
    use crate::route::decide::{Policy, Reason, Router, Strategy, Verdict};
    use crate::route::head::Head;
    use crate::route::request::{Conversation, Need};
    use crate::route::rules::{Facts, Field, RuleSpec, Rules, Then, When};
    use crate::route::tier::TierSpec;

    const NAMES: [&str; 3] = ["small", "middle", "large"];

    fn always(name: &str, then: Then, strict: bool) -> RuleSpec {
        let when = When::Patterns { patterns: vec![String::new()], field: Field::Prompt };
        RuleSpec { name: name.to_owned(), when, then, strict }
    }

    fn only(tiers: &[&str]) -> Then {
        Then { only: tiers.iter().map(ToString::to_string).collect(), ..Then::default() }
    }

    fn exclude(tiers: &[&str]) -> Then {
        Then { exclude: tiers.iter().map(ToString::to_string).collect(), ..Then::default() }
    }

    fn decide(specs: &[RuleSpec], need: &Need) -> crate::Result<crate::route::Decision> {
        let tiers = NAMES.iter().zip([0.6, 0.75, 0.9]).zip([0.1, 1.0, 3.0]).map(|((name, quality), ttft)| TierSpec {
            ttft: Some(ttft),
            tpot: Some(0.0),
            ..TierSpec::new(name, quality)
        });
        let policy = Policy { strategy: Strategy::Best, ..Policy::default() };
        let names = NAMES.map(str::to_owned);
        let rules = Rules::new(specs, &names).unwrap();
        let router = Router::new(tiers.collect(), Head::flat(), policy).unwrap().with_rules(rules);
        let request = Conversation::prompt("What is the capital of France?").unwrap();
        let holds = router.rules().map_or_else(Vec::new, |rules| rules.holding(&request, &Facts::default()).unwrap());
        router.decide(&request, need, None, &holds, 0.0)
    }

    #[test]
    fn rules_force_restrict_exclude_and_ask_for_quality() {
        let choice = |then| decide(&[always("r", then, false)], &Need::default()).unwrap();
        let forced = choice(only(&["small"]));
        assert_eq!((forced.tier, forced.reason), (0, Reason::Preferred));
        assert_eq!(forced.candidates[2].verdict, Verdict::Ruled(0));
        assert_eq!(choice(only(&["small", "middle"])).tier, 1);
        assert_eq!(choice(exclude(&["large"])).tier, 1);
        assert_eq!(choice(Then { min_quality: Some(0.8), ..Then::default() }).tier, 2);
        let words = forced.explain(&NAMES.map(str::to_owned));
        assert!(words.starts_with("rule \"r\" (pattern \"\") leaves small; difficulty"), "{words}");
    }

    #[test]
    fn the_first_rule_takes_precedence_and_a_contradiction_is_set_aside() {
        let specs = vec![always("a", exclude(&["large"]), false), always("b", only(&["large"]), false)];
        let decision = decide(&specs, &Need::default()).unwrap();
        assert_eq!(decision.tier, 1);
        assert_eq!(decision.rules.iter().map(|rule| rule.kept).collect::<Vec<_>>(), [true, false]);
        let words = decision.explain(&NAMES.map(str::to_owned));
        assert!(
            words.contains("rule \"b\" (pattern \"\") set aside: no tier that it allows can take the request"),
            "{words}"
        );
    }

    #[test]
    fn a_rule_without_a_usable_tier_falls_back_unless_it_is_strict() {
        let failed = Need { excluded: vec![0], ..Need::default() };
        let soft = decide(&[always("r", only(&["small"]), false)], &failed).unwrap();
        assert_eq!((soft.tier, soft.rules[0].kept), (2, false));
        let strict = decide(&[always("r", only(&["small"]), true)], &failed);
        let Err(Error::NoTier { reasons }) = strict else { panic!("expected a refusal, got {strict:?}") };
        assert!(reasons.contains("large: ruled out by rule \"r\""), "{reasons}");
    }

    #[test]
    fn a_strict_rule_binds_before_the_others_and_is_tried_though_it_will_be_late() {
        let late = Need { deadline: Some(2.0), ..Need::default() };
        let specs = vec![always("soft", only(&["small"]), false), always("strict", only(&["large"]), true)];
        let decision = decide(&specs, &late);
        assert!(matches!(decision, Err(Error::Deadline { .. })), "never that fast: {decision:?}");
        let fast = decide(&[always("soft", only(&["large"]), false)], &late).unwrap();
        assert_eq!((fast.tier, fast.rules[0].kept), (1, false));
    }

    proptest! {
        #[test]
        fn a_kept_rule_is_obeyed_and_one_set_aside_could_not_be(
            demands in prop::collection::vec((1..7_u8, any::<bool>()), 0..5),
            failed in prop::collection::vec(0..3_usize, 0..3),
        ) {
            let masked = |mask: u8| NAMES.iter().enumerate().filter(move |(at, _)| mask >> at & 1 == 1);
            let specs = demands.iter().enumerate().map(|(number, (mask, strict))| {
                let tiers: Vec<_> = masked(*mask).map(|(_, name)| *name).collect();
                always(&number.to_string(), only(&tiers), *strict)
            });
            let need = Need { excluded: failed.clone(), ..Need::default() };
            let usable: u8 = (0..3).filter(|at| !failed.contains(at)).map(|at| 1 << at).sum();
            let strict = demands.iter().filter(|(_, strict)| *strict).fold(usable, |left, (mask, _)| left & mask);
            match decide(&specs.collect::<Vec<_>>(), &need) {
                Err(Error::NoTier { .. }) => prop_assert_eq!(strict, 0),
                Err(other) => prop_assert!(false, "{}", other),
                Ok(decision) => {
                    let mut left = usable;
                    for rule in &decision.rules {
                        let mask = demands[rule.name.parse::<usize>().unwrap()].0;
                        prop_assert_eq!(rule.kept, left & mask != 0);
                        left = if rule.kept { left & mask } else { left };
                    }
                    prop_assert!(left >> decision.tier & 1 == 1);
                }
            }
        }
    }
}
