//! The native encoder for Python.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 extracts arguments into values")]

use std::path::PathBuf;
use std::sync::Arc;

use nearhit_core::encode::{Config, Encoder, Pooling, Tensors, TokeniserConfig};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyString};

use crate::convert;
use crate::error::CoreError;

/// A BERT encoder on the CPU; see `_core.pyi`.
#[pyclass(frozen, module = "nearhit._core", name = "NativeEncoder")]
pub(crate) struct NativeEncoder {
    encoder: Arc<Encoder>,
}

impl NativeEncoder {
    /// The encoder itself, for a cache that embeds on its own.
    pub(crate) fn shared(&self) -> Arc<Encoder> {
        Arc::clone(&self.encoder)
    }
}

/// Vectors as bytes, whether each text was cut, its tokens, and the seconds of tokenising and of the forward pass.
type Batch<'py> = (Bound<'py, PyByteArray>, Vec<bool>, Vec<usize>, f64, f64);

#[pymethods]
impl NativeEncoder {
    #[new]
    #[pyo3(signature = (config, tokeniser, tensors))]
    fn new(
        py: Python<'_>,
        config: ModelConfig,
        tokeniser: TokeniserSettings,
        tensors: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let mut owned = Tensors::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            owned.insert(name.extract()?, PyBuffer::<f32>::get(&tensor)?.to_vec(py)?);
        }
        let encoder = py.detach(|| Encoder::new(config.0, tokeniser.0, &owned)).map_err(CoreError)?;
        Ok(Self { encoder: Arc::new(encoder) })
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Ok(Self { encoder: Arc::new(py.detach(|| Encoder::load(&path)).map_err(CoreError)?) })
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        Ok(py.detach(|| self.encoder.save(&path)).map_err(CoreError)?)
    }

    #[getter]
    fn dim(&self) -> usize {
        self.encoder.config().hidden
    }

    #[getter]
    fn max_length(&self) -> usize {
        self.encoder.config().max_length
    }

    #[getter]
    fn isa(&self) -> &'static str {
        self.encoder.isa().isa().name()
    }

    /// Token ids of a text, special tokens included, and whether it was cut.
    fn tokenise(&self, text: &Bound<'_, PyString>) -> PyResult<(Vec<u32>, bool)> {
        let mut ids = Vec::new();
        let truncated =
            self.encoder.tokeniser().encode(convert::text(text)?, self.encoder.config().max_length, &mut ids);
        Ok((ids, truncated))
    }

    #[pyo3(signature = (texts, threads = 1))]
    fn encode<'py>(&self, py: Python<'py>, texts: Vec<Bound<'py, PyString>>, threads: usize) -> PyResult<Batch<'py>> {
        let texts = texts.iter().map(convert::text).collect::<PyResult<Vec<&str>>>()?;
        let mut vectors = vec![0.0_f32; texts.len() * self.encoder.config().hidden];
        let (encoded, spent) =
            py.detach(|| self.encoder.encode_batch(&texts, threads, &mut vectors)).map_err(CoreError)?;
        let bytes = PyByteArray::new_with(py, vectors.len() * 4, |bytes| {
            for (slot, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(&vectors) {
                *slot = value.to_ne_bytes();
            }
            Ok(())
        })?;
        let truncated = encoded.iter().map(|one| one.truncated).collect();
        let tokens = encoded.iter().map(|one| one.tokens).collect();
        Ok((bytes, truncated, tokens, spent.tokenise.as_secs_f64(), spent.forward.as_secs_f64()))
    }
}

struct ModelConfig(Config);

impl<'py> FromPyObject<'_, 'py> for ModelConfig {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let get = |name: &str| object.get_item(name);
        let pooling: String = get("pooling")?.extract()?;
        Ok(Self(Config {
            hidden: get("hidden")?.extract()?,
            heads: get("heads")?.extract()?,
            layers: get("layers")?.extract()?,
            intermediate: get("intermediate")?.extract()?,
            positions: get("positions")?.extract()?,
            vocabulary: get("vocabulary")?.extract()?,
            max_length: get("max_length")?.extract()?,
            pooling: match pooling.as_str() {
                "mean" => Pooling::Mean,
                "cls" => Pooling::First,
                other => return Err(PyValueError::new_err(format!("pooling {other:?} is neither mean nor cls"))),
            },
            epsilon: get("epsilon")?.extract()?,
        }))
    }
}

struct TokeniserSettings(TokeniserConfig);

impl<'py> FromPyObject<'_, 'py> for TokeniserSettings {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let get = |name: &str| object.get_item(name);
        Ok(Self(TokeniserConfig {
            clean_text: get("clean_text")?.extract()?,
            split_cjk: get("split_cjk")?.extract()?,
            strip_accents: get("strip_accents")?.extract()?,
            lowercase: get("lowercase")?.extract()?,
            max_word_chars: get("max_word_chars")?.extract()?,
            unknown: get("unknown")?.extract()?,
            first: get("first")?.extract()?,
            last: get("last")?.extract()?,
            special: get("special")?.extract()?,
            tokens: get("tokens")?.extract()?,
        }))
    }
}
