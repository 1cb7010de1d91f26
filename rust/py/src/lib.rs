//! `nearhit._core`: arguments in, one call of the core, results out. No logic lives here.

mod arguments;
mod cache;
mod calls;
mod convert;
mod encode;
mod error;
mod fork;
mod index;
mod route;
mod rules;
mod text;
mod vectors;
mod verify;

use pyo3::prelude::*;

/// The native core of nearhit.
#[pymodule]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::cache::{PyCache, PyEntries, PyHit, PyNear, PyRequest};
    #[pymodule_export]
    use super::calls::{CallBudget, ReplicaCore};
    #[pymodule_export]
    use super::encode::NativeEncoder;
    #[pymodule_export]
    use super::fork::wait_for_detached;
    #[pymodule_export]
    use super::index::PyVectorIndex;
    #[pymodule_export]
    use super::route::{
        Alternative, AppliedRule, RouteDecision, RouteRequest, RouterCore, feature_names, prompt_features,
        prompt_focus, prompt_kind,
    };
    #[pymodule_export]
    use super::rules::HeldRules;
    #[pymodule_export]
    use super::text::{CanonicalRequest, canonical, guard, guard_many};
    #[pymodule_export]
    use super::verify::{
        PairVerifier, VerifiedPolicy, checksum, pair_feature_names, pair_features, pair_words, word_buckets,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
