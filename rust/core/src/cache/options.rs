//! What a cache is told when it is made.

use super::clock::Clock;
use super::learning::Bound;
use super::space::Space;
use crate::encode::Embed;
use crate::verify::model::Model;
use crate::verify::{Judge, Policy};
use crate::{Error, Result};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// What may answer a request that asks for chance: one that states a temperature above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sampling {
    /// Whatever may answer any other: the temperature is part of the scope already.
    #[default]
    Share,
    /// An equal request only.
    Exact,
    /// Nothing: it is never answered from the cache and its answer is not kept.
    Fresh,
}

impl Sampling {
    const NAMES: [(&'static str, Self); 3] = [("share", Self::Share), ("exact", Self::Exact), ("fresh", Self::Fresh)];

    fn of(self, temperature: Option<f64>) -> Self {
        if temperature.is_some_and(|degree| degree > 0.0) { self } else { Self::Share }
    }
}

impl FromStr for Sampling {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, sampling)| sampling).ok_or_else(|| {
            Error::InvalidOption {
                name: "sampling",
                value: format!("{name:?}"),
                expected: "\"share\", \"exact\" or \"fresh\"".into(),
            }
        })
    }
}

/// Bounds and defaults of a cache.
#[derive(Debug)]
pub struct Options {
    /// Least similarity of a near hit. A lookup may ask for more, never for less.
    pub threshold: f32,
    /// The embedder whose vectors are held; `None` takes the dimension of the first vector.
    pub space: Option<Space>,
    /// The embedder itself, where it runs in the core; `space` is then its.
    pub encoder: Option<Arc<dyn Embed>>,
    /// Most texts whose vectors are remembered; 0 for none. They take a sixteenth of `max_bytes` at most.
    pub memo: usize,
    /// How candidates are judged.
    pub policy: Policy,
    /// The verifier that judges candidates; `None` for the one that comes with the library.
    pub verifier: Option<Arc<Model>>,
    /// Least confidence of a near hit, in place of the verifier's own.
    pub confidence: Option<f32>,
    /// How the verified policy bounds wrong hits; others do not look at it.
    pub bound: Bound,
    /// What may answer requests that ask for chance.
    pub sampling: Sampling,
    /// Most entries held.
    pub max_entries: Option<usize>,
    /// Most bytes held, everything counted.
    pub max_bytes: Option<usize>,
    /// Most bytes of one caller's scope.
    pub scope_bytes: Option<usize>,
    /// Life of an entry that does not state its own.
    pub ttl: Option<Duration>,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threshold: Policy::default().threshold(),
            space: None,
            encoder: None,
            memo: 1024,
            policy: Policy::default(),
            verifier: None,
            confidence: None,
            bound: Bound::default(),
            sampling: Sampling::default(),
            max_entries: None,
            max_bytes: Some(1 << 30),
            scope_bytes: None,
            ttl: None,
            clock: Clock::default(),
        }
    }
}

impl Options {
    pub(super) fn judge(&self) -> Result<Judge> {
        let judge = Judge::with_model(self.policy, self.verifier.clone().unwrap_or_else(Model::shipped));
        match self.confidence {
            Some(least) => judge.with_confidence(least),
            None => Ok(judge),
        }
    }

    /// Whether a request of this temperature may be compared by meaning.
    pub fn compares(&self, temperature: Option<f64>) -> bool {
        self.sampling.of(temperature) == Sampling::Share
    }

    /// Whether a request of this temperature may be answered at all, and its answer kept.
    pub fn shares(&self, temperature: Option<f64>) -> bool {
        self.sampling.of(temperature) != Sampling::Fresh
    }

    pub(super) fn check(&self) -> Result<()> {
        threshold(self.threshold)?;
        for (name, bound) in
            [("max_entries", self.max_entries), ("max_bytes", self.max_bytes), ("scope_bytes", self.scope_bytes)]
        {
            if bound == Some(0) {
                return Err(Error::InvalidOption { name, value: "0".into(), expected: "at least 1".into() });
            }
        }
        if let Some(encoder) = &self.encoder
            && self.space.map(|space| space.dim()) != Some(encoder.dim())
        {
            let value = format!("{:?}", self.space);
            let expected = format!("the space of the encoder, whose vectors have {} values", encoder.dim());
            return Err(Error::InvalidOption { name: "space", value, expected });
        }
        if self.ttl == Some(Duration::ZERO) {
            return Err(Error::InvalidOption { name: "ttl", value: "0".into(), expected: "more than 0 s".into() });
        }
        Ok(())
    }
}

/// `value` if it is a cosine similarity.
pub(super) fn threshold(value: f32) -> Result<f32> {
    if (-1.0..=1.0).contains(&value) { Ok(value) } else { Err(Error::Threshold { value: f64::from(value) }) }
}
