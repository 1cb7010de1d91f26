//! Sixty-four vectors in one immutable page; only their live bits change.

use super::rows::Rows;
use super::sync::{AtomicU64, Ordering};

/// Vectors in one page: one bit each in a word.
pub(crate) const PAGE: usize = 64;

/// Which of up to 64 rows are held. A row is written before its bit is set with release order, so a reader
/// that sees the bit, with acquire order, sees the row.
#[derive(Debug, Default)]
pub(crate) struct Live(AtomicU64);

impl Live {
    pub(crate) fn new(bits: u64) -> Self {
        Self(AtomicU64::new(bits))
    }

    pub(crate) fn bits(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, slot: usize) {
        self.0.fetch_or(1 << slot, Ordering::Release);
    }

    /// Drops a row; `false` if it was not held.
    pub(crate) fn clear(&self, slot: usize) -> bool {
        self.0.fetch_and(!(1 << slot), Ordering::AcqRel) & (1 << slot) != 0
    }
}

/// Vectors that never change or move, and a bit for each that says whether it is still held.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Rows,
    pub(crate) live: Live,
    first_id: u64,
    /// Ids less the first one, ascending; none where they are consecutive.
    offsets: Option<Box<[u64]>>,
    len: u8,
}

impl Page {
    /// A page of 1 to [`PAGE`] rows with ascending ids; bit `i` of `live` says whether row `i` is held.
    pub(crate) fn new(rows: Rows, ids: &[u64], live: u64) -> Self {
        let first_id = ids[0];
        let consecutive = ids.iter().zip(first_id..).all(|(id, expected)| *id == expected);
        let offsets = (!consecutive).then(|| ids.iter().map(|id| id - first_id).collect());
        Self { rows, live: Live::new(live), first_id, offsets, len: ids.len() as u8 }
    }

    /// Rows, held or not.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(crate) fn first_id(&self) -> u64 {
        self.first_id
    }

    pub(crate) fn id(&self, slot: usize) -> u64 {
        self.first_id + self.offsets.as_ref().map_or(slot as u64, |offsets| offsets[slot])
    }

    /// Where an id is.
    pub(crate) fn slot(&self, id: u64) -> Option<usize> {
        let offset = id.checked_sub(self.first_id)?;
        match &self.offsets {
            Some(offsets) => offsets.binary_search(&offset).ok(),
            None => (offset < self.len as u64).then_some(offset as usize),
        }
    }

    pub(crate) fn nbytes(&self) -> usize {
        size_of::<Self>() + self.rows.nbytes() + self.offsets.as_ref().map_or(0, |offsets| 8 * offsets.len())
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
