//! Counts that many threads add to without meeting: each thread adds to its own stripe.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const STRIPES: usize = 8;
/// Calls of a thread between two that are measured.
const SAMPLE: u32 = 32;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Event {
    ExactHit,
    NearHit,
    Miss,
    NearMiss,
    Store,
    Replaced,
    EvictedBytes,
    EvictedEntries,
    EvictedQuota,
    Expired,
    Invalidated,
    JudgedCorrect,
    JudgedWrong,
}

const EVENTS: usize = Event::JudgedWrong as usize + 1;

/// One cache line pair per stripe, so that no two threads write to the same line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; EVENTS]);

/// Striped event counts.
#[derive(Debug, Default)]
pub(super) struct Counters([Stripe; STRIPES]);

thread_local! {
    static TICK: Cell<u32> = const { Cell::new(0) };
    static STRIPE: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES)
    };
}

/// The calling thread's stripe.
pub(super) fn stripe() -> usize {
    STRIPE.try_with(Cell::get).unwrap_or(0)
}

/// True once in [`SAMPLE`] calls of each thread: for measurements that cost more than what they measure.
pub(super) fn sampled() -> bool {
    TICK.try_with(|tick| {
        tick.set(tick.get().wrapping_add(1));
        tick.get() % SAMPLE == 0
    })
    .unwrap_or(false)
}

impl Counters {
    pub(super) fn add(&self, event: Event, count: u64) {
        self.0[stripe()].0[event as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self, event: Event) -> u64 {
        self.0.iter().map(|stripe| stripe.0[event as usize].load(Ordering::Relaxed)).sum()
    }
}
