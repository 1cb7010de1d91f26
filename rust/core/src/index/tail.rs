//! The newest vectors, one by one, until there are enough for a page.

use super::page::{Live, PAGE, Page};
use super::rows::{Rows, Storage};
use super::sync::{Once, Written};
use crate::codec::float_error;
use crate::simd::Kernels;
use std::sync::Arc;

/// One of so many parts of a vector is its start: its comparison with a query's, and the norms of the rest of both, rule
/// out most rows from .75 on. With all of every row compared, 32 rows took 2.1 µs, half of it to fetch them.
const STARTS: usize = 3;
/// Values that a start is a multiple of.
const GRAIN: usize = 32;

/// A vector that came lately.
#[derive(Debug, Clone)]
pub(crate) struct Recent {
    pub(crate) row: Arc<Rows>,
    /// Norm of what lies behind its start, rounded up.
    pub(crate) rest: f32,
}

impl Recent {
    /// A row of `dim` values.
    pub(crate) fn new(row: Arc<Rows>, dim: usize, kernels: &Kernels) -> Self {
        let rest = rest_norm(&row.decode(dim, 0), kernels);
        Self { row, rest }
    }
}

/// Values of the start of a vector.
pub(crate) fn start_of(dim: usize) -> usize {
    dim / STARTS / GRAIN * GRAIN
}

/// The norm of what lies behind a unit vector's start, rounded up.
pub(crate) fn rest_norm(vector: &[f32], kernels: &Kernels) -> f32 {
    let rest = &vector[start_of(vector.len())..];
    (f64::from((kernels.dot)(rest, rest)) + float_error(vector.len())).sqrt() as f32 * (1.0 + f32::EPSILON)
}

/// Slots that are written once each, for consecutive ids.
#[derive(Debug)]
pub(crate) struct Tail {
    first_id: u64,
    slots: Box<[Once<Recent>]>,
    pub(crate) live: Live,
}

impl Tail {
    /// An empty tail for the ids from `first_id`.
    pub(crate) fn new(first_id: u64, capacity: usize) -> Self {
        Self { first_id, slots: (0..capacity).map(|_| Once::new()).collect(), live: Live::default() }
    }

    /// The same rows with room for more, up to a page.
    pub(crate) fn grown(&self) -> Self {
        let capacity = (self.slots.len() * 4).min(PAGE);
        let slots = self.slots.iter().cloned().chain(std::iter::repeat_with(Once::new)).take(capacity).collect();
        Self { first_id: self.first_id, slots, live: Live::new(self.live.bits()) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn first_id(&self) -> u64 {
        self.first_id
    }

    /// Writes a slot and publishes it. Called by the one writer, once for each slot.
    pub(crate) fn push(&self, slot: usize, row: Recent) {
        if self.slots[slot].set(row).is_ok() {
            self.live.set(slot);
        }
    }

    /// Its rows, when it is nobody's any more.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = Arc<Rows>> {
        self.slots.into_iter().filter_map(Once::into_inner).map(|recent| recent.row)
    }

    /// A row whose live bit has been seen.
    pub(crate) fn row(&self, slot: usize) -> Option<Written<'_, Recent>> {
        self.slots[slot].get()
    }

    /// The rows as a page; none if there are none.
    pub(crate) fn page(&self, storage: Storage, dim: usize) -> Option<Page> {
        let written: Vec<Written<'_, Recent>> = self.slots.iter().map_while(Once::get).collect();
        let mut rows = Rows::with_capacity(storage, dim, written.len());
        for row in &written {
            rows.push_from(&row.row, dim, 0);
        }
        let ids: Vec<u64> = (self.first_id..).take(written.len()).collect();
        (!ids.is_empty()).then(|| Page::new(rows, &ids, self.live.bits()))
    }

    pub(crate) fn nbytes(&self) -> usize {
        let rows: usize =
            self.slots.iter().filter_map(Once::get).map(|row| row.row.nbytes() + size_of::<Rows>() + 16).sum();
        size_of::<Self>() + size_of_val(&self.slots[..]) + rows
    }
}
