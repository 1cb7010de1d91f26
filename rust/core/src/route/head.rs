//! Heads: from a prompt's features to the probability that each tier answers it well.

use std::sync::LazyLock;

use crate::text::features::{FEATURES, PromptFeatures};
use crate::{Error, Result};

/// The shipped head, fitted on public outcomes of open and closed models; see its first lines.
const SHIPPED: &str = include_str!("default_head.txt");

static DEFAULT: LazyLock<Head> = LazyLock::new(|| Head::parse(SHIPPED).unwrap_or_else(|_| Head::flat()));

/// A weighted sum of the features, and of the prompt's embedding where there is one.
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

    fn logit(&self, features: &[f32; FEATURES], embedding: &[f32]) -> f32 {
        let dot = |weights: &[f32], values: &[f32]| -> f32 { weights.iter().zip(values).map(|(w, x)| w * x).sum() };
        self.bias + dot(&self.features, features) + dot(&self.embedding, embedding)
    }
}

/// Gives each tier the probability that it answers a prompt well.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// One difficulty for all tiers (a Rasch model): P = sigmoid(ability - difficulty), the ability being the logit of
    /// the tier's quality. Works for tiers never seen.
    Difficulty {
        /// Difficulty from the text alone.
        text: Linear,
        /// Difficulty where the embedding is at hand.
        embedded: Option<Linear>,
    },
    /// One fitted sum for each tier, in the order of the router's tiers.
    PerTier(Vec<Linear>),
}

impl Default for Head {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

impl Head {
    /// The same difficulty for every prompt.
    pub fn flat() -> Self {
        let text = Linear { bias: 0.0, features: vec![0.0; FEATURES], embedding: Vec::new() };
        Self::Difficulty { text, embedded: None }
    }

    /// Reads a difficulty head: lines of a name and its weight, `bias` or a feature's name; `#` starts a comment.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names the line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut bias = 0.0;
        let mut weights = vec![0.0; FEATURES];
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let refuse = |expected: &str| Error::InvalidOption {
                name: "head",
                value: format!("{line:?}"),
                expected: expected.to_owned(),
            };
            let (name, weight) = line.split_once(' ').ok_or_else(|| refuse("a name, a space and a weight"))?;
            let weight: f32 = weight.trim().parse().map_err(|_| refuse("a number after the name"))?;
            match PromptFeatures::names().position(|known| known == name) {
                _ if name == "bias" => bias = weight,
                Some(at) => weights[at] = weight,
                None => return Err(refuse("the name of a prompt feature")),
            }
        }
        Ok(Self::Difficulty { text: Linear::new(bias, weights, Vec::new())?, embedded: None })
    }

    /// The prompt's difficulty in logits: 0 for an average one.
    ///
    /// With fitted tiers it is the mean log-odds of failure over them.
    pub fn difficulty(&self, features: &PromptFeatures, embedding: Option<&[f32]>) -> f64 {
        let values = features.values();
        match self {
            Self::Difficulty { text, embedded } => f64::from(match (embedded, embedding) {
                (Some(head), Some(vector)) if head.embedding.len() == vector.len() => head.logit(values, vector),
                _ => text.logit(values, &[]),
            }),
            Self::PerTier(heads) => {
                let sum: f32 = heads.iter().map(|head| head.logit(values, embedding.unwrap_or(&[]))).sum();
                f64::from(-sum / heads.len().max(1) as f32)
            }
        }
    }

    /// The probability that tier number `tier`, of this `quality`, answers well.
    pub(super) fn quality(
        &self,
        tier: usize,
        quality: f64,
        difficulty: f64,
        features: &PromptFeatures,
        embedding: Option<&[f32]>,
    ) -> f64 {
        match self {
            Self::PerTier(heads) if tier < heads.len() => {
                sigmoid(f64::from(heads[tier].logit(features.values(), embedding.unwrap_or(&[]))))
            }
            _ => sigmoid((quality / (1.0 - quality)).ln() - difficulty),
        }
    }

    /// Refuses a head fitted for another number of tiers.
    ///
    /// # Errors
    /// [`Error::InvalidOption`].
    pub fn check(&self, tiers: usize) -> Result<()> {
        match self {
            Self::PerTier(heads) if heads.len() != tiers => Err(Error::InvalidOption {
                name: "head",
                value: format!("{} tiers", heads.len()),
                expected: format!("{tiers}, one for each tier of this router"),
            }),
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
    use super::{Head, Linear, SHIPPED};
    use crate::text::features::{FEATURES, PromptFeatures};

    #[test]
    fn the_shipped_head_reads_and_ranks_prompts() {
        let head = Head::parse(SHIPPED).unwrap();
        let difficulty = |text| head.difficulty(&PromptFeatures::of(text), None);
        let easy = difficulty("What is the capital of France?");
        let hard = difficulty(
            "Let G be a finite group of order 2n, n odd. Prove that G has a subgroup of index 2, then determine, step \
             by step, how many elements of order 2 it has if G is not abelian.",
        );
        assert!(easy < hard, "{easy} {hard}");
        assert_ne!(head, Head::flat());
    }

    #[test]
    fn damaged_heads_are_refused() {
        for text in ["bias", "bias x", "nonsense 1.0", "bias NaN"] {
            assert!(Head::parse(text).is_err(), "{text}");
        }
        assert!(Linear::new(0.0, vec![0.0; FEATURES + 1], Vec::new()).is_err());
        let linear = Linear::new(0.0, vec![0.0; FEATURES], Vec::new()).unwrap();
        assert!(Head::PerTier(vec![linear]).check(2).is_err());
    }

    #[test]
    fn a_better_tier_is_never_less_likely_to_answer_well() {
        let head = Head::default();
        let features = PromptFeatures::of("Summarise this text.");
        let difficulty = head.difficulty(&features, None);
        let good = |quality| head.quality(0, quality, difficulty, &features, None);
        assert!(good(0.9) > good(0.6) && good(0.6) > good(0.1));
    }
}
