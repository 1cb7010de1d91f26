//! The verifier's parts for Python: features for training, decisions for evaluation.

use crate::error::CoreError;
use nearhit_core::Error;
use nearhit_core::text::guards::{Alignment, Analysis, compare};
use nearhit_core::verify::features::{COUNT, NAMES, features};
use nearhit_core::verify::weights::{BUCKETS, WordWeights};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

fn table(weights: &[u8]) -> Result<WordWeights, CoreError> {
    WordWeights::new(weights).ok_or_else(|| {
        CoreError(Error::InvalidOption {
            name: "weights",
            value: format!("{} bytes", weights.len()),
            expected: format!("{BUCKETS} bytes"),
        })
    })
}

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

/// Pair features as float32 bytes in native order, one row of `len(pair_feature_names())` a pair.
#[pyfunction]
pub(crate) fn pair_features<'py>(
    py: Python<'py>,
    pairs: Vec<(String, String)>,
    similarities: Vec<f32>,
    weights: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let weights = table(weights)?;
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
