//! Rules of the router: from the attributes of Python objects to the core's.

use nearhit_core::route::{Facts, Field, Holds, RuleSpec, Stated, Then, When};
use nearhit_core::text::json::Value;
use pyo3::prelude::*;

use crate::convert;
use crate::error::CoreError;
use crate::vectors::Array;

/// A rule: name, whether it is strict, the only tiers allowed, those not allowed, the least quality, and when it holds.
#[derive(FromPyObject)]
pub(crate) struct RuleFields(String, bool, Vec<String>, Vec<String>, Option<f64>, WhenFields);

/// When a rule holds; the kinds have no attribute in common that decides.
#[derive(FromPyObject)]
enum WhenFields {
    Keywords {
        keywords: Vec<String>,
        at_least: usize,
        whole_words: bool,
        field: String,
    },
    Patterns {
        patterns: Vec<String>,
        field: String,
    },
    Stated {
        tags: Vec<String>,
        fields: Vec<(usize, Vec<Json>)>,
        has_tools: Option<bool>,
        has_images: Option<bool>,
        tokens: Option<(f64, f64)>,
        languages: Vec<String>,
    },
    Near {
        rows: Rows,
        threshold: f64,
        neighbours: usize,
    },
}

struct Json(Value);

impl<'py> FromPyObject<'_, 'py> for Json {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        convert::value(&object).map(Self)
    }
}

struct Rows(Array);

impl<'py> FromPyObject<'_, 'py> for Rows {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Array::extract(&object).map(Self)
    }
}

impl RuleFields {
    /// The rule as the core takes it.
    pub(crate) fn spec(self) -> Result<RuleSpec, CoreError> {
        let Self(name, strict, only, exclude, min_quality, when) = self;
        let when = match when {
            WhenFields::Keywords { keywords: words, at_least, whole_words, field } => {
                When::Keywords { words, at_least, whole_words, field: Field::parse(&field)? }
            }
            WhenFields::Patterns { patterns, field } => When::Patterns { patterns, field: Field::parse(&field)? },
            WhenFields::Stated { tags, fields, has_tools: tools, has_images: images, tokens, languages } => {
                let plain = |values: Vec<Json>| values.into_iter().map(|value| value.0).collect();
                let fields = fields.into_iter().map(|(number, values)| (number, plain(values))).collect();
                let tokens = tokens.map(|(least, most)| least..=most);
                When::Stated(Stated { tags, fields, tools, images, tokens, languages })
            }
            WhenFields::Near { rows, threshold, neighbours } => {
                let dim = rows.0.shape.last().copied().unwrap_or(0);
                When::Near { rows: rows.0.values, dim, threshold, neighbours }
            }
        };
        Ok(RuleSpec { name, when, then: Then { only, exclude, min_quality }, strict })
    }
}

/// What is known of a request beside its turns.
pub(crate) fn facts<'a>(
    tags: Vec<String>,
    fields: Vec<Option<Bound<'_, PyAny>>>,
    tools: bool,
    vector: Option<&'a [f32]>,
) -> PyResult<Facts<'a>> {
    let fields =
        fields.into_iter().map(|field| field.as_ref().map(convert::value).transpose()).collect::<PyResult<_>>()?;
    Ok(Facts { tags, fields, tools, vector })
}

/// The rules that hold for one request.
#[pyclass(frozen, module = "nearhit._core")]
pub(crate) struct HeldRules(pub(crate) Vec<Holds>);

#[pymethods]
impl HeldRules {
    fn __len__(&self) -> usize {
        self.0.len()
    }
}
