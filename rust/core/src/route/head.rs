//! Heads: from a prompt's features to the probability that each tier answers it well.

use std::sync::LazyLock;

use crate::simd::kernels;
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

/// A direction of the embedding's space: what counts is the square of the embedding's part along it.
#[derive(Debug, Clone, PartialEq)]
pub struct Square {
    /// The square's weight.
    pub weight: f32,
    /// As long as the embedding.
    pub direction: Vec<f32>,
}

/// A weighted sum of the standardised features and, where there is an embedding, of its dimensions and of squares.
///
/// A few squares say what a kernel machine with the kernel (x . y)^2 has learned from all its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Surface {
    bias: f32,
    features: Vec<f32>,
    embedding: Vec<f32>,
    squares: Vec<Square>,
}

impl Surface {
    /// A sum with one weight a feature, one a dimension of the embedding, and squares (either may be empty).
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for another number of weights than features, embeddings of different lengths, or a
    /// weight that is not finite.
    pub fn new(bias: f32, features: Vec<f32>, embedding: Vec<f32>, squares: Vec<Square>) -> Result<Self> {
        let refuse = |value: String, expected: String| Err(Error::InvalidOption { name: "head", value, expected });
        if features.len() != FEATURES {
            return refuse(
                format!("{} feature weights", features.len()),
                format!("{FEATURES}, one for each prompt feature: fit the head again with this version"),
            );
        }
        let made = Self { bias, features, embedding, squares };
        if let Some(other) = made.squares.iter().find(|square| square.direction.len() != made.dim()) {
            return refuse(format!("a direction of {}", other.direction.len()), format!("{} dimensions", made.dim()));
        }
        let squares = made.squares.iter().flat_map(|square| square.direction.iter().chain([&square.weight]));
        let mut weights = [&made.bias].into_iter().chain(&made.features).chain(&made.embedding).chain(squares);
        let wrong = weights.find(|weight| !weight.is_finite()).copied();
        drop(weights);
        match wrong {
            Some(weight) => refuse(weight.to_string(), "finite weights".to_owned()),
            None => Ok(made),
        }
    }

    fn flat() -> Self {
        Self { bias: 0.0, features: vec![0.0; FEATURES], embedding: Vec::new(), squares: Vec::new() }
    }

    /// Length of the embeddings that this goes with; 0 where it uses none.
    fn dim(&self) -> usize {
        self.squares.first().map_or(self.embedding.len(), |square| square.direction.len()).max(self.embedding.len())
    }

    fn sum(&self, features: &[f32; FEATURES], embedding: &[f32]) -> f64 {
        let dot = |weights: &[f32], values: &[f32]| -> f32 { weights.iter().zip(values).map(|(w, x)| w * x).sum() };
        let along = |square: &Square| square.weight * (kernels().dot)(&square.direction, embedding).powi(2);
        let squares: f32 = if self.dim() == embedding.len() { self.squares.iter().map(along).sum() } else { 0.0 };
        f64::from(self.bias + dot(&self.features, features) + dot(&self.embedding, embedding) + squares)
    }

    fn set(&mut self, name: &str, weight: f32, direction: Option<&[f32]>) -> bool {
        match direction {
            Some(direction) if name == "square" => {
                if weight != 0.0 {
                    self.squares.push(Square { weight, direction: direction.to_vec() });
                }
            }
            Some(_) => return false,
            None if name == "bias" => self.bias = weight,
            None => match PromptFeatures::names().position(|known| known == name) {
                Some(at) => self.features[at] = weight,
                None => return false,
            },
        }
        true
    }
}

/// Bytes of two hexadecimal digits each, as numbers from -1 to 1; None for other text.
fn direction(hex: &str) -> Option<Vec<f32>> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| f32::from((pair[0] * 16 + pair[1]) as u8 as i8) / 127.0;
    digits.len().is_multiple_of(2).then(|| digits.chunks_exact(2).map(byte).collect())
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
        // Many word problems spell their numbers out; without a question, words such as "two" are no sign of one.
        let asks = count("log_questions") >= 1.0;
        let amounts = count("log_numbers") >= 2.0 || (count("log_amounts") >= 2.0 && asks);
        if count("log_options") >= 3.0 {
            Self::Choice
        } else if amounts
            && count("quantity") >= 1.0
            && count("reason") < 1.0
            && count("log_code_symbols") < 3.0
            && count("log_chars") < 1000.0
        {
            Self::Quantity
        } else {
            Self::Open
        }
    }
}

