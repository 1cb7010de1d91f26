//! Vector index: exact threshold search over unit vectors.
//!
//! Vectors are appended to a tail; a full tail becomes an immutable page, and pages are grouped into
//! segments with codes for the scan. Readers load one snapshot and never wait: nothing they see is
//! written again but live bits. The writer holds a lock, publishes the next snapshot as a whole, and frees an
//! old one when its last reader has left: readers do not spend their time on it.

mod bulk;
mod file;
mod page;
mod rewrite;
mod rows;
mod search;
mod segment;
mod snapshot;
mod sync;
mod tail;
mod top;
mod validate;
mod writer;

pub use rows::Storage;

use crate::codec::{SharedBasis, unit, unit_scale};
use crate::simd::kernels;
use crate::{Error, Result};
use search::Search;
use snapshot::Snapshot;
use std::sync::{Arc, PoisonError};
use sync::{AtomicUsize, Handle, Latest, Mutex, MutexGuard, Ordering};
use writer::Writer;

/// Places in the answer of one [`VectorIndex::search_many`].
const MAX_MATCHES: usize = 1 << 28;

/// Queries that go through the index together: their preparations fit the nearest cache beside a segment.
const BATCH: usize = 32;

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

/// Choices at an index's creation.
#[derive(Debug, Clone, Default)]
pub struct IndexOptions {
    /// How vectors are kept.
    pub storage: Storage,
    /// The basis to code in, which other indexes may share; one of its own if there is none.
    pub basis: Option<Arc<SharedBasis>>,
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
    storage: Storage,
    len: AtomicUsize,
    snapshot: Latest<Snapshot>,
    writer: Mutex<Writer>,
}

impl VectorIndex {
    /// An empty index for vectors of `dim` values, in single precision, that learns its own basis.
    pub fn new(dim: usize) -> Result<Self> {
        Self::with_options(dim, IndexOptions::default())
    }

    /// An empty index for vectors of `dim` values.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a dimension of 0, [`Error::Dimension`] for a basis of another dimension.
    pub fn with_options(dim: usize, options: IndexOptions) -> Result<Self> {
        if dim == 0 {
            return Err(Error::InvalidOption { name: "dim", value: "0".into(), expected: "at least 1".into() });
        }
        let shared = options.basis.unwrap_or_default();
        if let Some(other) = shared.get().map(|basis| basis.dim()).filter(|other| *other != dim) {
            return Err(Error::Dimension { expected: dim, got: other });
        }
        Ok(Self::around(dim, options.storage, Writer::new(dim, options.storage, shared, 0), 0))
    }

    fn around(dim: usize, storage: Storage, mut writer: Writer, len: usize) -> Self {
        let snapshot = writer.take_change().unwrap_or_else(|| Handle::new(Snapshot::default()));
        let (len, snapshot) = (AtomicUsize::new(len), Latest::new(snapshot));
        Self { dim, storage, len, snapshot, writer: Mutex::new(writer) }
    }

    /// Dimension of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How the vectors are kept.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Number of vectors held.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether the index holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, everything counted; a basis that is shared is its owner's.
    pub fn nbytes(&self) -> usize {
        size_of::<Self>() + self.lock().nbytes()
    }

