//! The vectors of one scope under one embedder: the only ones a near lookup ever sees.

use super::bytes::{allocated, record_bytes};
use super::space::Space;
use crate::Result;
use crate::index::VectorIndex;
use crate::text::canonical::ScopeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What two vectors must share before they may be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PartitionKey {
    pub(super) scope: ScopeId,
    pub(super) space: Space,
}

/// Bytes of a partition besides its vectors: its record and its place in the map.
const OWN_BYTES: usize = allocated(2 * size_of::<usize>() + size_of::<Partition>())
    + record_bytes(size_of::<(PartitionKey, Arc<Partition>)>());

/// Changes of a large index between two looks at its real size: a page of it.
const CHANGES_PER_LOOK: usize = 64;

/// One index and how many entries point into it.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) key: PartitionKey,
    /// Part of the key of every near-map record; never used twice.
    pub(super) number: u64,
    pub(super) index: VectorIndex,
    live: AtomicUsize,
    weight: AtomicUsize,
    changes: AtomicUsize,
}

impl Partition {
    pub(super) fn new(key: PartitionKey, number: u64) -> Result<Self> {
        Ok(Self {
            key,
            number,
            index: VectorIndex::new(key.space.dim())?,
            live: AtomicUsize::new(0),
            weight: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
        })
    }

    pub(super) fn add(&self, vector: &[f32]) -> Result<u64> {
        let id = self.index.add(vector)?;
        self.live.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    pub(super) fn remove(&self, id: u64) {
        if self.index.remove(id) {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.load(Ordering::Relaxed) == 0
    }

    /// Takes the index's weight down after a change of `grown` bytes or a removal; returns the former and the present
    /// one, in bytes. Asking an index costs time in proportion to its pages, so a large one is asked now and then.
    pub(super) fn reweigh(&self, grown: usize) -> (usize, usize) {
        let changes = self.changes.fetch_add(1, Ordering::Relaxed);
        if self.index.len() < CHANGES_PER_LOOK || changes.is_multiple_of(CHANGES_PER_LOOK) {
            return self.look();
        }
        let before = self.weight.fetch_add(grown, Ordering::Relaxed);
        (before, before + grown)
    }

    /// Takes the index's weight down as it is; returns the former and the present one, in bytes.
    pub(super) fn look(&self) -> (usize, usize) {
        let now = self.index.nbytes() + OWN_BYTES;
        (self.weight.swap(now, Ordering::Relaxed), now)
    }

    /// The weight taken down last.
    pub(super) fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }
}
