//! Vectors from Python: anything with a buffer of floats, else whatever numpy can turn into numbers.

use nearhit_core::Error;
use pyo3::buffer::PyBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{CoreError, named};

/// A float32 copy of an array-like, and its shape.
pub(crate) struct Array {
    pub(crate) values: Vec<f32>,
    pub(crate) shape: Vec<usize>,
}

impl Array {
    /// Reads float32 and float64 buffers of any layout directly; other types go through numpy.
    pub(crate) fn extract(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Some(array) = Self::from_buffer(object)? {
            return Ok(array);
        }
        let py = object.py();
        let unreadable = |found: String| named(py, "InputError", format!("{found} is not a vector of numbers"));
        let array = py
            .import("numpy")?
            .call_method1("asarray", (object,))
            .map_err(|cause| unreadable(format!("{} ({cause})", object.get_type())))?;
        let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
        if !matches!(&*kind, "f" | "i" | "u" | "b") {
            return Err(unreadable(format!("an array of dtype {}", array.getattr("dtype")?)));
        }
        let array = array.call_method1("astype", ("float64",))?;
        Self::from_buffer(&array)?.ok_or_else(|| unreadable(object.get_type().to_string()))
    }

    fn from_buffer(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(buffer) = PyBuffer::<f32>::get(object) {
            if is_swapped(&buffer) {
                return Ok(None);
            }
            return Ok(Some(Self { values: buffer.to_vec(object.py())?, shape: buffer.shape().to_vec() }));
        }
        let Some(buffer) = PyBuffer::<f64>::get(object).ok().filter(|buffer| !is_swapped(buffer)) else {
            return Ok(None);
        };
        let values = buffer.to_vec(object.py())?.into_iter().map(|value| value as f32).collect();
        Ok(Some(Self { values, shape: buffer.shape().to_vec() }))
    }
}

/// Whether the values are in the other byte order, which `PyBuffer` does not look at.
fn is_swapped<T: pyo3::buffer::Element>(buffer: &PyBuffer<T>) -> bool {
    let foreign: &[u8] = if cfg!(target_endian = "little") { b">!" } else { b"<" };
    buffer.format().to_bytes().first().is_some_and(|order| foreign.contains(order))
}

/// One vector.
pub(crate) fn one(object: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    let array = Array::extract(object)?;
    match array.shape.len() {
        1 => Ok(array.values),
        _ => Err(shape_error(object.py(), &array.shape, "one vector of shape (dim,)")),
    }
}

/// A numpy array of float32 that nobody can write to.
pub(crate) fn frozen<'py>(py: Python<'py>, values: &[f32]) -> PyResult<Bound<'py, PyAny>> {
    let bytes = PyBytes::new_with(py, size_of_val(values), |bytes| {
        for (slot, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *slot = value.to_ne_bytes();
        }
        Ok(())
    })?;
    py.import(intern!(py, "numpy"))?.call_method1(intern!(py, "frombuffer"), (bytes, intern!(py, "float32")))
}

/// The rows of a matrix of `dim` columns, end to end.
pub(crate) fn many(object: &Bound<'_, PyAny>, dim: usize) -> PyResult<Vec<f32>> {
    let array = Array::extract(object)?;
    match array.shape[..] {
        [_, columns] if columns == dim => Ok(array.values),
        [_, columns] => Err(CoreError(Error::Dimension { expected: dim, got: columns }).into()),
        _ => Err(shape_error(object.py(), &array.shape, "a matrix of shape (n, dim)")),
    }
}

fn shape_error(py: Python<'_>, shape: &[usize], expected: &str) -> PyErr {
    named(py, "DimensionError", format!("got an array of shape {shape:?}, expected {expected}"))
}