/// The kind of a prompt, by which the shipped head chooses its weights: "choice", "quantity" or "open".
pub fn prompt_kind(features: &PromptFeatures) -> &'static str {
    KINDS[Kind::of(features) as usize].0
}

/// Difficulty and discrimination of a prompt, in logits.
#[derive(Debug, Clone, PartialEq)]
struct Item {
    difficulty: Surface,
    discrimination: Surface,
}

impl Item {
    fn flat() -> Self {
        Self { difficulty: Surface::flat(), discrimination: Surface::flat() }
    }

    /// Length of the embeddings that this goes with.
    fn dim(&self) -> usize {
        self.difficulty.dim().max(self.discrimination.dim())
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
        text: Vec<Surface>,
        /// With the embedding, where one is at hand; as many as in `text`, or none.
        embedded: Vec<Surface>,
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
    /// in the discrimination, and for a "square" its direction in signed bytes; `#` starts a comment. The section
    /// "scale" belongs to the features.
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
            let bytes = match line.split_ascii_whitespace().nth(3) {
                Some(hex) => Some(direction(hex).ok_or_else(|| refuse("a direction in hexadecimal digits"))?),
                None => None,
            };
            let direction = bytes.as_deref();
            if direction.is_some_and(|bytes| bytes.is_empty() || ![0, bytes.len()].contains(&item.dim())) {
                return Err(refuse("directions of one length"));
            }
            if !(item.difficulty.set(name, difficulty, direction)
                && item.discrimination.set(name, discrimination, direction))
            {
                return Err(refuse("the name of a prompt feature, bias, or square with a direction"));
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
                let fits = |item: &&Item| item.dim() == embedding.len();
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
    fn per_tier(&self, embedding: &[f32]) -> &[Surface] {
        match self {
            Self::Items(_) => &[],
            Self::PerTier { text, embedded } => {
                let fits = embedded.iter().all(|head| head.dim() == embedding.len());
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
    use super::{Head, Kind, SHIPPED, Square, Surface, standardise};
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
        assert_eq!(kind("The _ ran off.\nA) cat\nB) box\nPrint A or B. Answer:"), Kind::Open); // MMLU has four options
        assert_eq!(kind("Liz has twice as many nuts as Al, who has five. How many has she?"), Kind::Quantity);
        assert_eq!(kind("Write two paragraphs on the two sides of every war."), Kind::Open);
        assert_eq!(kind("Tom buys 3 pens at 2 dollars each. How much does he pay?"), Kind::Quantity);
        assert_eq!(kind("Explain the French revolution."), Kind::Open);
        assert_eq!(kind("Prove, step by step, that 2 and 3 are the only primes that differ by 1 each."), Kind::Open);
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
        for line in ["square 1 1", "square 1 1 7f7", "square 1 1 xy", "bias 1 1 7f", "square 1 1 7f\nsquare 1 1 7f7f"] {
            assert!(Head::parse(&format!("[open embedded]\n{line}")).is_err(), "{line}");
        }
        let zeros = vec![0.0; FEATURES];
        let square = |direction: Vec<f32>| vec![Square { weight: 1.0, direction }];
        assert!(Surface::new(0.0, vec![0.0; FEATURES + 1], Vec::new(), Vec::new()).is_err());
        assert!(Surface::new(0.0, zeros.clone(), vec![0.0; 3], square(vec![0.0; 2])).is_err());
        assert!(Surface::new(0.0, zeros.clone(), Vec::new(), square(vec![f32::NAN])).is_err());
        let surface = Surface::new(0.0, zeros, Vec::new(), Vec::new()).unwrap();
        assert!(Head::PerTier { text: vec![surface], embedded: Vec::new() }.check(2).is_err());
    }

    #[test]
    fn a_square_counts_the_embeddings_part_along_its_direction() {
        let head = Head::parse("[open embedded]\nbias 0.5 0\nsquare 2 0 7f00\nsquare 0 3 0081").unwrap();
        let features = PromptFeatures::of("Explain how a hash map works.");
        let reading = head.read(&features, Some(&[0.6, 0.8]));
        assert!((reading.difficulty - (0.5 + 2.0 * 0.36)).abs() < 1e-6, "{}", reading.difficulty);
        assert!((reading.discrimination - 3.0 * 0.64).abs() < 1e-6, "{}", reading.discrimination);
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
