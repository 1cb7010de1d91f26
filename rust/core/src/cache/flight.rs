//! One vector on its way: its maker ends the flight, whoever wants the same one waits for that.

use super::sync::{Condvar, Mutex};
use crate::encode::Embedded;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How a flight ended for somebody who waited for it.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// Its maker has made it.
    Made(Arc<Embedded>),
    /// Its maker failed; somebody else may try.
    Failed,
    /// It took longer than one was ready to wait.
    Late,
}

/// A vector that is being made.
#[derive(Debug, Default)]
pub(super) struct Flight {
    outcome: Mutex<Option<Outcome>>,
    ended: Condvar,
}

impl Flight {
    /// Waits until the flight ends, but no longer than `patience`.
    pub(super) fn wait(&self, patience: Duration) -> Outcome {
        let started = Instant::now();
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            let left = patience.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Outcome::Late;
            }
            outcome = self.ended.wait_timeout(outcome, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the flight, and tells whoever waits; `None` if nothing was made.
    pub(super) fn end(&self, made: Option<Arc<Embedded>>) {
        let outcome = made.map_or(Outcome::Failed, Outcome::Made);
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.ended.notify_all();
    }
}
