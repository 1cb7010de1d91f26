//! Sixty-four vectors in one immutable page; only their live bits change.

use std::sync::atomic::{AtomicU64, Ordering};

/// Vectors in one page: one bit each in a word.
pub(crate) const PAGE: usize = 64;

/// Vectors that never change or move, and a bit for each that says whether it is still held.
#[derive(Debug)]
pub(crate) struct Page {
    dim: usize,
    rows: Box<[f32]>,
    /// Ascending.
    ids: Box<[u64]>,
    live: AtomicU64,
}

impl Page {
    /// A page of at most [`PAGE`] rows; bit `i` of `live` says whether row `i` is held.
    pub(crate) fn new(dim: usize, rows: Box<[f32]>, ids: Box<[u64]>, live: u64) -> Self {
        Self { dim, rows, ids, live: AtomicU64::new(live) }
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

    pub(crate) fn row(&self, slot: usize) -> &[f32] {
        &self.rows[slot * self.dim..(slot + 1) * self.dim]
    }

    pub(crate) fn ids(&self) -> &[u64] {
        &self.ids
    }

    pub(crate) fn nbytes(&self) -> usize {
        size_of::<Self>() + self.rows.len() * 4 + self.ids.len() * 8
    }
}

/// The positions of the set bits, lowest first.
pub(crate) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(slot)
    })
}
