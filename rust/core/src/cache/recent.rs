//! The vectors used last: the least recently used one leaves.

use super::bytes::allocated;
use crate::encode::Embedded;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Stands for one text and one embedder: 128 bits of their hash.
pub(super) type Key = [u8; 16];

/// Vectors by key, with the order in which they were used.
#[derive(Debug, Default)]
pub(super) struct Recent {
    kept: HashMap<Key, (Arc<Embedded>, u64)>,
    /// Keys by the turn in which they were used last.
    order: BTreeMap<u64, Key>,
    turn: u64,
}

impl Recent {
    /// Bytes that one vector of `dim` values takes, with its places in both tables: a hash table half full at the least,
    /// B-tree nodes three quarters full.
    pub(super) const fn bytes_each(dim: usize) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>(); // the reference counts in front of an `Arc`'s value
        let place = 2 * (size_of::<(Key, (Arc<Embedded>, u64))>() + 1);
        let order = 4 * size_of::<(u64, Key)>() / 3;
        allocated(COUNTS + size_of::<Embedded>()) + allocated(dim * size_of::<f32>()) + place + order
    }

    /// Vectors kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The vector of `key`, which is the most recently used one from now on.
    pub(super) fn get(&mut self, key: &Key) -> Option<Arc<Embedded>> {
        let (embedded, used) = self.kept.get_mut(key)?;
        self.order.remove(used);
        self.turn += 1;
        *used = self.turn;
        self.order.insert(self.turn, *key);
        Some(Arc::clone(embedded))
    }

    /// Keeps a vector; of more than `most`, the least recently used one leaves.
    pub(super) fn keep(&mut self, key: Key, embedded: Arc<Embedded>, most: usize) {
        self.turn += 1;
        if let Some((_, used)) = self.kept.insert(key, (embedded, self.turn)) {
            self.order.remove(&used);
        }
        self.order.insert(self.turn, key);
        if self.kept.len() > most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.kept.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn embedded(number: u8) -> Arc<Embedded> {
        Arc::new(Embedded { vector: vec![f32::from(number)].into(), truncated: false })
    }

    proptest! {
        #[test]
        fn follows_a_list_in_order_of_use(uses in prop::collection::vec((0..6_u8, any::<bool>()), 1..80), most in 1..5_usize) {
            let mut recent = Recent::default();
            let mut list: Vec<u8> = Vec::new(); // the most recently used one last
            for (number, keeps) in uses {
                let key = [number; 16];
                let known = list.contains(&number);
                if keeps {
                    recent.keep(key, embedded(number), most);
                } else {
                    prop_assert_eq!(recent.get(&key), known.then(|| embedded(number)));
                }
                if keeps || known {
                    list.retain(|other| *other != number);
                    list.push(number);
                }
                if list.len() > most {
                    list.remove(0);
                }
                prop_assert_eq!((recent.len(), recent.order.len()), (list.len(), list.len()));
            }
        }
    }
}