    /// Adds a vector, normalised here, and returns its id; ids ascend and are never used twice.
    pub fn add(&self, vector: &[f32]) -> Result<u64> {
        let scale = unit_scale(vector, self.dim)?;
        let mut writer = self.lock();
        let id = writer.push(vector, scale, kernels());
        self.publish(&mut writer);
        self.len.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    /// Adds the vectors that lie end to end in `rows`, all or none, and returns their ids.
    pub fn add_many(&self, rows: &[f32]) -> Result<Vec<u64>> {
        for row in rows.chunks(self.dim) {
            unit_scale(row, self.dim)?;
        }
        rows.chunks(self.dim).map(|row| self.add(row)).collect()
    }

    /// Codes nothing from here on until [`Self::code_deferred`]: for many vectors that come before the first query.
    /// Queries compare with every vector meanwhile.
    pub(crate) fn defer_codes(&self) {
        self.lock().defer();
    }

    /// Codes what was added since [`Self::defer_codes`], on all cores.
    pub(crate) fn code_deferred(&self) {
        let mut writer = self.lock();
        writer.code_deferred(kernels());
        self.publish(&mut writer);
    }

    /// Removes a vector; `false` if the id is not here.
    pub fn remove(&self, id: u64) -> bool {
        let mut writer = self.lock();
        let removed = writer.remove(id, kernels());
        if removed {
            self.publish(&mut writer);
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    fn publish(&self, writer: &mut Writer) {
        if let Some(snapshot) = writer.take_change() {
            writer.retire(self.snapshot.swap(snapshot));
        }
    }

    /// The `k` nearest vectors with similarity at least `threshold`, best first, ties by id.
    pub fn search(&self, query: &[f32], threshold: f32, k: usize) -> Result<Vec<Neighbour>> {
        self.search_from(query, threshold, k, 0)
    }

    /// [`Self::search`] among the ids from `first_id`.
    pub fn search_from(&self, query: &[f32], threshold: f32, k: usize, first_id: u64) -> Result<Vec<Neighbour>> {
        check(threshold, k)?;
        let query = unit(query, self.dim)?;
        let snapshot = self.snapshot.load();
        let mut search = [Search::new(kernels(), &query, threshold, k, first_id)];
        Search::run(&mut search, &snapshot);
        let [search] = search;
        Ok(search.top.into_sorted())
    }

    /// [`Self::search`] for each of the queries that lie end to end in `queries`.
    pub fn search_many(&self, queries: &[f32], threshold: f32, k: usize) -> Result<Matches> {
        check(threshold, k)?;
        let units = queries.chunks(self.dim).map(|query| unit(query, self.dim)).collect::<Result<Vec<_>>>()?;
        let room = units.len().checked_mul(k).filter(|room| *room <= MAX_MATCHES);
        let room = room.ok_or_else(|| Error::InvalidOption {
            name: "k",
            value: k.to_string(),
            expected: format!("at most {MAX_MATCHES} neighbours over all {} queries", units.len()),
        })?;
        let mut found = Matches { queries: units.len(), ids: vec![-1; room], similarities: vec![-1.0; room] };
        let mut places = found.ids.chunks_exact_mut(k).zip(found.similarities.chunks_exact_mut(k));
        let snapshot = self.snapshot.load();
        for batch in units.chunks(BATCH) {
            let mut searches: Vec<Search> =
                batch.iter().map(|query| Search::new(kernels(), query, threshold, k, 0)).collect();
            Search::run(&mut searches, &snapshot);
            for (search, (ids, similarities)) in searches.into_iter().zip(&mut places) {
                let found = search.top.into_sorted();
                for (neighbour, (id, similarity)) in found.iter().zip(ids.iter_mut().zip(similarities)) {
                    (*id, *similarity) = (neighbour.id as i64, neighbour.similarity);
                }
            }
        }
        Ok(found)
    }

    /// Similarity of a query with each of the given ids; `None` where an id is not here.
    pub fn similarities(&self, query: &[f32], ids: &[u64]) -> Result<Vec<Option<f32>>> {
        let query = unit(query, self.dim)?;
        let snapshot = self.snapshot.load();
        let score = |id: &u64| snapshot.find(*id, |rows, slot| rows.score(kernels(), &query, slot).clamp(-1.0, 1.0));
        Ok(ids.iter().map(score).collect())
    }

    /// A vector as it is kept, of norm 1; `None` if the id is not here. One copy, no lock.
    pub fn vector(&self, id: u64) -> Option<Vec<f32>> {
        self.snapshot.load().find(id, |rows, slot| rows.decode(self.dim, slot).into_owned())
    }

    /// The first `count` held ids from `first_id` up to but not including `end`, and their vectors, end to end.
    pub fn vectors(&self, first_id: u64, end: u64, count: usize) -> (Vec<u64>, Vec<f32>) {
        let (mut ids, mut values) = (Vec::new(), Vec::new());
        self.snapshot.load().each(first_id, |id, rows, slot| {
            if id < end && ids.len() < count {
                ids.push(id);
                values.extend_from_slice(&rows.decode(self.dim, slot));
            }
            ids.len() < count
        });
        (ids, values)
    }

    /// The id that the next vector will get.
    pub fn next_id(&self) -> u64 {
        self.lock().next_id()
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
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

#[cfg(all(test, feature = "loom"))]
mod model;
#[cfg(all(test, not(feature = "loom")))]
mod tests;
