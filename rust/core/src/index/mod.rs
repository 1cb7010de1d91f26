//! Vector index: exact threshold search over unit vectors.

use crate::{Error, Result};
use std::sync::RwLock;

/// A neighbour found by a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The id [`VectorIndex::add`] returned.
    pub id: u64,
    /// Cosine similarity in `[-1, 1]`.
    pub similarity: f32,
}

/// An index of unit-normalised vectors, shared between threads by reference.
#[derive(Debug)]
pub struct VectorIndex {
    dim: usize,
    rows: RwLock<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    next_id: u64,
    live: Vec<(u64, Vec<f32>)>,
}

impl VectorIndex {
    /// An empty index for vectors of `dim` values.
    pub fn new(dim: usize) -> Result<Self> {
        if dim == 0 {
            return Err(Error::InvalidOption { name: "dim", value: "0".into(), expected: "at least 1".into() });
        }
        Ok(Self { dim, rows: RwLock::default() })
    }

    /// Dimension of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of vectors held.
    pub fn len(&self) -> usize {
        self.rows.read().map_or(0, |rows| rows.live.len())
    }

    /// Whether the index holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, everything counted.
    pub fn nbytes(&self) -> usize {
        self.len() * (self.dim * 4 + 32)
    }

    /// Adds a vector, normalised here, and returns its id; ids are never used twice.
    pub fn add(&self, vector: &[f32]) -> Result<u64> {
        let unit = self.unit(vector)?;
        let mut rows = self.rows.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let id = rows.next_id;
        rows.next_id += 1;
        rows.live.push((id, unit));
        Ok(id)
    }

    /// Removes a vector; `false` if the id is not here.
    pub fn remove(&self, id: u64) -> bool {
        let mut rows = self.rows.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = rows.live.len();
        rows.live.retain(|(held, _)| *held != id);
        rows.live.len() != before
    }

    /// The `k` nearest vectors with similarity at least `threshold`, best first.
    pub fn search(&self, query: &[f32], threshold: f32, k: usize) -> Result<Vec<Neighbour>> {
        if !(-1.0..=1.0).contains(&threshold) {
            return Err(Error::Threshold { value: f64::from(threshold) });
        }
        let unit = self.unit(query)?;
        let rows = self.rows.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut found: Vec<Neighbour> = rows
            .live
            .iter()
            .map(|(id, row)| Neighbour { id: *id, similarity: row.iter().zip(&unit).map(|(a, b)| a * b).sum() })
            .filter(|neighbour| neighbour.similarity >= threshold)
            .collect();
        found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        found.truncate(k);
        Ok(found)
    }

    fn unit(&self, vector: &[f32]) -> Result<Vec<f32>> {
        if vector.len() != self.dim {
            return Err(Error::Dimension { expected: self.dim, got: vector.len() });
        }
        if let Some(position) = vector.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { position, value: vector[position] });
        }
        let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if norm == 0.0 {
            return Err(Error::ZeroVector);
        }
        Ok(vector.iter().map(|value| (f64::from(*value) / norm) as f32).collect())
    }
}
