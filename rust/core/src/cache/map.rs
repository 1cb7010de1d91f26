//! The concurrent maps: lock-free reads, one reclamation domain for all of them.

use papaya::{HashMap, ResizeMode};
use seize::Collector;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

/// A concurrent map whose keys are hashes already.
pub(super) struct Map<K, V>(HashMap<K, V, Folded>);

impl<K: Hash + Eq, V> std::fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("len", &self.len()).finish()
    }
}

impl<K: Hash + Eq, V> Map<K, V> {
    /// What `look` makes of the value of `key`. Takes no lock and waits for nobody.
    #[inline]
    pub(super) fn look<T>(&self, key: &K, look: impl FnOnce(&V) -> T) -> Option<T> {
        let guard = self.0.guard();
        self.0.get(key, &guard).map(look)
    }

    pub(super) fn insert(&self, key: K, value: V) {
        self.0.insert(key, value, &self.0.guard());
    }

    pub(super) fn remove(&self, key: &K) {
        self.0.remove(key, &self.0.guard());
    }

    pub(super) fn clear(&self) {
        self.0.clear(&self.0.guard());
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Every value, copied.
    pub(super) fn values(&self) -> Vec<V>
    where
        V: Clone,
    {
        self.0.values(&self.0.guard()).cloned().collect()
    }
}

/// Makes maps that share one collector, so that a reader pins once.
#[derive(Debug, Clone)]
pub(super) struct Maps {
    collector: Arc<Collector>,
    hasher: Folded,
}

impl Maps {
    pub(super) fn new() -> Self {
        // Small batches: a removed entry's memory comes back after a few more removals, not after dozens.
        Self { collector: Arc::new(Collector::new().batch_size(8)), hasher: Folded::new() }
    }

    pub(super) fn map<K: Hash + Eq + Send + 'static, V: Send + 'static>(&self) -> Map<K, V> {
        let map = HashMap::builder()
            .hasher(self.hasher.clone())
            .shared_collector(Arc::clone(&self.collector))
            .resize_mode(ResizeMode::default());
        Map(map.build())
    }
}

/// Hashes a key that is uniform already: its first 16 bytes times a random number per process, so that
/// nobody can choose prompts that meet in one slot.
#[derive(Debug, Clone)]
pub(super) struct Folded {
    seed: u64,
}

impl Folded {
    fn new() -> Self {
        Self { seed: RandomState::new().hash_one(0x9e37_79b9_7f4a_7c15_u64) | 1 }
    }
}

impl BuildHasher for Folded {
    type Hasher = FoldedHasher;

    fn build_hasher(&self) -> FoldedHasher {
        FoldedHasher { seed: self.seed, state: 0 }
    }
}

#[derive(Debug)]
pub(super) struct FoldedHasher {
    seed: u64,
    state: u64,
}

impl Hasher for FoldedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word ^ self.seed) * u128::from(self.seed.rotate_left(32) | 1);
        self.state = (product >> 64) as u64 ^ product as u64;
    }

    fn write_usize(&mut self, _length: usize) {} // the length prefix of an array says nothing

    fn finish(&self) -> u64 {
        self.state
    }
}
