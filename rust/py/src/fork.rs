//! Forking while other threads work: a fork waits for the calls that hold a lock without holding the GIL.
//!
//! A child of `fork` has one thread; a lock that another one held at that moment would never be released in it. Calls
//! that leave the GIL are counted before they do, so that once the count is zero, under the GIL, none can begin.

use pyo3::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

static AWAY: AtomicUsize = AtomicUsize::new(0);

struct Away;

impl Drop for Away {
    fn drop(&mut self) {
        AWAY.fetch_sub(1, Ordering::Release);
    }
}

/// Runs `work` without the GIL, and makes a fork wait for it.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    AWAY.fetch_add(1, Ordering::Relaxed);
    let away = Away;
    py.detach(move || {
        let result = work();
        drop(away); // before the GIL is taken again, which the forking thread holds
        result
    })
}

/// Returns when no call is away from the GIL; to be called before a fork.
#[pyfunction]
pub(crate) fn wait_for_detached() {
    while AWAY.load(Ordering::Acquire) != 0 {
        std::thread::yield_now();
    }
}
