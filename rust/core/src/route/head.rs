//! Heads: from a prompt's features to the probability that each tier answers it well.

use std::sync::LazyLock;

use crate::text::features::{FEATURES, PromptFeatures};
use crate::{Error, Result};

/// The shipped head; HEAD.md beside it says what it was fitted on and how good it is.
const SHIPPED: &str = include_str!("default_head.txt");

static DEFAULT: LazyLock<Head> = LazyLock::new(|| Head::parse(SHIPPED).unwrap_or_else(|_| Head::flat()));

/// Standardised features beyond this many deviations say no more.
const CLIP: f32 = 4.0;

/// Standardises features: subtract, multiply, clip.
#[derive(Debug, Clone, PartialEq)]
struct Scaler {
    mean: [f32; FEATURES],
    factor: [f32; FEATURES],
}

impl Scaler {
    fn apply(&self, features: &PromptFeatures) -> [f32; FEATURES] {
        let values = features.values();
        std::array::from_fn(|at| ((values[at] - self.mean[at]) * self.factor[at]).clamp(-CLIP, CLIP))
    }
}

/// The prompt's features as heads weigh them: standardised over public prompts, clipped at four deviations.
pub fn standardise(features: &PromptFeatures) -> [f32; FEATURES] {
    DEFAULT_SCALE.apply(features)
}

static DEFAULT_SCALE: LazyLock<Scaler> = LazyLock::new(|| {
    let mut scaler = Scaler { mean: [0.0; FEATURES], factor: [1.0; FEATURES] };
    let lines = SHIPPED.lines().skip_while(|line| *line != "[scale]").skip(1).take_while(|line| !line.starts_with('['));
    for (name, mean, deviation) in lines.filter_map(weights) {
        if let Some(at) = PromptFeatures::names().position(|known| known == name) {
            (scaler.mean[at], scaler.factor[at]) = (mean, 1.0 / deviation);
        }
    }
    scaler
});

/// A line of a name and two numbers.
fn weights(line: &str) -> Option<(&str, f32, f32)> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?;
    let mut number = || fields.next()?.parse().ok().filter(|value: &f32| value.is_finite());
    Some((name, number()?, number()?))
}

/// A weighted sum of the standardised features, and of the prompt's embedding where there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    bias: f32,
    features: Vec<f32>,
    embedding: Vec<f32>,
}

impl Linear {
    /// A sum with one weight a feature, and one a dimension of the embedding (empty: the embedding is not used).
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for another number of weights than features, or a weight that is not finite.
    pub fn new(bias: f32, features: Vec<f32>, embedding: Vec<f32>) -> Result<Self> {
        if features.len() != FEATURES {
            return Err(Error::InvalidOption {
                name: "head",
                value: format!("{} feature weights", features.len()),
                expected: format!("{FEATURES}, one for each prompt feature: fit the head again with this version"),
            });
        }
        match std::iter::once(&bias).chain(&features).chain(&embedding).find(|weight| !weight.is_finite()) {
            Some(weight) => Err(Error::InvalidOption {
                name: "head",
                value: weight.to_string(),
                expected: "finite weights".to_owned(),
            }),
            None => Ok(Self { bias, features, embedding }),
        }
    }

    fn flat() -> Self {
        Self { bias: 0.0, features: vec![0.0; FEATURES], embedding: Vec::new() }
    }

    fn sum(&self, features: &[f32; FEATURES], embedding: &[f32]) -> f64 {
        let dot = |weights: &[f32], values: &[f32]| -> f32 { weights.iter().zip(values).map(|(w, x)| w * x).sum() };
        f64::from(self.bias + dot(&self.features, features) + dot(&self.embedding, embedding))
    }

    fn set(&mut self, name: &str, weight: f32) -> bool {
        if name == "bias" {
            self.bias = weight;
        } else if let Some(at) = PromptFeatures::names().position(|known| known == name) {
            self.features[at] = weight;
        } else if name.strip_prefix('e').and_then(|at| at.parse().ok()) == Some(self.embedding.len()) {
            self.embedding.push(weight);
        } else {
            return false;
        }
        true
    }
}

/// What kind of question a prompt is; each has its own weights, since what makes one hard says little of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Multiple choice.
    Choice,
    /// A word problem with quantities.
    Quantity,
    /// Anything else.
    Open,
}

const KINDS: [(&str, Kind); 3] = [("choice", Kind::Choice), ("quantity", Kind::Quantity), ("open", Kind::Open)];

