//! Time small enough to share a word with a value.

/// Milliseconds on the caller's clock of seconds; wraps after 49 days, which costs one misjudged interval.
pub(super) fn millis(now: f64) -> u32 {
    (now.max(0.0) * 1e3) as u64 as u32
}

/// Seconds from one time to another; 0 where threads report out of order.
pub(super) fn since(from: u32, to: u32) -> f64 {
    f64::from(to.wrapping_sub(from) as i32).max(0.0) / 1e3
}
