//! Rules of the application: which tiers a request may go to, whatever its difficulty.
//!
//! All rules are compiled once. Matching reads a text once for all keywords and once for all patterns, in time linear in
//! its length, whatever it holds; what it finds is kept with the request, so that retries and fallbacks match nothing again.

mod compile;

use std::ops::RangeInclusive;
use std::sync::Arc;

use compile::{demand, refuse, test};
use regex::RegexSet;

use crate::Result;
use crate::index::VectorIndex;
use crate::route::request::Conversation;
use crate::route::words::{Words, fold};
use crate::text::guards::named;
use crate::text::json::Value;

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
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) names what would be accepted.
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
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) names the rule and what is wrong with it: a tier that is not there, an invalid pattern, no
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
    /// [`Error::Dimension`](crate::Error::Dimension) or
    /// [`Error::NotFinite`](crate::Error::NotFinite) for an embedding that is not one of the utterances' kind.
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

fn start_of(text: &str) -> &str {
    let end = (0..=LANGUAGE_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests;
