//! The tiers' state under a scheduler that switches threads at each use of an atomic, in every order there is.
//! `cargo test -p nearhit-core --features model --lib model::`. Every word stands for itself (all orderings are relaxed),
//! so that the order of the steps is all that can differ.

use std::sync::Arc;

use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner, check_dfs, thread};

use crate::route::breaker::{Breaker, BreakerOptions};
use crate::route::budget::{Budget, BudgetOptions};
use crate::route::good::Good;
use crate::route::load::ByLoad;
use crate::route::tier::{Outcome, Tier, TierSpec};

const BREAKER: BreakerOptions = BreakerOptions { failures: 2, cooldown: 10.0 };

/// Runs a test in every order of its threads' steps.
fn in_every_order(test: impl Fn() + Send + Sync + 'static) {
    check_dfs(test, None);
}

/// Runs a closure in two threads and the model's own, and returns what each gave.
fn thrice<T: Send + 'static>(run: impl Fn() -> T + Clone + Send + 'static) -> Vec<T> {
    let others: Vec<_> = (0..2).map(|_| thread::spawn(run.clone())).collect();
    let mut all = vec![run()];
    all.extend(others.into_iter().map(|other| other.join().unwrap()));
    all
}

#[test]
fn an_open_breaker_lets_one_probe_through() {
    in_every_order(|| {
        let breaker = Arc::new(Breaker::default());
        breaker.fail(BREAKER, 0.0);
        assert!(breaker.fail(BREAKER, 0.0));
        let shared = Arc::clone(&breaker);
        let through = thrice(move || shared.acquire(BREAKER, 10.0));
        assert_eq!(through.into_iter().filter(|&through| through).count(), 1);
    });
}

#[test]
fn no_failure_in_a_row_is_lost() {
    in_every_order(|| {
        let options = BreakerOptions { failures: 3, ..BREAKER };
        let breaker = Arc::new(Breaker::default());
        let shared = Arc::clone(&breaker);
        let opened = thrice(move || shared.fail(options, 0.0));
        assert_eq!(opened.into_iter().filter(|&opened| opened).count(), 1);
        assert!(!breaker.acquire(options, 9.0));
    });
}

#[test]
fn a_budget_is_never_overspent() {
    in_every_order(|| {
        let budget = Arc::new(Budget::new("x", BudgetOptions { share: 1.0, per_second: 0.0, burst: 1.0 }).unwrap());
        assert!(budget.take(0.0));
        let shared = Arc::clone(&budget);
        let earner = thread::spawn(move || shared.earn(0.0));
        let shared = Arc::clone(&budget);
        let taker = thread::spawn(move || shared.take(0.0));
        let taken = u32::from(budget.take(0.0)) + u32::from(taker.join().unwrap());
        earner.join().unwrap();
        assert!(taken + u32::from(budget.take(0.0)) == 1, "one was earned, so one is spent: {taken}");
    });
}

#[test]
fn a_good_value_survives_a_race_with_a_worse_one() {
    in_every_order(|| {
        let cell = Arc::new(Good::default());
        let shared = Arc::clone(&cell);
        let other = thread::spawn(move || shared.observe(5.0, 0.05));
        cell.observe(0.1, 0.05);
        other.join().unwrap();
        // Whichever came first: the lower one counts at once, or has begun to rise by one observation.
        assert!(cell.read().is_some_and(|seen| seen < 0.4), "{:?}", cell.read());
    });
}

#[test]
fn no_observation_at_a_load_is_lost() {
    let test = || {
        let cell = Arc::new(ByLoad::default());
        let shared = Arc::clone(&cell);
        let other = thread::spawn(move || shared.observe(3.0, 4.0, 0.0));
        cell.observe(1.0, 4.0, 0.0);
        other.join().unwrap();
        assert!(cell.usual(4.0, 0.0).is_some_and(|mean| (mean - 2.0).abs() < 1e-6), "{:?}", cell.usual(4.0, 0.0));
    };
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(2_000), config).run(test);
}

#[test]
fn every_call_that_starts_is_counted_and_ends() {
    // A tier has too many words for every order: 20,000 by chance.
    let test = || {
        let tier = Arc::new(Tier::new(TierSpec::new("a", 0.5), BREAKER).unwrap());
        let shared = Arc::clone(&tier);
        let run = move |failed: bool| {
            if shared.start(0.0) {
                let failed =
                    if failed { Outcome::Failed { waited: None } } else { Outcome::Cancelled { waited: None } };
                shared.finish(failed, 1.0, 0.0);
            }
        };
        let other = thread::spawn({
            let run = run.clone();
            move || run(true)
        });
        run(true);
        run(false);
        other.join().unwrap();
        assert_eq!(tier.in_flight(), 0);
        let (calls, failures) = tier.counts();
        assert!(failures == 2 && (2..=3).contains(&calls), "{calls} {failures}");
        assert!(tier.down_for(0.0) > 0.0);
    };
    let mut config = Config::new();
    config.stack_size = 1 << 22; // the default does not hold a tier
    Runner::new(RandomScheduler::new(20_000), config).run(test);
}
