//! Rules of the application: which tiers a request may go to, whatever its difficulty.
//!
//! All rules are compiled once. Matching reads a text once for all keywords and once for all patterns, in time linear in
//! its length, whatever it holds; what it finds is kept with the request, so that retries and fallbacks match nothing again.

use std::ops::RangeInclusive;
use std::sync::Arc;

use regex::RegexSet;

use crate::index::VectorIndex;
use crate::route::request::Conversation;
use crate::route::words::{Words, fold};
use crate::text::guards::{known_names, named};
use crate::text::json::Value;
use crate::{Error, Result};

/// Bytes that the compiled patterns of one field may take; bounds the time a byte of text takes.
const PATTERN_BYTES: usize = 4 << 20;

/// Bytes of a prompt that tell its language.
const LANGUAGE_BYTES: usize = 512;

/// Which text a rule reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The last user turn, or the one that it continues.
    Prompt,
    /// The system prompt.
    System,
}

impl Field {
    const ALL: [Self; 2] = [Self::Prompt, Self::System];

    /// Reads a field's name.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names what would be accepted.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "prompt" => Ok(Self::Prompt),
            "system" => Ok(Self::System),
            _ => Err(refuse("field", format!("{name:?}"), "\"prompt\" or \"system\"")),
        }
    }

    fn of(self, request: &Conversation) -> &str {
        match self {
            Self::Prompt => &request.prompt,
            Self::System => &request.system,
        }
    }
}

/// When a rule holds.
#[derive(Debug, Clone, PartialEq)]
pub enum When {
    /// The text holds at least so many of the keywords, in any case.
    Keywords {
        /// What to look for.
        words: Vec<String>,
        /// How many different ones there must be.
        at_least: usize,
        /// Whether letters or digits beside a keyword make it another word.
        whole_words: bool,
        /// Which text.
        field: Field,
    },
    /// Any of the patterns is found in the text; the syntax is that of the `regex` crate, which matches in linear time.
    Patterns {
        /// Regular expressions.
        patterns: Vec<String>,
        /// Which text.
        field: Field,
    },
    /// All that is stated is true of the request.
    Stated(Stated),
    /// The prompt's embedding is near to those of the utterances: the mean similarity of the nearest ones reaches the
    /// threshold.
    Near {
        /// Embeddings of the utterances, end to end.
        rows: Vec<f32>,
        /// Their length.
        dim: usize,
        /// Mean similarity that is enough, in [-1, 1].
        threshold: f64,
        /// How many of the nearest utterances count.
        neighbours: usize,
    },
}

/// What may be stated of a request; what is `None` or empty is not asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stated {
    /// It has one of these tags.
    pub tags: Vec<String>,
    /// The field has one of these values; fields go by their number in [`Facts::fields`].
    pub fields: Vec<(usize, Vec<Value>)>,
    /// Whether tools are given.
    pub tools: Option<bool>,
    /// Whether a turn holds an image.
    pub images: Option<bool>,
    /// Estimated tokens of all turns are within these.
    pub tokens: Option<RangeInclusive<f64>>,
    /// The prompt is in one of these languages (`en`, `de`...) or scripts (`Cyrillic`, `Han`...).
    pub languages: Vec<String>,
}

/// What a rule demands of the tier.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Then {
    /// Names of the only tiers allowed; empty for all.
    pub only: Vec<String>,
    /// Names of tiers not allowed.
    pub exclude: Vec<String>,
    /// Probability of a good answer that the tier must have for this prompt.
    pub min_quality: Option<f64>,
}

/// A rule as given.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSpec {
    /// How decisions call it.
    pub name: String,
    /// When it holds.
    pub when: When,
    /// What it then demands.
    pub then: Then,
    /// Whether a request is refused rather than answered against the rule.
    pub strict: bool,
}

