//! Wall-clock time in whole milliseconds, which expiry is counted in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// No expiry.
pub const NEVER: Millis = Millis::MAX;

/// Where the time comes from.
#[derive(Debug, Default)]
pub enum Clock {
    /// The system's clock: expiry has to mean the same after a restart and on another machine.
    #[default]
    System,
    /// A clock that stands still until it is told, for tests and replays.
    Manual(AtomicU64),
}

impl Clock {
    /// A clock at `start` that only [`Clock::advance`] moves.
    pub fn manual(start: Millis) -> Self {
        Self::Manual(AtomicU64::new(start))
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        match self {
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_millis),
            Self::Manual(at) => at.load(Ordering::Relaxed),
        }
    }

    /// Moves a manual clock; the system's takes no orders.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(at) = self {
            at.fetch_add(whole_millis(by), Ordering::Relaxed);
        }
    }
}

/// A duration in milliseconds, at most `NEVER - 1`.
pub(super) fn whole_millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER).min(NEVER - 1)
}
