//! The atomics of the tiers' state. Under the feature "model" tests get those of a scheduler, for `model.rs`.

#[cfg(all(test, feature = "model"))]
pub(super) use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
#[cfg(not(all(test, feature = "model")))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
