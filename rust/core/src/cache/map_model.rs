//! What a concurrent map promises, and no more, for the model tests: each call but `clear`
//! happens at one moment.

use super::sync::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::PoisonError;

#[derive(Debug)]
pub(super) struct Map<K, V>(Mutex<HashMap<K, V>>);

impl<K: Hash + Eq, V: Clone> Map<K, V> {
    fn at_once(&self) -> MutexGuard<'_, HashMap<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn look<T>(&self, key: &K, look: impl FnOnce(&V) -> T) -> Option<T> {
        let found = self.at_once().get(key).cloned();
        found.as_ref().map(look)
    }

    pub(super) fn insert(&self, key: K, value: V) {
        self.at_once().insert(key, value);
    }

    pub(super) fn remove(&self, key: &K) {
        self.at_once().remove(key);
    }

    /// One record after the other, as concurrent maps do.
    pub(super) fn clear(&self)
    where
        K: Copy,
    {
        let keys: Vec<K> = self.at_once().keys().copied().collect();
        for key in keys {
            self.remove(&key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.at_once().len()
    }

    pub(super) fn values(&self) -> Vec<V> {
        self.at_once().values().cloned().collect()
    }
}

#[derive(Debug)]
pub(super) struct Maps;

impl Maps {
    pub(super) fn new() -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the other maps share what their maker holds")]
    pub(super) fn map<K: Hash + Eq, V: Clone>(&self) -> Map<K, V> {
        Map(Mutex::new(HashMap::new()))
    }
}
