//! The primitives whose order of use decides whether readers and writers agree. Under the feature "model" tests get those
//! of a scheduler, which switches threads at each use, in one order after the other.

#[cfg(all(test, feature = "model"))]
pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic::AtomicU64};
#[cfg(not(all(test, feature = "model")))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard, atomic::AtomicU64};