impl Kind {
    fn of(features: &PromptFeatures) -> Self {
        // Features are logarithms of 1 + count.
        let count = |name| features.get(name).unwrap_or(0.0).exp_m1().round();
        if count("log_options") >= 3.0 {
            Self::Choice
        } else if count("log_numbers") >= 2.0
            && count("quantity") >= 1.0
            && count("log_code_symbols") < 3.0
            && count("log_chars") < 1000.0
        {
            Self::Quantity
        } else {
            Self::Open
        }
    }
}

/// Difficulty and discrimination of a prompt, in logits.
#[derive(Debug, Clone, PartialEq)]
struct Item {
    difficulty: Linear,
    discrimination: Linear,
}

impl Item {
    fn flat() -> Self {
        Self { difficulty: Linear::flat(), discrimination: Linear::flat() }
    }
}

/// Weights for one kind of prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Expert {
    text: Item,
    embedded: Option<Item>,
}

/// Gives each tier the probability that it answers a prompt well.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// Item response theory (two-parameter logistic): P = sigmoid(ability * (1 + discrimination) - difficulty), the
    /// ability being the logit of the tier's quality. Works for tiers never seen.
    Items(Box<[Expert; 3]>),
    /// One fitted sum for each tier, in the order of the router's tiers.
    PerTier {
        /// Over the text's features alone.
        text: Vec<Linear>,
        /// With the embedding, where one is at hand; as many as in `text`, or none.
        embedded: Vec<Linear>,
    },
}

impl Default for Head {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

/// A prompt as a head sees it.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    features: [f32; FEATURES],
    embedding: &'a [f32],
    /// Difficulty in logits, 0 for an average prompt.
    pub(super) difficulty: f64,
    discrimination: f64,
}

impl Head {
    /// The same difficulty for every prompt.
    pub fn flat() -> Self {
        let expert = Expert { text: Item::flat(), embedded: None };
        Self::Items(Box::new([expert.clone(), expert.clone(), expert]))
    }

    /// Reads an item head. Sections are named after kinds of prompts ("choice", "quantity", "open"), with " embedded"
    /// behind the name where the embedding is used too; lines give a name, its weight in the difficulty and its weight
    /// in the discrimination; `#` starts a comment. The section "scale" belongs to the features.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names the line.
    pub fn parse(text: &str) -> Result<Self> {
        let flat = Expert { text: Item::flat(), embedded: None };
        let mut experts = [flat.clone(), flat.clone(), flat];
        let mut section = None;
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let refuse = |expected: &str| Error::InvalidOption {
                name: "head",
                value: format!("{line:?}"),
                expected: expected.to_owned(),
            };
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                let (kind, embedded) = name.strip_suffix(" embedded").map_or((name, false), |kind| (kind, true));
                let known = KINDS.iter().find(|(known, _)| *known == kind);
                section = match known {
                    Some((_, kind)) => Some((*kind as usize, embedded)),
                    None if name == "scale" => None,
                    None => return Err(refuse("[choice], [quantity], [open] or [scale]")),
                };
                continue;
            }
            let (name, difficulty, discrimination) = weights(line).ok_or_else(|| refuse("a name and two numbers"))?;
            let Some((kind, embedded)) = section else { continue };
            let expert = &mut experts[kind];
            let item = if embedded { expert.embedded.get_or_insert_with(Item::flat) } else { &mut expert.text };
            if !(item.difficulty.set(name, difficulty) && item.discrimination.set(name, discrimination)) {
                return Err(refuse("the name of a prompt feature, bias, or e0, e1... in order"));
            }
        }
        Ok(Self::Items(Box::new(experts)))
    }

    /// Reads a prompt. An embedding of another length than the head's is not used.
    pub(super) fn read<'a>(&self, features: &PromptFeatures, embedding: Option<&'a [f32]>) -> Reading<'a> {
        let values = standardise(features);
        let embedding = embedding.unwrap_or(&[]);
        match self {
            Self::Items(experts) => {
                let expert = &experts[Kind::of(features) as usize];
                let fits = |item: &&Item| item.difficulty.embedding.len() == embedding.len();
                let item = expert.embedded.as_ref().filter(fits).unwrap_or(&expert.text);
                let difficulty = item.difficulty.sum(&values, embedding);
                let discrimination = item.discrimination.sum(&values, embedding);
                Reading { features: values, embedding, difficulty, discrimination }
            }
            Self::PerTier { .. } => {
                let heads = self.per_tier(embedding);
                let sum: f64 = heads.iter().map(|head| head.sum(&values, embedding)).sum();
                let difficulty = -sum / heads.len().max(1) as f64;
                Reading { features: values, embedding, difficulty, discrimination: 0.0 }
            }
        }
    }

    /// The probability that tier number `tier`, of this `quality`, answers well.
    pub(super) fn quality(&self, tier: usize, quality: f64, reading: &Reading<'_>) -> f64 {
        if let Some(head) = self.per_tier(reading.embedding).get(tier) {
            return sigmoid(head.sum(&reading.features, reading.embedding));
        }
        let ability = (quality / (1.0 - quality)).ln();
        // A negative slope would call better tiers worse.
        sigmoid(ability * (1.0 + reading.discrimination).max(0.0) - reading.difficulty)
    }

    /// The sums that fit this embedding; none for an item head.
    fn per_tier(&self, embedding: &[f32]) -> &[Linear] {
        match self {
            Self::Items(_) => &[],
            Self::PerTier { text, embedded } => {
                let fits = embedded.iter().all(|head| head.embedding.len() == embedding.len());
                if fits && !embedded.is_empty() { embedded } else { text }
            }
        }
    }

    /// Refuses a head fitted for another number of tiers.
    ///
    /// # Errors
    /// [`Error::InvalidOption`].
    pub fn check(&self, tiers: usize) -> Result<()> {
        match self {
            Self::PerTier { text, embedded }
                if text.len() != tiers || !(embedded.is_empty() || embedded.len() == tiers) =>
            {
                Err(Error::InvalidOption {
                    name: "head",
                    value: format!("{} and {} tiers", text.len(), embedded.len()),
                    expected: format!("{tiers}, one for each tier of this router"),
                })
            }
            _ => Ok(()),
        }
    }
}

