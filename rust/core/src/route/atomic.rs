//! The atomics of the tiers' state: the standard library's, or loom's for the models in `model.rs`.

#[cfg(feature = "loom")]
pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
#[cfg(not(feature = "loom"))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