/// What is known of a request beside its turns.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// Its tags.
    pub tags: Vec<String>,
    /// Values of the fields that rules ask for, where it has them.
    pub fields: Vec<Option<Value>>,
    /// Whether tools are given.
    pub tools: bool,
    /// Embedding of the prompt by the embedder of the utterances.
    pub vector: Option<&'a [f32]>,
}

/// A rule that holds for a request, and what shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Holds {
    /// Number of the rule.
    pub rule: usize,
    /// What was found, in words.
    pub evidence: Arc<str>,
}

/// A compiled rule's demand.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    pub(super) strict: bool,
    allowed: Vec<bool>,
    min_quality: f64,
    when: Test,
}

/// How a rule is tested: by its place among the automaton's owners, or by itself.
#[derive(Debug)]
enum Test {
    Words { field: Field, owner: usize, at_least: usize },
    Patterns { field: Field, from: usize, until: usize },
    Stated(Stated),
    Near(Near),
}

/// Example utterances.
#[derive(Debug)]
struct Near {
    index: VectorIndex,
    threshold: f64,
    neighbours: usize,
}

impl Near {
    /// Mean similarity of the nearest utterances, where it is enough.
    fn similarity(&self, facts: &Facts<'_>) -> Result<Option<f64>> {
        let Some(vector) = facts.vector else { return Ok(None) };
        let nearest = self.index.search(vector, -1.0, self.neighbours)?;
        let mean = nearest.iter().map(|each| f64::from(each.similarity)).sum::<f64>() / nearest.len() as f64;
        Ok((mean >= self.threshold).then_some(mean))
    }
}

/// Keywords and patterns of one field.
#[derive(Debug)]
struct Texts {
    words: Words,
    need: Vec<usize>,
    patterns: RegexSet,
}

/// Rules, compiled for a router's tiers.
#[derive(Debug)]
pub struct Rules {
    pub(super) compiled: Vec<Rule>,
    texts: [Option<Texts>; 2],
    languages: bool,
}

impl Rule {
    pub(super) fn allows(&self, tier: usize, quality: f64) -> bool {
        self.allowed[tier] && quality >= self.min_quality
    }
}

impl Rules {
    /// Compiles rules; the first take precedence, strict ones before all others.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names the rule and what is wrong with it: a tier that is not there, an invalid pattern, no
    /// keywords or utterances, a demand that no tier can meet.
    pub fn new(specs: &[RuleSpec], tiers: &[String]) -> Result<Self> {
        let languages = specs.iter().any(|spec| matches!(&spec.when, When::Stated(r) if !r.languages.is_empty()));
        let (mut owners, mut patterns) = ([0; 2], [0; 2]);
        let mut rules = Vec::with_capacity(specs.len());
        for spec in specs {
            if rules.iter().any(|rule: &Rule| *rule.name == *spec.name) {
                return Err(refuse("rules", format!("{:?} twice", spec.name), "a different name for each rule"));
            }
            let (allowed, min_quality) = demand(spec, tiers)?;
            let when = test(spec, &mut owners, &mut patterns)?;
            rules.push(Rule { name: spec.name.as_str().into(), strict: spec.strict, allowed, min_quality, when });
        }
        let texts = [Texts::of(specs, Field::Prompt)?, Texts::of(specs, Field::System)?];
        Ok(Self { compiled: rules, texts, languages })
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.compiled.len()
    }

    /// True without any rule.
    pub fn is_empty(&self) -> bool {
        self.compiled.is_empty()
    }

