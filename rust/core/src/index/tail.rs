//! The newest vectors, one by one, until there are enough for a page.

use super::page::{PAGE, Page};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Slots that are written once each. A slot's live bit is set after its row, with release order, so a
/// reader that sees the bit sees the row.
#[derive(Debug)]
pub(crate) struct Tail {
    first_id: u64,
    slots: Box<[OnceLock<Arc<[f32]>>]>,
    live: AtomicU64,
}

impl Tail {
    /// An empty tail for the ids from `first_id`.
    pub(crate) fn new(first_id: u64, capacity: usize) -> Self {
        Self { first_id, slots: (0..capacity).map(|_| OnceLock::new()).collect(), live: AtomicU64::new(0) }
    }

    /// The same rows with room for more, up to a page.
    pub(crate) fn grown(&self) -> Self {
        let capacity = (self.slots.len() * 4).min(PAGE);
        let slots = self.slots.iter().cloned().chain(std::iter::repeat_with(OnceLock::new)).take(capacity).collect();
        Self { first_id: self.first_id, slots, live: AtomicU64::new(self.live()) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn first_id(&self) -> u64 {
        self.first_id
    }

    /// Writes a slot and publishes it. Called by the one writer, once for each slot.
    pub(crate) fn push(&self, slot: usize, row: Arc<[f32]>) {
        if self.slots[slot].set(row).is_ok() {
            self.live.fetch_or(1 << slot, Ordering::Release);
        }
    }

    /// The held rows, as bits.
    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    /// Drops a row; `false` if it was not held.
    pub(crate) fn kill(&self, slot: usize) -> bool {
        let bit = 1 << slot;
        self.live.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// A row whose live bit has been seen.
    pub(crate) fn row(&self, slot: usize) -> Option<&[f32]> {
        self.slots[slot].get().map(|row| &row[..])
    }

    /// The rows as a page.
    pub(crate) fn page(&self, dim: usize) -> Page {
        let rows: Vec<f32> = self.slots.iter().filter_map(OnceLock::get).flat_map(|row| row.iter().copied()).collect();
        let ids = (0..(rows.len() / dim) as u64).map(|slot| self.first_id + slot).collect();
        Page::new(dim, rows.into(), ids, self.live())
    }

    pub(crate) fn nbytes(&self) -> usize {
        let rows: usize = self.slots.iter().filter_map(OnceLock::get).map(|row| row.len() * 4 + 16).sum();
        size_of::<Self>() + self.slots.len() * size_of::<OnceLock<Arc<[f32]>>>() + rows
    }
}
