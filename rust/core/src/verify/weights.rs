//! What words weigh, in small hashed tables: how rare they are, and what they have meant in labelled pairs.

use super::features::fnv;
use crate::{Error, Result};

/// Buckets of each table; words that fall together share a weight.
pub const BUCKETS: usize = 16_384;

/// Weights of words by the bucket of their key.
#[derive(Debug, Clone)]
pub struct WordWeights {
    /// Inverse document frequency: 0 for a word in every text, 255 for a word never seen.
    rarity: Box<[u8]>,
    /// Evidence for one answer when only one text has the word.
    only: Learned,
    /// Evidence for one answer when both texts have it.
    both: Learned,
}

/// Signed weights as bytes of one step.
#[derive(Debug, Clone)]
pub struct Learned {
    step: f32,
    values: Box<[i8]>,
}

impl Learned {
    /// A table of [`BUCKETS`] signed bytes; `None` if it has another length.
    pub fn new(step: f32, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == BUCKETS).then(|| Self { step, values: bytes.iter().map(|byte| *byte as i8).collect() })
    }

    fn of(&self, bucket: usize) -> f32 {
        f32::from(self.values[bucket]) * self.step
    }
}

impl WordWeights {
    /// Weights from their tables; `rarity` has [`BUCKETS`] bytes, or there is none.
    pub fn new(rarity: &[u8], only: Learned, both: Learned) -> Option<Self> {
        (rarity.len() == BUCKETS).then(|| Self { rarity: rarity.into(), only, both })
    }

    /// Tables in which all words weigh the same.
    pub fn flat() -> Self {
        let nothing = Learned { step: 0.0, values: vec![0; BUCKETS].into() };
        Self { rarity: vec![128; BUCKETS].into(), only: nothing.clone(), both: nothing }
    }

    /// Weights that know how rare words are and nothing else: what training starts from.
    pub fn with_rarity(rarity: &[u8]) -> Result<Self> {
        let Self { only, both, .. } = Self::flat();
        Self::new(rarity, only, both).ok_or_else(|| Error::InvalidOption {
            name: "rarity",
            value: format!("{} bytes", rarity.len()),
            expected: format!("{BUCKETS} bytes"),
        })
    }

    /// How rare a word is, in `[0, 1]`.
    pub(crate) fn rarity(&self, key: &str) -> f32 {
        f32::from(self.rarity[Self::bucket(key)]) / 255.0
    }

    /// What it means that one text alone has the word.
    pub(crate) fn only(&self, key: &str) -> f32 {
        self.only.of(Self::bucket(key))
    }

    /// What it means that both texts have the word.
    pub(crate) fn both(&self, key: &str) -> f32 {
        self.both.of(Self::bucket(key))
    }

    /// The bucket of a word's key.
    pub fn bucket(key: &str) -> usize {
        fnv(key) as usize % BUCKETS
    }
}
