//! Whole numbers from Python, with errors that say which one is out of its range.

use crate::error::{CoreError, named};
use nearhit_core::Error;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

/// The id of a vector. What `add` never returns is refused by name, not as an overflow.
pub(crate) fn id_of(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    whole(object, |value| {
        named(
            object.py(),
            "InputError",
            format!("id {value} is none that add returns: ids count from 0 and fit 64 bits"),
        )
    })
}

/// Ids of vectors.
pub(crate) fn ids_of(object: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    object.try_iter()?.map(|id| id_of(&id?)).collect()
}

/// A number of neighbours; more than there can be is all of them.
pub(crate) fn k_of(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    option(object, "k", "at least 1, and to fit 64 bits")
}

/// The length of vectors.
pub(crate) fn dim_of(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    option(object, "dim", "at least 1, and to fit 64 bits")
}

fn option(object: &Bound<'_, PyAny>, name: &'static str, expected: &str) -> PyResult<usize> {
    whole(object, |value| CoreError(Error::InvalidOption { name, value, expected: expected.into() }).into())
}

fn whole<'py, T: pyo3::conversion::FromPyObjectOwned<'py, Error = PyErr>>(
    object: &Bound<'py, PyAny>,
    refuse: impl FnOnce(String) -> PyErr,
) -> PyResult<T> {
    object.extract().map_err(|cause: PyErr| {
        if cause.is_instance_of::<PyOverflowError>(object.py()) { refuse(object.to_string()) } else { cause }
    })
}
