//! Whether a near hit may be served: what decides between a similarity and an answer.

pub mod features;
pub mod weights;

use crate::text::guards::{self, Analysis, Reason};
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

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
    /// Probability that the two prompts have one answer.
    pub confidence: f32,
    /// What the guards found; empty if they found nothing or were not asked.
    pub reasons: Vec<Reason>,
}

/// Decides about candidates whose similarity already reached the threshold.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    policy: Policy,
}

impl Judge {
    /// A judge for a policy.
    pub fn new(policy: Policy) -> Self {
        Self { policy }
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
        if self.policy == Policy::Static {
            return Decision { accepted: true, confidence: candidate.similarity, reasons: Vec::new() };
        }
        let verdict = guards::compare(&query.analysis, &Analysis::new(candidate.text));
        let confidence = if verdict.accepted { candidate.similarity } else { 0.0 };
        Decision { accepted: verdict.accepted, confidence, reasons: verdict.reasons }
    }
}