    /// The rules that hold for a request, strict ones first, each kind in the order given.
    ///
    /// Of rules by example utterances that are not strict, only the nearest holds: they are alternatives to each other.
    ///
    /// # Errors
    /// [`Error::Dimension`] or [`Error::NotFinite`] for an embedding that is not one of the utterances' kind.
    pub fn holding(&self, request: &Conversation, facts: &Facts<'_>) -> Result<Vec<Holds>> {
        let mut found = Vec::new();
        let read: [Option<Read<'_>>; 2] = std::array::from_fn(|place| {
            self.texts[place].as_ref().map(|texts| texts.read(Field::ALL[place].of(request)))
        });
        let language = if self.languages { named(start_of(&request.prompt)) } else { None };
        let mut nearest = None;
        for strict in [true, false] {
            for (rule, compiled) in self.compiled.iter().enumerate().filter(|(_, rule)| rule.strict == strict) {
                let evidence = match &compiled.when {
                    Test::Near(near) => near.similarity(facts)?.map(|similarity| {
                        if !strict && nearest.is_none_or(|(highest, _)| similarity > highest) {
                            nearest = Some((similarity, rule));
                        }
                        format!("similarity {similarity:.2}")
                    }),
                    other => other.holds(request, facts, &read, language),
                };
                if let Some(evidence) = evidence {
                    found.push(Holds { rule, evidence: evidence.into() });
                }
            }
        }
        if let Some((_, nearest)) = nearest {
            let outdone = |rule: usize| {
                let compiled = &self.compiled[rule];
                matches!(compiled.when, Test::Near(_)) && !compiled.strict && rule != nearest
            };
            found.retain(|holds| !outdone(holds.rule));
        }
        Ok(found)
    }
}

/// What keywords and patterns found in one text.
struct Read<'a> {
    folded: std::borrow::Cow<'a, str>,
    words: Vec<super::words::Found>,
    patterns: regex::SetMatches,
    sources: &'a [String],
}

impl Texts {
    /// Collects what rules look for in one field; `None` if none does.
    fn of(specs: &[RuleSpec], field: Field) -> Result<Option<Self>> {
        let (mut owners, mut need, mut patterns) = (Vec::new(), Vec::new(), Vec::new());
        for spec in specs {
            match &spec.when {
                When::Keywords { words, at_least, whole_words, field: read } if *read == field => {
                    owners.push((words.as_slice(), *whole_words));
                    need.push(*at_least);
                }
                When::Patterns { patterns: given, field: read } if *read == field => {
                    for pattern in given {
                        let wrong = |error: regex::Error| {
                            let why = error.to_string();
                            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                            let expected = format!("a pattern of the regex crate's syntax: {why}");
                            refuse("patterns", format!("{pattern:?} (rule {:?})", spec.name), &expected)
                        };
                        regex::RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build().map_err(wrong)?;
                        patterns.push(pattern.as_str());
                    }
                }
                _ => {}
            }
        }
        if owners.is_empty() && patterns.is_empty() {
            return Ok(None);
        }
        let set = regex::RegexSetBuilder::new(&patterns).size_limit(PATTERN_BYTES).build().map_err(|_| {
            let expected = format!("patterns that compile to {} MiB together, or fewer", PATTERN_BYTES >> 20);
            refuse("patterns", format!("{} of them", patterns.len()), &expected)
        })?;
        Ok(Some(Self { words: Words::new(&owners)?, need, patterns: set }))
    }

    fn read<'a>(&'a self, text: &'a str) -> Read<'a> {
        let folded = fold(text);
        let words = self.words.find(&folded, &self.need);
        Read { folded, words, patterns: self.patterns.matches(text), sources: self.patterns.patterns() }
    }
}

