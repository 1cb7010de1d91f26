//! How much a word says: inverse document frequencies, hashed into a small table.

use super::features::fnv;

/// Buckets of the table; words that fall together share a weight.
pub const BUCKETS: usize = 16_384;

/// One byte a bucket: 0 for a word in every text, 255 for a word never seen.
#[derive(Debug, Clone)]
pub struct WordWeights(Box<[u8]>);

impl WordWeights {
    /// A table of [`BUCKETS`] bytes; `None` if it has another length.
    pub fn new(table: &[u8]) -> Option<Self> {
        (table.len() == BUCKETS).then(|| Self(table.into()))
    }

    /// The weight of a word's key, in `[0, 1]`.
    pub(crate) fn of(&self, key: &str) -> f32 {
        f32::from(self.0[Self::bucket(key)]) / 255.0
    }

    /// The bucket of a word's key.
    pub fn bucket(key: &str) -> usize {
        fnv(key) as usize % BUCKETS
    }
}
