//! The choice of a model tier: difficulty of the prompt, state of the tiers, one decision.
//!
//! Reading a prompt gives [`crate::text::features`]; a [`Head`] turns them into the probability that each tier
//! answers well; [`Router::decide`] weighs that against cost among the tiers that are up and in time. The state of
//! the tiers is atomic: readers and writers never wait. Time is a parameter (seconds on any monotonic clock), so that a
//! replay runs the very code that serves.

mod atomic;
mod breaker;
mod budget;
mod calibrate;
mod clock;
mod decide;
mod dice;
mod good;
mod head;
mod latency;
mod lengths;
mod load;
#[cfg(all(test, feature = "model"))]
mod model;
mod replica;
mod request;
mod rules;
mod ruling;
mod tier;
mod words;

pub use breaker::{Breaker, BreakerOptions};
pub use budget::{Budget, BudgetOptions, ExtraCalls};
pub use calibrate::{Calibrated, Sample, Target};
pub use decide::{Candidate, Decision, Policy, Reason, Router, Strategy, Verdict};
pub use head::{Expert, Head, Square, Surface, prompt_kind, standardise};
pub use latency::LatencyModel;
pub use replica::{Choice, Replicas};
pub use request::{Conversation, Need, Role, Turn};
pub use rules::{Facts, Field, Holds, RuleSpec, Rules, Stated, Then, When};
pub use ruling::Applied;
pub use tier::{Forecast, Outcome, Tier, TierSpec};