impl Test {
    /// What shows that the rule holds; `None` where it does not.
    fn holds(
        &self,
        request: &Conversation,
        facts: &Facts<'_>,
        read: &[Option<Read<'_>>; 2],
        language: Option<(&str, &str)>,
    ) -> Option<String> {
        match self {
            Self::Words { field, owner, at_least } => read[*field as usize].as_ref().and_then(|read| {
                let found = &read.words[*owner];
                (found.different >= *at_least).then(|| format!("keyword {:?}", found.written(&read.folded)))
            }),
            Self::Patterns { field, from, until } => read[*field as usize].as_ref().and_then(|read| {
                let hit = (*from..*until).find(|place| read.patterns.matched(*place))?;
                Some(format!("pattern {:?}", read.sources[hit]))
            }),
            Self::Stated(asked) => asked.of(request, facts, language),
            Self::Near(_) => None, // by comparison with the others
        }
    }
}

impl Stated {
    fn of(&self, request: &Conversation, facts: &Facts<'_>, language: Option<(&str, &str)>) -> Option<String> {
        let mut shown = Vec::new();
        if !self.tags.is_empty() {
            shown.push(format!("tag {:?}", self.tags.iter().find(|tag| facts.tags.contains(tag))?));
        }
        for (number, values) in &self.fields {
            let value = facts.fields.get(*number)?.as_ref()?;
            values.iter().find(|known| same(known, value))?;
        }
        if self.tools.is_some_and(|tools| tools != facts.tools) || self.images.is_some_and(|has| has != request.images)
        {
            return None;
        }
        if let Some(range) = &self.tokens {
            if !range.contains(&request.tokens) {
                return None;
            }
            shown.push(format!("{:.0} tokens", request.tokens));
        }
        if !self.languages.is_empty() {
            let (code, script) = language?;
            let hit = self.languages.iter().find(|name| (*name == code && !code.is_empty()) || *name == script)?;
            shown.push(format!("language {hit}"));
        }
        Some(if shown.is_empty() { "request".to_owned() } else { shown.join(", ") })
    }
}

/// Whether two values are the same to JSON, where 1 and 1.0 are.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(int), Value::Float(float)) | (Value::Float(float), Value::Int(int)) => {
            (*int as f64).total_cmp(float).is_eq()
        }
        _ => a == b,
    }
}

fn refuse(name: &'static str, value: String, expected: &str) -> Error {
    Error::InvalidOption { name, value, expected: expected.to_owned() }
}

