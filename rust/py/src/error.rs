//! One Python class for each core error; the match is exhaustive so that a new variant must choose.

use nearhit_core::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// A core error on its way to Python.
#[derive(Debug)]
pub(crate) struct CoreError(pub(crate) Error);

impl From<Error> for CoreError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<CoreError> for PyErr {
    fn from(CoreError(error): CoreError) -> Self {
        let class = match &error {
            Error::Dimension { .. } => "DimensionError",
            Error::NotFinite { .. } => "NotFiniteError",
            Error::ZeroVector => "ZeroVectorError",
            Error::Threshold { .. } => "ThresholdError",
            Error::EmptyPrompt => "EmptyPromptError",
            Error::Request { .. } => "RequestError",
            Error::InvalidOption { .. } => "OptionError",
            Error::NoTier { .. } => "NoTierError",
            Error::Deadline { .. } => "DeadlineError",
            Error::ModelFormat { .. } => "ModelFormatError",
            Error::Embedding { .. } => "EmbeddingError",
            Error::TooLarge { .. } => "TooLargeError",
            Error::Corrupt { .. } => "CorruptFileError",
            Error::InUse { .. } => "StorageInUseError",
            Error::Storage { .. } | Error::Io { .. } => "StorageError",
        };
        Python::attach(|py| match py.import("nearhit._errors").and_then(|module| module.getattr(class)) {
            Ok(class) => match class.call1((error.to_string(),)) {
                Ok(value) => PyErr::from_value(value),
                Err(failure) => failure,
            },
            Err(_) => PyRuntimeError::new_err(error.to_string()),
        })
    }
}

/// An error of the given class of `nearhit._errors`, for what only the binding can see.
pub(crate) fn named(py: Python<'_>, class: &str, message: String) -> PyErr {
    match py.import("nearhit._errors").and_then(|module| module.getattr(class)?.call1((message,))) {
        Ok(value) => PyErr::from_value(value),
        Err(failure) => failure,
    }
}
