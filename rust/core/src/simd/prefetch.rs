//! Asking for memory before it is needed.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "a hint on an address has no safe form"))]

/// Cache lines asked for; the processor finds the rest of a longer run by itself.
const AHEAD: usize = 8;

/// Begins to load the start of a slice; only a hint.
#[inline]
pub(crate) fn prefetch<T>(slice: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = slice.as_ptr().cast::<i8>();
        for offset in (0..size_of_val(slice).min(64 * AHEAD)).step_by(64) {
            // SAFETY: `offset` is below the length of the slice in bytes.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, AHEAD);
}
