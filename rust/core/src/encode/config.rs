//! The shape of an encoder, and the limits within which it is accepted.

use crate::{Error, Result};

/// How token vectors become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over the tokens of the text.
    Mean,
    /// The vector of the first token.
    First,
}

/// Architecture of a BERT encoder: post-norm layers, GELU, learned absolute positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Width of the hidden states, and of the vectors.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Width between the two products of the feed-forward part.
    pub intermediate: usize,
    /// Positions that have an embedding.
    pub positions: usize,
    /// Words that have an embedding.
    pub vocabulary: usize,
    /// Longest text in tokens, special tokens included.
    pub max_length: usize,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// What the layer norms add to the variance.
    pub epsilon: f32,
}

impl Config {
    /// Refuses what the kernels were not written for, and sizes that no real model has: a file's claims are
    /// checked here before anything is allocated for them.
    pub fn check(&self) -> Result<()> {
        let limits = [
            ("hidden size", self.hidden, 32, 4096),
            ("heads", self.heads, 1, 64),
            ("layers", self.layers, 1, 64),
            ("intermediate size", self.intermediate, 32, 16_384),
            ("positions", self.positions, 2, 8192),
            ("vocabulary", self.vocabulary, 4, 1 << 20),
            ("maximum length", self.max_length, 2, self.positions),
        ];
        for (name, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                return Err(unsupported(format!("{name} {value} is outside {least}..={most}")));
            }
        }
        for (name, value) in [("hidden size", self.hidden), ("intermediate size", self.intermediate)] {
            if !value.is_multiple_of(32) {
                return Err(unsupported(format!("{name} {value} is not a multiple of 32")));
            }
        }
        if !self.hidden.is_multiple_of(self.heads) || !self.head_width().is_multiple_of(32) {
            return Err(unsupported(format!("{} heads do not cut {} into multiples of 32", self.heads, self.hidden)));
        }
        if !(0.0..=1e-3).contains(&self.epsilon) {
            return Err(unsupported(format!("layer norm epsilon {} is outside 0..=1e-3", self.epsilon)));
        }
        Ok(())
    }

    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.hidden / self.heads
    }
}

/// An [`Error::ModelFormat`].
pub(super) fn unsupported(reason: impl Into<String>) -> Error {
    Error::ModelFormat { reason: reason.into() }
}
