//! What a cache is told when it is made.

use super::clock::Clock;
use super::learning::Bound;
use super::space::Space;
use crate::verify::Policy;
use crate::{Error, Result};
use std::time::Duration;

/// Bounds and defaults of a cache.
#[derive(Debug)]
pub struct Options {
    /// Least similarity of a near hit. A lookup may ask for more, never for less.
    pub threshold: f32,
    /// The embedder whose vectors are held; `None` takes the dimension of the first vector.
    pub space: Option<Space>,
    /// How candidates are judged.
    pub policy: Policy,
    /// How the verified policy bounds wrong hits; others do not look at it.
    pub bound: Bound,
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
            policy: Policy::default(),
            bound: Bound::default(),
            max_entries: None,
            max_bytes: Some(1 << 30),
            scope_bytes: None,
            ttl: None,
            clock: Clock::default(),
        }
    }
}

impl Options {
    pub(super) fn check(&self) -> Result<()> {
        threshold(self.threshold)?;
        for (name, bound) in
            [("max_entries", self.max_entries), ("max_bytes", self.max_bytes), ("scope_bytes", self.scope_bytes)]
        {
            if bound == Some(0) {
                return Err(Error::InvalidOption { name, value: "0".into(), expected: "at least 1".into() });
            }
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
