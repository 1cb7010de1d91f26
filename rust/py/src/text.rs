//! The canonical request for Python.

use crate::convert;
use crate::error::CoreError;
use nearhit_core::text::canonical::{Request, ScopeId};
use nearhit_core::text::guards::{self, Verdict};
use nearhit_core::text::json::Value;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A request in canonical form; see `_core.pyi`.
#[pyclass(frozen, module = "nearhit._core", name = "CanonicalRequest", get_all)]
pub(crate) struct CanonicalRequest {
    fingerprint: String,
    scope: String,
    text: Option<String>,
    temperature: Option<f64>,
}

#[pymethods]
impl CanonicalRequest {
    fn __repr__(&self) -> String {
        let text = self.text.as_deref().map_or_else(|| "None".into(), |text| format!("{text:?}"));
        format!("CanonicalRequest(fingerprint='{}', scope='{}', text={text})", self.fingerprint, self.scope)
    }
}

impl From<Request<'_>> for CanonicalRequest {
    fn from(request: Request<'_>) -> Self {
        Self {
            fingerprint: request.fingerprint.to_string(),
            scope: request.scope.to_string(),
            text: request.text.map(std::borrow::Cow::into_owned),
            temperature: request.temperature,
        }
    }
}

/// The canonical form of a prompt, a conversation or a request body.
#[pyfunction]
#[pyo3(signature = (request, /, *, scope = None))]
pub(crate) fn canonical(request: &Bound<'_, PyAny>, scope: Option<&Bound<'_, PyAny>>) -> PyResult<CanonicalRequest> {
    let base = match scope {
        Some(scope) => ScopeId::of(&convert::value(scope)?).map_err(CoreError)?,
        None => ScopeId::default(),
    };
    if let Ok(prompt) = request.cast::<PyString>() {
        return Ok(Request::from_prompt(convert::text(prompt)?, base).map_err(CoreError)?.into());
    }
    let value: Value = convert::value(request)?;
    Ok(Request::from_value(&value, base).map_err(CoreError)?.into())
}

/// What the guards say of two texts: whether they accept, and (guard, piece, piece) for each refusal.
type Refusals = Vec<(&'static str, String, String)>;

fn refusals(verdict: Verdict) -> Refusals {
    verdict.reasons.into_iter().map(|reason| (reason.guard.name(), reason.query, reason.candidate)).collect()
}

/// Asks the lexical guards about two texts.
#[pyfunction]
#[pyo3(signature = (query, candidate, /))]
pub(crate) fn guard(query: &Bound<'_, PyString>, candidate: &Bound<'_, PyString>) -> PyResult<Refusals> {
    Ok(refusals(guards::judge(convert::text(query)?, convert::text(candidate)?)))
}

/// Asks the lexical guards about many pairs, without the interpreter's lock.
#[pyfunction]
#[pyo3(signature = (pairs, /))]
pub(crate) fn guard_many(py: Python<'_>, pairs: Vec<(String, String)>) -> Vec<Refusals> {
    py.detach(|| pairs.into_iter().map(|(query, candidate)| refusals(guards::judge(&query, &candidate))).collect())
}
