//! Rules as they are given, checked and made ready to be tested; what is wrong is refused by name.

use super::{Near, RuleSpec, Stated, Test, When};
use crate::index::VectorIndex;
use crate::route::words::Words;
use crate::text::guards::known_names;
use crate::{Error, Result};

pub(super) fn refuse(name: &'static str, value: String, expected: &str) -> Error {
    Error::InvalidOption { name, value, expected: expected.to_owned() }
}

/// Which tiers a rule allows, and the quality that it demands.
pub(super) fn demand(spec: &RuleSpec, tiers: &[String]) -> Result<(Vec<bool>, f64)> {
    let then = &spec.then;
    let of_rule = |value: String| format!("{value} (rule {:?})", spec.name);
    if spec.name.trim().is_empty() {
        return Err(refuse("name", format!("{:?}", spec.name), "a rule's name that is not blank"));
    }
    if then.only.is_empty() && then.exclude.is_empty() && then.min_quality.is_none() {
        let expected = "a rule that demands something: only, exclude or min_quality";
        return Err(refuse("rules", of_rule("nothing".to_owned()), expected));
    }
    for (name, given) in [("only", &then.only), ("exclude", &then.exclude)] {
        if let Some(unknown) = given.iter().find(|tier| !tiers.contains(tier)) {
            return Err(refuse(
                name,
                of_rule(format!("{unknown:?}")),
                &format!("tiers of this router: {}", tiers.join(", ")),
            ));
        }
    }
    let min_quality = then.min_quality.unwrap_or(0.0);
    if !(0.0..1.0).contains(&min_quality) {
        return Err(refuse("min_quality", of_rule(min_quality.to_string()), "a probability of at least 0 and below 1"));
    }
    let allowed: Vec<bool> = tiers
        .iter()
        .map(|tier| (then.only.is_empty() || then.only.contains(tier)) && !then.exclude.contains(tier))
        .collect();
    if !allowed.contains(&true) {
        return Err(refuse("rules", of_rule("no tier".to_owned()), "a rule that leaves a tier"));
    }
    Ok((allowed, min_quality))
}

/// How a rule is tested; `owners` and `patterns` count what the rules before it have, by field.
pub(super) fn test(spec: &RuleSpec, owners: &mut [usize; 2], patterns: &mut [usize; 2]) -> Result<Test> {
    let of_rule = |value: &dyn std::fmt::Display| format!("{value} (rule {:?})", spec.name);
    match &spec.when {
        When::Keywords { words, at_least, field, whole_words } => {
            let owner = owners[*field as usize];
            owners[*field as usize] += 1;
            if words.is_empty() || words.iter().any(|word| word.trim().is_empty()) {
                return Err(refuse(
                    "keywords",
                    of_rule(&format!("{words:?}")),
                    "at least one keyword, none of them blank",
                ));
            }
            let different = Words::new(&[(words, *whole_words)])?.count(0);
            if *at_least == 0 || *at_least > different {
                let expected = format!("1 to {different}, the different keywords of the rule");
                return Err(refuse("at_least", of_rule(at_least), &expected));
            }
            Ok(Test::Words { field: *field, owner, at_least: *at_least })
        }
        When::Patterns { patterns: given, field } => {
            if given.is_empty() {
                return Err(refuse("patterns", of_rule(&"[]"), "at least one pattern"));
            }
            let from = patterns[*field as usize];
            patterns[*field as usize] += given.len();
            Ok(Test::Patterns { field: *field, from, until: from + given.len() })
        }
        When::Stated(request) => {
            request.check(&of_rule)?;
            Ok(Test::Stated(request.clone()))
        }
        When::Near { rows, dim, threshold, neighbours } => {
            let index = VectorIndex::new(*dim)?;
            let count = index.add_many(rows)?.len();
            if count == 0 {
                return Err(refuse("utterances", of_rule(&"[]"), "at least one utterance"));
            }
            if !(-1.0..=1.0).contains(threshold) {
                return Err(Error::Threshold { value: *threshold });
            }
            if *neighbours == 0 || *neighbours > count {
                let expected = format!("1 to {count}, the utterances of the rule");
                return Err(refuse("neighbours", of_rule(neighbours), &expected));
            }
            Ok(Test::Near(Near { index, threshold: *threshold, neighbours: *neighbours }))
        }
    }
}

impl Stated {
    fn check(&self, of_rule: &dyn Fn(&dyn std::fmt::Display) -> String) -> Result<()> {
        if *self == Self::default() {
            let expected = "a rule that states something: tags, fields, has_tools, has_images, tokens or languages";
            return Err(refuse("rules", of_rule(&"nothing stated"), expected));
        }
        if let Some(range) = &self.tokens {
            let (low, high) = (*range.start(), *range.end());
            if !(low >= 0.0 && low <= high) {
                return Err(refuse("tokens", of_rule(&format!("{low} to {high}")), "the least and the most tokens"));
            }
        }
        let known = known_names();
        match self.languages.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(refuse("languages", of_rule(&format!("{name:?}")), &known.join(", "))),
            None => Ok(()),
        }
    }
}