fn start_of(text: &str) -> &str {
    let end = (0..=LANGUAGE_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// Which tiers a rule allows, and the quality that it demands.
fn demand(spec: &RuleSpec, tiers: &[String]) -> Result<(Vec<bool>, f64)> {
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
fn test(spec: &RuleSpec, owners: &mut [usize; 2], patterns: &mut [usize; 2]) -> Result<Test> {
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Facts, Field, RuleSpec, Rules, Stated, Then, When};
    use crate::Error;
    use crate::route::request::{Conversation, Role, Turn};
    use crate::text::json::Value;

    fn tiers() -> Vec<String> {
        vec!["small".to_owned(), "large".to_owned()]
    }

    fn spec(name: &str, when: When) -> RuleSpec {
        let then = Then { only: vec!["large".to_owned()], ..Then::default() };
        RuleSpec { name: name.to_owned(), when, then, strict: false }
    }

    fn keywords(words: &[&str], at_least: usize) -> When {
        let words = words.iter().map(ToString::to_string).collect();
        When::Keywords { words, at_least, whole_words: true, field: Field::Prompt }
    }

    fn patterns(patterns: &[&str], field: Field) -> When {
        When::Patterns { patterns: patterns.iter().map(ToString::to_string).collect(), field }
    }

    fn holding(specs: &[RuleSpec], prompt: &str, facts: &Facts<'_>) -> Vec<(usize, String)> {
        let rules = Rules::new(specs, &tiers()).unwrap();
        let found = rules.holding(&Conversation::prompt(prompt).unwrap(), facts).unwrap();
        found.into_iter().map(|each| (each.rule, each.evidence.to_string())).collect()
    }

    #[test]
    fn keywords_and_patterns_of_many_rules_are_told_apart() {
        let specs = vec![
            spec("tax", keywords(&["vat", "income tax"], 1)),
            spec("both", keywords(&["vat", "refund"], 2)),
            spec("ids", patterns(&[r"\bINV-\d{4}\b", r"(?i)order no"], Field::Prompt)),
            spec("card", patterns(&[r"\b\d{16}\b"], Field::Prompt)),
        ];
        let found = holding(&specs, "Refund the VAT of INV-2031", &Facts::default());
        let shown: Vec<_> = found.iter().map(|(rule, evidence)| (*rule, evidence.as_str())).collect();
        assert_eq!(shown, [(0, "keyword \"VAT\""), (1, "keyword \"Refund\""), (2, r#"pattern "\\bINV-\\d{4}\\b""#)]);
    }

    #[test]
    fn strict_rules_come_first() {
        let strict = RuleSpec { strict: true, ..spec("second", keywords(&["b"], 1)) };
        let found = holding(&[spec("first", keywords(&["a"], 1)), strict], "a b", &Facts::default());
        assert_eq!(found.iter().map(|(rule, _)| *rule).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn the_system_prompt_is_a_field_and_a_yes_is_read_as_what_it_continues() {
        let turn = |role, text: &'static str| Turn { role, text: text.into(), images: 0 };
        let turns = [
            turn(Role::System, "You write titles."),
            turn(Role::User, "My invoice is wrong, explain it in detail please."),
            turn(Role::Assistant, "Shall I?"),
            turn(Role::User, "yes"),
        ];
        let request = Conversation::read(&turns).unwrap();
        let specs = vec![
            spec("titles", patterns(&["titles"], Field::System)),
            spec("invoice", keywords(&["invoice"], 1)),
            spec("not", patterns(&["titles"], Field::Prompt)),
        ];
        let rules = Rules::new(&specs, &tiers()).unwrap();
        let found = rules.holding(&request, &Facts::default()).unwrap();
        assert_eq!(found.iter().map(|each| each.rule).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn everything_stated_of_a_request_must_be_true() {
        let asked = Stated {
            tags: vec!["batch".to_owned(), "night".to_owned()],
            fields: vec![(0, vec![Value::from("free"), Value::Int(1)])],
            tools: Some(true),
            tokens: Some(0.0..=100.0),
            languages: vec!["de".to_owned()],
            ..Stated::default()
        };
        let prompt = "Kannst du mir sagen, wie ich das mit der Rechnung und dem Konto mache?";
        let facts =
            Facts { tags: vec!["night".to_owned()], fields: vec![Some(Value::Float(1.0))], tools: true, vector: None };
        let holds =
            |facts: &Facts<'_>, prompt| !holding(&[spec("r", When::Stated(asked.clone()))], prompt, facts).is_empty();
        assert!(holds(&facts, prompt));
        assert!(!holds(&Facts { tags: vec![], ..facts.clone() }, prompt));
        assert!(!holds(&Facts { fields: vec![None], ..facts.clone() }, prompt));
        assert!(!holds(&Facts { tools: false, ..facts.clone() }, prompt));
        assert!(!holds(&facts, "What is it that you want to do with this account and the invoice?"));
        assert!(!holds(&facts, &prompt.repeat(20)));
    }

    #[test]
    fn utterances_are_compared_by_the_mean_of_the_nearest() {
        let near = |threshold, neighbours| {
            let when = When::Near { rows: vec![1.0, 0.0, 0.6, 0.8], dim: 2, threshold, neighbours };
            holding(&[spec("near", when)], "x", &Facts { vector: Some(&[1.0, 0.0]), ..Facts::default() }).len()
        };
        assert_eq!((near(0.99, 1), near(0.81, 2), near(0.79, 2)), (1, 0, 1));
        let when = When::Near { rows: vec![1.0, 0.0], dim: 2, threshold: -1.0, neighbours: 1 };
        assert!(holding(&[spec("near", when)], "x", &Facts::default()).is_empty(), "no embedding at hand");
    }

    #[test]
    fn of_rules_by_utterances_the_nearest_holds_and_strict_ones_besides() {
        let near = |name: &str, row: [f32; 2], strict| {
            let when = When::Near { rows: row.to_vec(), dim: 2, threshold: 0.5, neighbours: 1 };
            RuleSpec { strict, ..spec(name, when) }
        };
        let rules = [
            near("far", [0.8, 0.6], false),
            near("nearest", [1.0, 0.1], false),
            near("strict", [0.6, 0.8], true),
            spec("word", keywords(&["x"], 1)),
        ];
        let facts = Facts { vector: Some(&[1.0, 0.0]), ..Facts::default() };
        let found = holding(&rules, "x", &facts);
        assert_eq!(found.iter().map(|(rule, _)| *rule).collect::<Vec<_>>(), [2, 1, 3]);
    }

    #[test]
    fn rules_without_a_meaning_are_refused_by_name() {
        let wrong = |spec: RuleSpec| match Rules::new(&[spec], &tiers()) {
            Err(Error::InvalidOption { name, value, expected }) => format!("{name} {value} {expected}"),
            other => format!("{other:?}"),
        };
        let good = || spec("good", keywords(&["a"], 1));
        let unknown = Then { only: vec!["huge".to_owned()], ..Then::default() };
        assert!(
            wrong(RuleSpec { then: unknown, ..good() })
                .contains("\"huge\" (rule \"good\") tiers of this router: small")
        );
        let all = Then { exclude: tiers(), ..Then::default() };
        assert!(wrong(RuleSpec { then: all, ..good() }).contains("leaves a tier"));
        assert!(wrong(RuleSpec { then: Then::default(), ..good() }).contains("demands something"));
        let sure = Then { min_quality: Some(1.0), ..Then::default() };
        assert!(wrong(RuleSpec { then: sure, ..good() }).contains("min_quality"));
        assert!(wrong(spec("lost", patterns(&["(a"], Field::Prompt))).contains("unclosed group"));
        assert!(wrong(spec("behind", patterns(&["(?<=a)b"], Field::Prompt))).contains("look-around"));
        assert!(wrong(spec("vast", patterns(&[r"\w{900}{90}"], Field::Prompt))).contains("size limit"));
        assert!(wrong(spec("none", keywords(&[], 1))).contains("at least one keyword"));
        assert!(wrong(spec("more", keywords(&["a", "A"], 2))).contains("1 to 1"));
        assert!(
            wrong(spec("klingon", When::Stated(Stated { languages: vec!["tlh".to_owned()], ..Stated::default() })))
                .contains("Cyrillic")
        );
        assert!(wrong(spec("empty", When::Stated(Stated::default()))).contains("states something"));
        let none = When::Near { rows: vec![], dim: 2, threshold: 0.5, neighbours: 1 };
        assert!(wrong(spec("mute", none)).contains("at least one utterance"));
        let twice = Rules::new(&[spec("a", keywords(&["x"], 1)), spec("a", keywords(&["y"], 1))], &tiers());
        assert!(twice.is_err());
    }

    #[test]
    fn hostile_texts_take_linear_time() {
        let specs = vec![
            spec("nested", patterns(&["(a*)*b", "(a|aa)+$", "(x+x+)+y"], Field::Prompt)),
            spec("chain", keywords(&["a", "aa", "aaa", "aaaa", "aaaaa"], 5)),
        ];
        let rules = Rules::new(&specs, &tiers()).unwrap();
        let least = |length: usize| {
            let request = Conversation::prompt(&"a".repeat(length)).unwrap();
            let times = (0..7).map(|_| {
                let start = Instant::now();
                rules.holding(&request, &Facts::default()).unwrap();
                start.elapsed()
            });
            times.min().unwrap().as_secs_f64()
        };
        // Square time would be 16,384 times as long; a busy machine has made 16 times the text take 97 times as long.
        let (short, long) = (least(4_000), least(512_000));
        assert!(long < 128.0 * 20.0 * short, "128 times the text took {:.0} times as long", long / short);
    }
}
