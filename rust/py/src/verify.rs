//! The verifier's parts for Python: features for training, decisions for evaluation.

use crate::error::CoreError;
use crate::vectors;
use nearhit_core::text::guards::{Alignment, Analysis, compare};
use nearhit_core::verify::features::{COUNT, NAMES, features, words};
use nearhit_core::verify::model::Model;
use nearhit_core::verify::verified::{Offset, Verified};
use nearhit_core::verify::weights::WordWeights;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names of the pair features, in their order.
#[pyfunction]
pub(crate) fn pair_feature_names() -> Vec<&'static str> {
    NAMES.to_vec()
}

/// Buckets of the content words of each text, for counting document frequencies.
#[pyfunction]
pub(crate) fn word_buckets(py: Python<'_>, texts: Vec<String>) -> Vec<Vec<usize>> {
    py.detach(|| texts.into_iter().map(|text| Analysis::new(&text).buckets(WordWeights::bucket)).collect())
}

/// Buckets of the words of each pair: those of one side only, and those of both.
#[pyfunction]
pub(crate) fn pair_words(py: Python<'_>, pairs: Vec<(String, String)>) -> Vec<(Vec<usize>, Vec<usize>)> {
    let buckets = |(query, candidate): (String, String)| {
        let (query, candidate) = (Analysis::new(&query), Analysis::new(&candidate));
        let pair = Alignment::new(&query, &candidate);
        let (lone, shared) = words(&pair);
        (lone.map(|(_, key)| WordWeights::bucket(key)).collect(), shared.map(WordWeights::bucket).collect())
    };
    py.detach(|| pairs.into_iter().map(buckets).collect())
}

/// Pair features as float32 bytes in native order, one row of `len(pair_feature_names())` a pair. Words weigh
/// nothing; the caller fills in what depends on their weights.
#[pyfunction]
pub(crate) fn pair_features<'py>(
    py: Python<'py>,
    pairs: Vec<(String, String)>,
    similarities: Vec<f32>,
    rarity: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let weights = WordWeights::with_rarity(rarity).map_err(CoreError)?;
    let rows = py.detach(|| {
        let mut rows = Vec::with_capacity(pairs.len() * COUNT * 4);
        for ((query, candidate), similarity) in pairs.into_iter().zip(similarities) {
            let (query, candidate) = (Analysis::new(&query), Analysis::new(&candidate));
            let verdict = compare(&query, &candidate);
            let row = features(&Alignment::new(&query, &candidate), &verdict, similarity, &weights);
            rows.extend(row.iter().flat_map(|value| value.to_ne_bytes()));
        }
        rows
    });
    Ok(PyBytes::new(py, &rows))
}

/// Log odds by the trees, by the network, confidence, and whether the guards accept.
type Judged = (f32, Option<f32>, f32, bool);

/// A fitted pair verifier; see `_core.pyi`.
#[pyclass(frozen, module = "nearhit._core", name = "PairVerifier")]
pub(crate) struct PairVerifier(pub(crate) Arc<Model>);

#[pymethods]
impl PairVerifier {
    #[new]
    #[pyo3(signature = (path = None))]
    fn new(path: Option<PathBuf>) -> PyResult<Self> {
        match path {
            Some(path) => Ok(Self(Arc::new(Model::load(&path).map_err(CoreError)?))),
            None => Ok(Self(Model::shipped())),
        }
    }

    /// Least confidence at which a near hit is served.
    #[getter]
    fn threshold(&self) -> f32 {
        self.0.threshold()
    }

    /// Length of the vectors it knows.
    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
    }

    /// Name of the embedder whose vectors it knows.
    #[getter]
    fn embedder(&self) -> &str {
        self.0.embedder()
    }

    /// The content of this verifier's file with another calibration and threshold.
    fn recalibrated<'py>(
        &self,
        py: Python<'py>,
        calibration: [f32; 5],
        threshold: f32,
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.recalibrated(calibration, threshold).map_err(CoreError)?))
    }

    /// For each pair: log odds by trees and network, confidence, and whether the guards accept.
    #[pyo3(signature = (pairs, similarities, vectors = None))]
    fn judge_many(
        &self,
        py: Python<'_>,
        pairs: Vec<(String, String)>,
        similarities: Vec<f32>,
        vectors: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    ) -> PyResult<Vec<Judged>> {
        let vectors = match vectors {
            Some((a, b)) => Some((vectors::many(&a, self.0.dim())?, vectors::many(&b, self.0.dim())?)),
            None => None,
        };
        let mut rows = vectors.as_ref().map(|(a, b)| a.chunks_exact(self.0.dim()).zip(b.chunks_exact(self.0.dim())));
        let judge = |((query, candidate), similarity): ((String, String), f32)| {
            let found = self.0.assess(&query, &candidate, similarity, rows.as_mut().and_then(Iterator::next));
            (found.trees, found.network, found.confidence, found.accepted)
        };
        Ok(py.detach(|| pairs.into_iter().zip(similarities).map(judge).collect()))
    }
}

/// The 16 bytes that end a verifier file: a checksum of everything before them.
#[pyfunction]
pub(crate) fn checksum<'py>(py: Python<'py>, body: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &nearhit_core::verify::model::checksum(body))
}

/// The verified policy with the entries it has met; see `_core.pyi`.
#[pyclass(frozen, module = "nearhit._core", name = "VerifiedPolicy")]
pub(crate) struct VerifiedPolicy(Mutex<(Verified, HashMap<u64, Offset>)>);

impl VerifiedPolicy {
    fn state(&self) -> MutexGuard<'_, (Verified, HashMap<u64, Offset>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl VerifiedPolicy {
    #[new]
    #[pyo3(signature = (delta = 0.02, *, exploration = 0.02, seed = 0))]
    fn new(delta: f64, exploration: f64, seed: u64) -> PyResult<Self> {
        let policy = Verified::new(delta, exploration, seed).map_err(CoreError)?;
        Ok(Self(Mutex::new((policy, HashMap::new()))))
    }

    #[pyo3(name = "pass_")]
    fn pass(&self) {
        self.state().0.pass();
    }

    fn decide(&self, entry: u64, confidence: f64) -> (bool, f64, f64) {
        let (policy, offsets) = &mut *self.state();
        let choice = policy.decide(confidence, offsets.get(&entry).unwrap_or(&Offset::default()));
        (choice.serve, choice.risk, choice.limit)
    }

    fn learn(&self, entry: u64, confidence: f64, right: bool) {
        let (policy, offsets) = &mut *self.state();
        policy.learn(confidence, offsets.entry(entry).or_default(), right);
    }

    #[getter]
    fn labels(&self) -> u64 {
        self.state().0.labels()
    }
}
