//! The verified policy at work in a cache: one curve for all, one error budget for each caller, and what is being tried.
//!
//! A decision changes the budget that the next one goes by, so deciding takes a lock, for about a microsecond; exact
//! hits and the search itself take none.

use super::clock::Millis;
use crate::Result;
use crate::text::canonical::{Fingerprint, ScopeId};
use crate::verify::verified::{Budget, Choice, Offset, Pool};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Callers with a budget of their own; when one more comes, the one that asked least lately starts anew.
const CALLERS: usize = 128;
/// Explored requests whose answer is awaited; the oldest give way.
const PENDING: usize = 1024;

/// How wrong hits are bounded under the verified policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// Greatest share of a caller's near lookups that may end in a wrong hit.
    pub delta: f64,
    /// Share of what would be served that is asked anew all the same, so that labels keep coming.
    pub exploration: f64,
}

impl Default for Bound {
    fn default() -> Self {
        Self { delta: 0.02, exploration: 0.02 }
    }
}

/// A candidate that was not served: the answer of the model will tell whether it might have been.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trial {
    pub(super) entry: Fingerprint,
    /// The store that made the entry: its successor has another answer.
    pub(super) sequence: u64,
    pub(super) similarity: f32,
    pub(super) confidence: f32,
}

/// What the policy has learned, and what it spends.
#[derive(Debug)]
pub(super) struct Learning {
    bound: Bound,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pool: Pool,
    /// Budgets by caller, each with the time it was last asked for.
    budgets: HashMap<ScopeId, (Budget, Millis)>,
    pending: VecDeque<(Fingerprint, Trial)>,
    explored: u64,
}

impl Learning {
    pub(super) fn new(bound: Bound) -> Result<Self> {
        Budget::new(bound.delta, bound.exploration, 0)?; // refuses what is out of range before the first request
        Ok(Self { bound, state: Mutex::default() })
    }

    /// Counts a lookup of `caller` without a candidate.
    pub(super) fn pass(&self, caller: ScopeId, now: Millis) {
        self.budget(&mut self.state(), caller, now).pass();
    }

    /// Decides about the best candidate for `request`; if it is not served, its answer is awaited.
    pub(super) fn choose(
        &self,
        request: Fingerprint,
        caller: ScopeId,
        trial: Trial,
        offset: &Offset,
        now: Millis,
    ) -> Choice {
        let mut state = self.state();
        let risk = state.pool.risk(trial.confidence.into(), offset);
        let choice = self.budget(&mut state, caller, now).choose(risk);
        if !choice.serve {
            state.explored += 1;
            state.pending.retain(|(asked, _)| *asked != request);
            if state.pending.len() == PENDING {
                state.pending.pop_front();
            }
            state.pending.push_back((request, trial));
        }
        choice
    }

    /// What would be decided, without deciding.
    pub(super) fn foresee(&self, caller: ScopeId, confidence: f32, offset: &Offset) -> Choice {
        let state = self.state();
        let risk = state.pool.risk(confidence.into(), offset);
        let limit = state.budgets.get(&caller).map_or(self.bound.delta, |(budget, _)| budget.limit());
        Choice { serve: risk <= limit, risk, limit }
    }

    /// The candidate that was tried for `request`, once.
    pub(super) fn take(&self, request: Fingerprint) -> Option<Trial> {
        let mut state = self.state();
        let place = state.pending.iter().position(|(asked, _)| *asked == request)?;
        state.pending.remove(place).map(|(_, trial)| trial)
    }

    /// Learns whether an entry's answer was right for a request of this confidence.
    pub(super) fn learn(&self, caller: ScopeId, confidence: f32, offset: &mut Offset, right: bool, now: Millis) {
        let mut state = self.state();
        let risk = state.pool.risk(confidence.into(), offset);
        self.budget(&mut state, caller, now).audit(risk, right);
        state.pool.learn(confidence.into(), offset, right);
    }

    /// Requests explored, and labels learned from.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.explored, state.pool.labels())
    }

    /// Greatest risk that is served to a caller at present; `None` before its first near lookup.
    pub(super) fn limit(&self, caller: ScopeId) -> Option<f64> {
        self.state().budgets.get(&caller).map(|(budget, _)| budget.limit())
    }

    /// Bytes held.
    pub(super) fn nbytes(&self) -> usize {
        let state = self.state();
        let budgets: usize = state.budgets.values().map(|(budget, _)| budget.nbytes() + size_of::<ScopeId>()).sum();
        budgets + state.pending.capacity() * size_of::<(Fingerprint, Trial)>()
    }

    fn budget<'s>(&self, state: &'s mut State, caller: ScopeId, now: Millis) -> &'s mut Budget {
        if state.budgets.len() == CALLERS && !state.budgets.contains_key(&caller) {
            let idle = state.budgets.iter().min_by_key(|(_, (_, asked))| *asked).map(|(caller, _)| *caller);
            idle.and_then(|idle| state.budgets.remove(&idle));
        }
        let Bound { delta, exploration } = self.bound;
        let (budget, asked) = state.budgets.entry(caller).or_insert_with(|| {
            // What is explored must not be known beforehand, or a caller could ask around it.
            let seed = RandomState::new().hash_one(caller);
            (Budget::new(delta, exploration, seed).expect("checked when the cache was made"), now)
        });
        *asked = now;
        budget
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(number: u8) -> Trial {
        Trial { entry: Fingerprint([number; 16]), sequence: number.into(), similarity: 0.9, confidence: 0.5 }
    }

    fn caller(number: u16) -> ScopeId {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_le_bytes());
        ScopeId(id)
    }

    #[test]
    fn a_trial_is_handed_out_once_and_only_so_many_wait() {
        let learning = Learning::new(Bound::default()).unwrap();
        for number in 0..u16::try_from(PENDING).unwrap() + 2 {
            let choice =
                learning.choose(Fingerprint(caller(number).0), ScopeId::default(), trial(1), &Offset::default(), 0);
            assert!(!choice.serve, "{choice:?}");
        }
        assert_eq!(learning.take(Fingerprint(caller(1).0)), None);
        assert_eq!(learning.take(Fingerprint(caller(2).0)), Some(trial(1)));
        assert_eq!(learning.take(Fingerprint(caller(2).0)), None);
    }

    #[test]
    fn callers_have_budgets_of_their_own_and_share_what_was_learned() {
        let learning = Learning::new(Bound { delta: 0.05, exploration: 0.0 }).unwrap();
        let (spender, saver) = (caller(1), caller(2));
        for round in 0..200 {
            learning.pass(saver, round);
            learning.learn(spender, 0.999, &mut Offset::default(), false, round);
            learning.choose(Fingerprint([1; 16]), spender, trial(1), &Offset::default(), round);
        }
        assert!(learning.limit(spender).unwrap() <= learning.limit(saver).unwrap());
        assert!(learning.foresee(saver, 0.999, &Offset::default()).risk > 0.05);
    }

    #[test]
    fn no_more_than_so_many_callers_are_known() {
        let learning = Learning::new(Bound::default()).unwrap();
        for number in 0..u16::try_from(CALLERS).unwrap() + 3 {
            learning.pass(caller(number), number.into());
        }
        assert_eq!(learning.state().budgets.len(), CALLERS);
        assert_eq!(learning.limit(caller(2)), None);
        assert!(learning.limit(caller(3)).is_some());
    }

    #[test]
    fn a_bound_out_of_range_is_refused() {
        assert!(Learning::new(Bound { delta: 0.0, exploration: 0.0 }).is_err());
        assert!(Learning::new(Bound { delta: 0.1, exploration: 1.0 }).is_err());
    }
}
