//! Whether a near hit may be served: what decides between a similarity and an answer.

pub mod features;
pub mod model;
pub mod verified;
pub mod weights;

use crate::text::guards::{self, Alignment, Analysis, Guard, Reason};
use crate::{Error, Result};
use model::Model;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Confidence at which a lone word put for another is taken for its synonym.
const SYNONYM: f32 = 0.8;

/// The reasons that stand at this confidence.
fn standing(mut reasons: Vec<Reason>, confidence: f32) -> Vec<Reason> {
    if confidence >= SYNONYM {
        reasons.retain(|reason| reason.guard != Guard::Substitution);
    }
    reasons
}

/// How near hits are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// The similarity threshold alone.
    Static,
    /// Threshold, lexical guards and pair verifier.
    #[default]
    Guarded,
    /// As guarded, with an error bound learned for each entry from judged answers.
    Verified,
}

impl Policy {
    /// Least similarity of a near hit under this policy, unless the caller names one. Where guards and verifier
    /// judge every candidate, they may be shown more of them.
    pub const fn threshold(self) -> f32 {
        match self {
            Self::Static => 0.9,
            Self::Guarded | Self::Verified => 0.8,
        }
    }

    /// Its name in options and explanations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Guarded => "guarded",
            Self::Verified => "verified",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Static, Self::Guarded, Self::Verified].into_iter().find(|policy| policy.name() == name).ok_or_else(
            || Error::InvalidOption {
                name: "policy",
                value: name.into(),
                expected: "\"static\", \"guarded\" or \"verified\"".into(),
            },
        )
    }
}

/// A lookup's text, taken apart once for all its candidates.
#[derive(Debug)]
pub struct Query<'q> {
    analysis: Analysis<'q>,
    vector: &'q [f32],
}

impl<'q> Query<'q> {
    /// A query with its unit vector.
    pub fn new(text: &'q str, vector: &'q [f32]) -> Self {
        Self { analysis: Analysis::new(text), vector }
    }

    /// The unit vector of the query.
    pub fn vector(&self) -> &[f32] {
        self.vector
    }
}

/// A stored prompt that is near the query.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'c> {
    /// Its text.
    pub text: &'c str,
    /// Its unit vector.
    pub vector: &'c [f32],
    /// Cosine of the two vectors.
    pub similarity: f32,
}

/// What was decided about one candidate, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// May be served.
    pub accepted: bool,
    /// Probability that the two prompts have one answer; the similarity where nothing estimates it.
    pub confidence: f32,
    /// Confidence that was asked for.
    pub required: f32,
    /// What the guards found; empty if they found nothing or were not asked.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Why the candidate was refused, one line a cause; empty if it was accepted.
    pub fn refusals(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        if self.confidence < self.required {
            lines.push(format!("verifier: confidence {:.3} is below {:.3}", self.confidence, self.required));
        }
        lines
    }
}

/// Decides about candidates whose similarity already reached the threshold.
#[derive(Debug, Clone)]
pub struct Judge {
    policy: Policy,
    model: Arc<Model>,
    knows_vectors: bool,
    least: f32,
}

impl Default for Judge {
    fn default() -> Self {
        Self::new(Policy::default())
    }
}

impl Judge {
    /// A judge with the verifier that comes with the library, for vectors of any embedder.
    pub fn new(policy: Policy) -> Self {
        Self::with_model(policy, Model::shipped())
    }

    /// A judge with a verifier of the user's own.
    pub fn with_model(policy: Policy, model: Arc<Model>) -> Self {
        // Under the verified policy the confidence is not a verdict but what the risk is estimated from.
        let least = if policy == Policy::Verified { 0.0 } else { model.threshold() };
        Self { policy, least, model, knows_vectors: false }
    }

    /// Lets the verifier look at vectors, if it knows the embedder that makes them.
    #[must_use]
    pub fn for_embedder(mut self, id: &str, dim: usize) -> Self {
        self.knows_vectors = self.model.knows(id, dim);
        self
    }

    /// Asks for another confidence than the verifier's own.
    pub fn with_confidence(mut self, least: f32) -> Result<Self> {
        if !(0.0..=1.0).contains(&least) {
            return Err(Error::InvalidOption {
                name: "confidence",
                value: least.to_string(),
                expected: "a probability in [0, 1]".into(),
            });
        }
        self.least = least;
        Ok(self)
    }

    /// The policy.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Decides about one candidate.
    ///
    /// ```
    /// use nearhit_core::verify::{Candidate, Judge, Policy, Query};
    /// let vector = [1.0, 0.0];
    /// let query = Query::new("Please cancel my order", &vector);
    /// let candidate = Candidate { text: "Please don't cancel my order", vector: &vector, similarity: 0.94 };
    /// let decision = Judge::new(Policy::Guarded).judge(&query, candidate);
    /// assert!(!decision.accepted);
    /// assert_eq!(decision.reasons[0].guard.name(), "negation");
    /// ```
    pub fn judge(&self, query: &Query<'_>, candidate: Candidate<'_>) -> Decision {
        let similarity = candidate.similarity;
        if self.policy == Policy::Static {
            return Decision { accepted: true, confidence: similarity, required: -1.0, reasons: Vec::new() };
        }
        let text = Analysis::new(candidate.text);
        let pair = Alignment::new(&query.analysis, &text);
        let verdict = guards::compare_aligned(&pair);
        let vectors = self.knows_vectors.then_some((query.vector, candidate.vector));
        let confidence = self.model.confidence(&pair, &verdict, similarity, vectors);
        let reasons = standing(verdict.reasons, confidence);
        let accepted = reasons.is_empty() && confidence >= self.least;
        Decision { accepted, confidence, required: self.least, reasons }
    }
}
