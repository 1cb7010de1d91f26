//! The vector index.

use nearhit_core::codec::{Basis, SharedBasis};
use nearhit_core::index::{IndexOptions, Storage, VectorIndex};
use nearhit_core::simd;
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use std::path::PathBuf;
use std::sync::Arc;

use crate::arguments::{dim_of, id_of, ids_of, k_of};
use crate::error::CoreError;
use crate::vectors::{Array, many, one};

/// Vectors up to which a search takes about 20 µs: below, giving up the interpreter lock costs more than it
/// brings.
const QUICK_SEARCH: usize = 20_000;

#[pyclass(frozen, subclass, name = "VectorIndex", module = "nearhit._core")]
#[derive(Debug)]
pub(crate) struct PyVectorIndex(VectorIndex);

#[pymethods]
impl PyVectorIndex {
    #[new]
    #[pyo3(signature = (dim, *, storage = "f32", transform = None, path = None))]
    fn new(
        py: Python<'_>,
        #[pyo3(from_py_with = dim_of)] dim: usize,
        storage: &str,
        transform: Option<&Bound<'_, PyAny>>,
        path: Option<PathBuf>,
    ) -> PyResult<Self> {
        if let Some(path) = path {
            return Ok(Self(py.detach(|| VectorIndex::load(&path)).map_err(CoreError)?));
        }
        let storage = Storage::parse(storage).map_err(CoreError)?;
        let basis = transform
            .map(|rows| -> PyResult<_> {
                let rows = Array::extract(rows)?;
                let basis = Basis::from_rows(dim, &rows.values, &[]).map_err(CoreError)?;
                Ok(Arc::new(SharedBasis::fixed(basis)))
            })
            .transpose()?;
        Ok(Self(VectorIndex::with_options(dim, IndexOptions { storage, basis }).map_err(CoreError)?))
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted arguments are owned")]
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        Ok(py.detach(|| self.0.save(&path)).map_err(CoreError)?)
    }

    #[getter]
    fn storage(&self) -> &'static str {
        self.0.storage().name()
    }

    #[getter]
    fn next_id(&self) -> u64 {
        self.0.next_id()
    }

    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.nbytes()
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "a property of every index of the process")]
    fn isa(&self) -> &'static str {
        simd::isa().name()
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn add(&self, vector: &Bound<'_, PyAny>) -> PyResult<u64> {
        Ok(self.0.add(&one(vector)?).map_err(CoreError)?)
    }

    fn add_many<'py>(&self, py: Python<'py>, vectors: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let rows = many(vectors, self.0.dim())?;
        let ids = py.detach(|| self.0.add_many(&rows)).map_err(CoreError)?;
        numpy(py, "uint64", &ids.iter().flat_map(|id| id.to_ne_bytes()).collect::<Vec<_>>())
    }

    #[pyo3(signature = (id, /))]
    fn remove(&self, #[pyo3(from_py_with = id_of)] id: u64) -> bool {
        self.0.remove(id)
    }

    #[pyo3(signature = (id, /))]
    fn vector<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = id_of)] id: u64,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let values = self.0.vector(id);
        values
            .map(|values| {
                numpy(py, "float32", &values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<_>>())
            })
            .transpose()
    }

    #[pyo3(signature = (vector, threshold = -1.0, k = 1), text_signature = "($self, vector, threshold=-1.0, k=1)")]
    fn search(
        &self,
        vector: &Bound<'_, PyAny>,
        threshold: f32,
        #[pyo3(from_py_with = k_of)] k: usize,
    ) -> PyResult<Vec<(u64, f32)>> {
        let query = one(vector)?;
        let found = if self.0.len() < QUICK_SEARCH {
            self.0.search(&query, threshold, k)
        } else {
            vector.py().detach(|| self.0.search(&query, threshold, k))
        };
        Ok(found.map_err(CoreError)?.into_iter().map(|neighbour| (neighbour.id, neighbour.similarity)).collect())
    }

    #[pyo3(signature = (vectors, threshold = -1.0, k = 1), text_signature = "($self, vectors, threshold=-1.0, k=1)")]
    fn search_many<'py>(
        &self,
        py: Python<'py>,
        vectors: &Bound<'py, PyAny>,
        threshold: f32,
        #[pyo3(from_py_with = k_of)] k: usize,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let queries = many(vectors, self.0.dim())?;
        let found = py.detach(|| self.0.search_many(&queries, threshold, k)).map_err(CoreError)?;
        let shape = (found.queries, k);
        let ids: Vec<u8> = found.ids.iter().flat_map(|id| id.to_ne_bytes()).collect();
        let scores: Vec<u8> = found.similarities.iter().flat_map(|score| score.to_ne_bytes()).collect();
        Ok((
            numpy(py, "int64", &ids)?.call_method1("reshape", (shape,))?,
            numpy(py, "float32", &scores)?.call_method1("reshape", (shape,))?,
        ))
    }

    #[pyo3(signature = (vector, threshold, k, first_id))]
    fn search_from(
        &self,
        vector: &Bound<'_, PyAny>,
        threshold: f32,
        #[pyo3(from_py_with = k_of)] k: usize,
        #[pyo3(from_py_with = id_of)] first_id: u64,
    ) -> PyResult<Vec<(u64, f32)>> {
        let query = one(vector)?;
        let found = vector.py().detach(|| self.0.search_from(&query, threshold, k, first_id)).map_err(CoreError)?;
        Ok(found.into_iter().map(|neighbour| (neighbour.id, neighbour.similarity)).collect())
    }

    #[expect(clippy::needless_pass_by_value, reason = "extracted arguments are owned")]
    fn similarities(
        &self,
        vector: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = ids_of)] ids: Vec<u64>,
    ) -> PyResult<Vec<Option<f32>>> {
        Ok(self.0.similarities(&one(vector)?, &ids).map_err(CoreError)?)
    }

    fn vectors<'py>(
        &self,
        py: Python<'py>,
        first_id: u64,
        end: u64,
        count: usize,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (ids, values) = py.detach(|| self.0.vectors(first_id, end, count));
        let shape = (ids.len(), self.0.dim());
        Ok((
            numpy(py, "uint64", &ids.iter().flat_map(|id| id.to_ne_bytes()).collect::<Vec<_>>())?,
            numpy(py, "float32", &values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<_>>())?
                .call_method1("reshape", (shape,))?,
        ))
    }

    fn validate(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.validate()).map_err(PyAssertionError::new_err)
    }

    fn __repr__(&self) -> String {
        format!("VectorIndex(dim={}, len={}, isa={:?})", self.0.dim(), self.0.len(), simd::isa().name())
    }
}

/// A writable numpy array that owns a copy of `bytes`.
fn numpy<'py>(py: Python<'py>, dtype: &str, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    py.import("numpy")?.call_method1("frombuffer", (PyByteArray::new(py, bytes), dtype))
}
