//! Vector index: exact threshold search over unit vectors.
//!
//! Vectors are appended to a tail; a full tail becomes an immutable page, and pages are grouped into
//! segments with codes for the scan. Readers load one snapshot and never wait: nothing they see is
//! written again but live bits. The writer holds a lock, publishes the next snapshot as a whole, and the
//! last reader of an old one frees it.

mod page;
mod segment;
mod tail;
mod top;
mod writer;

use crate::codec::{Basis, QueryBound, unit};
use crate::simd::kernels;
use crate::{Error, Result};
use arc_swap::ArcSwap;
use page::bits;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use top::TopK;
use writer::{Snapshot, Writer};

/// Removals between two looks for segments to compact.
const REMOVALS_PER_LOOK: usize = 64;

/// Places in the answer of one [`VectorIndex::search_many`].
const MAX_MATCHES: usize = 1 << 28;

/// A neighbour found by a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The id [`VectorIndex::add`] returned.
    pub id: u64,
    /// Cosine similarity in `[-1, 1]`.
    pub similarity: f32,
}

/// What [`VectorIndex::search_many`] found: `k` places for each query, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Matches {
    /// Number of queries.
    pub queries: usize,
    /// Ids, `queries x k`; -1 where fewer were found.
    pub ids: Vec<i64>,
    /// Similarities, `queries x k`; -1 where fewer were found.
    pub similarities: Vec<f32>,
}

/// An index of unit-normalised vectors, shared between threads by reference.
///
/// # Examples
/// ```
/// use nearhit_core::index::VectorIndex;
/// let index = VectorIndex::new(3)?;
/// let id = index.add(&[1.0, 2.0, 2.0])?;
/// let found = index.search(&[1.0, 2.0, 2.1], 0.9, 1)?;
/// assert_eq!(found[0].id, id);
/// # Ok::<(), nearhit_core::Error>(())
/// ```
#[derive(Debug)]
pub struct VectorIndex {
    dim: usize,
    len: AtomicUsize,
    snapshot: ArcSwap<Snapshot>,
    writer: Mutex<State>,
}

#[derive(Debug)]
struct State {
    writer: Writer,
    removals: usize,
}

impl VectorIndex {
    /// An empty index for vectors of `dim` values; it learns its basis from what it is given.
    pub fn new(dim: usize) -> Result<Self> {
        Self::with_basis(dim, None)
    }

    /// An empty index that codes vectors in a given basis, which may be shared between indexes.
    pub fn with_basis(dim: usize, basis: Option<Arc<Basis>>) -> Result<Self> {
        if dim == 0 {
            return Err(Error::InvalidOption { name: "dim", value: "0".into(), expected: "at least 1".into() });
        }
        if let Some(other) = basis.as_ref().map(|basis| basis.dim()).filter(|other| *other != dim) {
            return Err(Error::Dimension { expected: dim, got: other });
        }
        Ok(Self {
            dim,
            len: AtomicUsize::new(0),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            writer: Mutex::new(State { writer: Writer::new(dim, basis), removals: 0 }),
        })
    }

    /// Dimension of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of vectors held.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether the index holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, everything counted.
    pub fn nbytes(&self) -> usize {
        let state = self.lock();
        let snapshot = self.snapshot.load();
        let segments: usize = snapshot.segments.iter().map(|segment| segment.nbytes() + 8).sum();
        let tail = snapshot.tail.as_ref().map_or(0, |tail| tail.nbytes());
        size_of::<Self>() + size_of::<Snapshot>() + segments + tail + state.writer.nbytes()
    }

    /// Adds a vector, normalised here, and returns its id; ids are never used twice.
    pub fn add(&self, vector: &[f32]) -> Result<u64> {
        Ok(self.push(unit(vector, self.dim)?))
    }

    fn push(&self, row: Vec<f32>) -> u64 {
        let mut state = self.lock();
        let (id, next) = state.writer.push(&self.snapshot.load(), row.into(), kernels());
        if let Some(next) = next {
            self.snapshot.store(Arc::new(next));
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        id
    }

    /// Adds the vectors that lie end to end in `rows`, all or none, and returns their ids.
    pub fn add_many(&self, rows: &[f32]) -> Result<Vec<u64>> {
        let units = rows.chunks(self.dim).map(|row| unit(row, self.dim)).collect::<Result<Vec<_>>>()?;
        Ok(units.into_iter().map(|row| self.push(row)).collect())
    }

    /// Removes a vector; `false` if the id is not here.
    pub fn remove(&self, id: u64) -> bool {
        let mut state = self.lock();
        let snapshot = self.snapshot.load();
        if !state.writer.remove(&snapshot, id) {
            return false;
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
        state.removals += 1;
        if state.removals.is_multiple_of(REMOVALS_PER_LOOK)
            && let Some(next) = state.writer.compact(&snapshot, kernels())
        {
            self.snapshot.store(Arc::new(next));
        }
        true
    }

    /// [`Self::search`] for each of the queries that lie end to end in `queries`.
    pub fn search_many(&self, queries: &[f32], threshold: f32, k: usize) -> Result<Matches> {
        check(threshold, k)?;
        let count = queries.len().div_ceil(self.dim);
        let room = count.checked_mul(k).filter(|room| *room <= MAX_MATCHES).ok_or_else(|| Error::InvalidOption {
            name: "k",
            value: k.to_string(),
            expected: format!("at most {MAX_MATCHES} neighbours over all {count} queries"),
        })?;
        let mut found = Matches { queries: count, ids: vec![-1; room], similarities: vec![-1.0; room] };
        let rows = found.ids.chunks_exact_mut(k).zip(found.similarities.chunks_exact_mut(k));
        for (query, (ids, similarities)) in queries.chunks(self.dim).zip(rows) {
            for (neighbour, (id, similarity)) in
                self.search(query, threshold, k)?.iter().zip(ids.iter_mut().zip(similarities))
            {
                (*id, *similarity) = (neighbour.id as i64, neighbour.similarity);
            }
        }
        Ok(found)
    }

    /// The `k` nearest vectors with similarity at least `threshold`, best first, ties by id.
    pub fn search(&self, query: &[f32], threshold: f32, k: usize) -> Result<Vec<Neighbour>> {
        check(threshold, k)?;
        let query = unit(query, self.dim)?;
        let kernels = kernels();
        let snapshot = self.snapshot.load();
        let mut top = TopK::new(k, threshold);
        if let Some(tail) = &snapshot.tail {
            for slot in bits(tail.live()) {
                if let Some(row) = tail.row(slot) {
                    top.offer(tail.first_id() + slot as u64, (kernels.dot)(&query, row));
                }
            }
        }
        let mut candidates = Vec::new();
        let mut bound: Option<(&Arc<Basis>, QueryBound)> = None;
        for segment in snapshot.segments.iter().rev() {
            if let Some(basis) = segment.basis()
                && !bound.as_ref().is_some_and(|(other, _)| Arc::ptr_eq(other, basis))
            {
                bound = Some((basis, QueryBound::new(basis, kernels, &query)));
            }
            segment.search(kernels, &query, bound.as_ref().map(|(_, bound)| bound), &mut candidates, &mut top);
        }
        Ok(top.into_sorted())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(threshold: f32, k: usize) -> Result<()> {
    if !(-1.0..=1.0).contains(&threshold) {
        return Err(Error::Threshold { value: f64::from(threshold) });
    }
    if k == 0 {
        return Err(Error::InvalidOption { name: "k", value: "0".into(), expected: "at least 1".into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
