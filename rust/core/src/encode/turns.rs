//! More callers than cores take turns, text by text.
//!
//! The operating system shares the cores among them too, but in slices of several milliseconds: whoever has one gets a
//! few short texts done, and then waits for everybody else's slice (16 callers on two cores: p99 is 5 times the mean, in
//! Rust as from Python). A caller that lets the others run before its text makes that 2.4 times, for 4 % of the throughput.
//!
//! Tried: a queue in the order of arrival, with as many running as there are cores, has a p99 of 1.3 times the mean but
//! loses 40 % of the throughput, as the next caller often wakes up on the core that is busy. Passes with the texts of
//! several callers can gain nothing: 16 texts of 17 tokens take 16.6 times as long as one.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many callers there are.
#[derive(Debug)]
pub(super) struct Turns {
    cores: usize,
    /// Callers that run or are about to. A process forked while some ran counts them for ever, which costs it a system
    /// call a text.
    inside: AtomicUsize,
}

/// One caller's turn.
#[derive(Debug)]
pub(super) struct Turn<'t>(&'t Turns);

impl Default for Turns {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { cores, inside: AtomicUsize::new(0) }
    }
}

impl Turns {
    /// Begins a turn, after those of others if there are more callers than cores.
    pub(super) fn take(&self) -> Turn<'_> {
        // Nothing is read or written because of the count but the count itself.
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        let turn = Turn(self);
        if before >= self.cores {
            std::thread::yield_now();
        }
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Ordering, Turns};

    #[test]
    fn every_turn_ends_even_by_a_panic() {
        let turns = Turns::default();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let turns = &turns;
                scope.spawn(move || {
                    for _ in 0..100 {
                        let _turn = turns.take();
                        let inside = turns.inside.load(Ordering::Relaxed);
                        assert!((1..=16).contains(&inside), "{inside} inside");
                    }
                    let panicked = std::panic::catch_unwind(|| {
                        let _turn = turns.take();
                        assert!(number % 2 == 0, "as the test wants it");
                    });
                    assert_eq!(panicked.is_err(), number % 2 == 1);
                });
            }
        });
        assert_eq!(turns.inside.load(Ordering::Relaxed), 0);
    }
}
