//! `nearhit._core`'s budgets of further calls, and the choice among replicas.

use std::time::Instant;

use nearhit_core::route::{BreakerOptions, Choice, ExtraCalls, Outcome, Replicas, Tier};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::error::CoreError;

/// Budgets of retries and hedges.
#[pyclass(frozen, module = "nearhit._core")]
pub(crate) struct CallBudget {
    extra: ExtraCalls,
    started: Instant,
}

impl CallBudget {
    fn clock(&self, now: Option<f64>) -> f64 {
        now.unwrap_or_else(|| self.started.elapsed().as_secs_f64())
    }
}

#[pymethods]
impl CallBudget {
    #[new]
    #[pyo3(signature = (*, retry_share, hedge_share, seed=None))]
    fn new(retry_share: f64, hedge_share: f64, seed: Option<u64>) -> Result<Self, CoreError> {
        let extra = ExtraCalls::new(retry_share, hedge_share)?;
        let extra = match seed {
            Some(seed) => extra.seeded(seed),
            None => extra,
        };
        Ok(Self { extra, started: Instant::now() })
    }

    /// Counts a request, which earns its share of both.
    #[pyo3(signature = (*, now=None))]
    fn arrived(&self, now: Option<f64>) {
        self.extra.arrived(self.clock(now));
    }

    /// Takes a retry, if the budget allows one.
    #[pyo3(signature = (*, now=None))]
    fn retry(&self, now: Option<f64>) -> bool {
        self.extra.retry(self.clock(now))
    }

    /// Takes a hedge, if the budget allows one.
    #[pyo3(signature = (*, now=None))]
    fn hedge(&self, now: Option<f64>) -> bool {
        self.extra.hedge(self.clock(now))
    }

    /// Retries and hedges left.
    #[pyo3(signature = (*, now=None))]
    fn left(&self, now: Option<f64>) -> (f64, f64) {
        self.extra.left(self.clock(now))
    }

    /// Seconds to wait before retry number `retry` (the first is 0): jittered, never less than the server asked for.
    #[pyo3(signature = (retry, retry_after=None))]
    fn pause(&self, retry: u32, retry_after: Option<f64>) -> f64 {
        self.extra.pause(retry, retry_after)
    }
}

/// State of a tier's replicas, and the choice among them.
#[pyclass(frozen, module = "nearhit._core")]
pub(crate) struct ReplicaCore {
    replicas: Replicas,
    started: Instant,
}

impl ReplicaCore {
    fn clock(&self, now: Option<f64>) -> f64 {
        now.unwrap_or_else(|| self.started.elapsed().as_secs_f64())
    }

    fn member(&self, at: usize) -> PyResult<&Tier> {
        self.replicas.members().get(at).ok_or_else(|| PyIndexError::new_err(format!("no replica number {at}")))
    }
}

#[pymethods]
impl ReplicaCore {
    #[new]
    #[pyo3(signature = (slots, *, load_gate, failures, cooldown))]
    #[expect(clippy::needless_pass_by_value, reason = "as Python hands it over")]
    fn new(slots: Vec<Option<u32>>, load_gate: f64, failures: u16, cooldown: f64) -> Result<Self, CoreError> {
        let breaker = BreakerOptions { failures, cooldown };
        Ok(Self { replicas: Replicas::new(&slots, load_gate, breaker)?, started: Instant::now() })
    }

    /// Chooses a replica and starts a call of it; gives its number and why, or None if all are down or to be avoided.
    /// Each call started needs one `answered`, `failed` or `cancelled`.
    #[pyo3(signature = (tokens, *, key=None, avoid=Vec::new(), now=None))]
    #[expect(clippy::needless_pass_by_value, reason = "as Python hands it over")]
    fn start(
        &self,
        tokens: f64,
        key: Option<u64>,
        avoid: Vec<usize>,
        now: Option<f64>,
    ) -> Option<(usize, &'static str)> {
        let (at, why) = self.replicas.start(tokens, key, &avoid, self.clock(now))?;
        let why = match why {
            Choice::Sticky => "sticky",
            Choice::BetterOfTwo => "better of two",
            Choice::Only => "only",
        };
        Some((at, why))
    }

    /// Ends a call that answered.
    #[pyo3(signature = (replica, tokens, ttft, decode, output, *, now=None))]
    fn answered(
        &self,
        replica: usize,
        tokens: f64,
        ttft: Option<f64>,
        decode: f64,
        output: u32,
        now: Option<f64>,
    ) -> PyResult<()> {
        self.member(replica)?.finish(Outcome::Answered { ttft, decode, output }, tokens, self.clock(now));
        Ok(())
    }

    /// Ends a call that failed.
    #[pyo3(signature = (replica, tokens, waited=None, *, now=None))]
    fn failed(&self, replica: usize, tokens: f64, waited: Option<f64>, now: Option<f64>) -> PyResult<()> {
        self.member(replica)?.finish(Outcome::Failed { waited }, tokens, self.clock(now));
        Ok(())
    }

    /// Ends a call that was given up.
    #[pyo3(signature = (replica, tokens, waited=None, *, now=None))]
    fn cancelled(&self, replica: usize, tokens: f64, waited: Option<f64>, now: Option<f64>) -> PyResult<()> {
        self.member(replica)?.finish(Outcome::Cancelled { waited }, tokens, self.clock(now));
        Ok(())
    }

    /// Sends a replica no call for so many seconds, as its server has asked.
    #[pyo3(signature = (replica, seconds, *, now=None))]
    fn rest(&self, replica: usize, seconds: f64, now: Option<f64>) -> PyResult<()> {
        self.member(replica)?.rest(seconds, self.clock(now));
        Ok(())
    }

    /// State of a replica: calls, failures, calls under way, seconds until a call is let through.
    #[pyo3(signature = (replica, *, now=None))]
    fn state(&self, replica: usize, now: Option<f64>) -> PyResult<(u64, u64, u32, f64)> {
        let member = self.member(replica)?;
        let (calls, failures) = member.counts();
        Ok((calls, failures, member.in_flight(), member.down_for(self.clock(now))))
    }
}