/// The logistic function.
pub(super) fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::{Head, Kind, Linear, SHIPPED, standardise};
    use crate::text::features::{FEATURES, PromptFeatures};

    #[test]
    fn the_shipped_head_reads_and_ranks_prompts() {
        let head = Head::parse(SHIPPED).unwrap();
        let difficulty = |text| head.read(&PromptFeatures::of(text), None).difficulty;
        let easy = difficulty("What is the capital of France?");
        let hard = difficulty(
            "Let G be a finite group of order 2n, n odd. Prove that G has a subgroup of index 2, then determine, step \
             by step, how many elements of order 2 it has if G is not abelian.",
        );
        assert!(easy < hard, "{easy} {hard}");
        assert_ne!(head, Head::flat());
    }

    #[test]
    fn an_embedding_is_used_where_it_fits() {
        let head = Head::default();
        let features = PromptFeatures::of("Explain how a hash map works.");
        let with = |vector: Option<&[f32]>| head.read(&features, vector).difficulty;
        let vector: Vec<f32> = (0..384_u16).map(|at| f32::from(at % 7) / 50.0).collect();
        assert!((with(None) - with(Some(&vector))).abs() > 1e-9);
        assert!((with(None) - with(Some(&vector[..100]))).abs() < 1e-12);
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind = |text| Kind::of(&PromptFeatures::of(text));
        assert_eq!(kind("Which?\nA. one\nB. two\nC. three\nAnswer:"), Kind::Choice);
        assert_eq!(kind("Tom buys 3 pens at 2 dollars each. How much does he pay?"), Kind::Quantity);
        assert_eq!(kind("Explain the French revolution."), Kind::Open);
    }

    #[test]
    fn features_are_standardised_and_clipped() {
        let values = standardise(&PromptFeatures::of(&"prove ".repeat(2000)));
        assert!(values.iter().all(|value| value.abs() <= super::CLIP));
        assert!(values.iter().any(|value| value.abs() > 1.0));
    }

    #[test]
    fn damaged_heads_are_refused() {
        for text in ["[open]\nbias", "[open]\nbias x 1", "[open]\nnonsense 1 1", "[open]\nbias NaN 0", "[magic]"] {
            assert!(Head::parse(text).is_err(), "{text}");
        }
        assert!(Head::parse("[open embedded]\ne1 1 1").is_err(), "dimensions in order");
        assert!(Linear::new(0.0, vec![0.0; FEATURES + 1], Vec::new()).is_err());
        let linear = Linear::new(0.0, vec![0.0; FEATURES], Vec::new()).unwrap();
        assert!(Head::PerTier { text: vec![linear], embedded: Vec::new() }.check(2).is_err());
    }

    #[test]
    fn a_better_tier_is_never_less_likely_to_answer_well() {
        let head = Head::default();
        for text in ["Summarise this text.", "Which?\nA. x\nB. y\nC. z\nAnswer:", "Prove it."] {
            let reading = head.read(&PromptFeatures::of(text), None);
            let good = |quality| head.quality(0, quality, &reading);
            assert!(good(0.9) >= good(0.6) && good(0.6) >= good(0.1));
        }
    }
}
