//! Which of several equal servers takes a call: the one that knows the conversation, unless another is better off.

use crate::route::breaker::BreakerOptions;
use crate::route::dice::{Dice, mix};
use crate::route::tier::{Tier, TierSpec};
use crate::{Error, Result};

/// Seconds to the first token assumed of a replica while none has been measured.
const TYPICAL_TTFT: f64 = 0.5;

/// Why a replica was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is the one that requests of this key go to.
    Sticky,
    /// The better of two drawn by chance.
    BetterOfTwo,
    /// The only one that is up.
    Only,
}

/// Replicas of one tier and their state.
///
/// The choice is the better of two drawn by chance (Mitzenmacher 2001: nearly the balance of looking at all, without
/// sending everybody to the one that looks best). A key, of a session or of a conversation's beginning, has its own
/// replica by rendezvous hashing (Thaler and Ravishankar 1998), so that its prompt is still cached there: when a
/// replica goes, only its own keys move. The key's replica is passed over while it is down, while it is full and
/// another is not, and while its predicted wait is longer than the best other's by more than the gate.
#[derive(Debug)]
pub struct Replicas {
    members: Vec<Tier>,
    gate: f64,
    dice: Dice,
}

impl Replicas {
    /// Replicas, each with the calls it answers at once where that is known.
    ///
    /// # Errors
    /// [`Error::InvalidOption`]: no replica, or an option without a meaning.
    pub fn new(slots: &[Option<u32>], gate: f64, breaker: BreakerOptions) -> Result<Self> {
        let refuse =
            |name, value: String, expected: &str| Error::InvalidOption { name, value, expected: expected.to_owned() };
        if slots.is_empty() {
            return Err(refuse("replicas", "[]".to_owned(), "at least one tier"));
        }
        if !(gate >= 0.0 && gate.is_finite()) {
            return Err(refuse("load_gate", gate.to_string(), "seconds, 0 or more"));
        }
        breaker.check()?;
        let spec =
            |(at, slots): (usize, &Option<u32>)| TierSpec { slots: *slots, ..TierSpec::new(&at.to_string(), 0.5) };
        let members = slots.iter().enumerate().map(|each| Tier::new(spec(each), breaker)).collect::<Result<_>>()?;
        Ok(Self { members, gate, dice: Dice::default() })
    }

    /// The replicas.
    pub fn members(&self) -> &[Tier] {
        &self.members
    }

    /// Chooses a replica for a prompt of `tokens` and starts a call of it, which needs one [`Tier::finish`]; `None` if
    /// all are down or to be avoided.
    pub fn start(&self, tokens: f64, key: Option<u64>, avoid: &[usize], now: f64) -> Option<(usize, Choice)> {
        let mut open: Vec<usize> = (0..self.members.len())
            .filter(|at| !avoid.contains(at) && self.members[*at].down_for(now) <= 0.0)
            .collect();
        while !open.is_empty() {
            let (at, why) = self.choose(&open, tokens, key, now);
            if self.members[at].start(now) {
                return Some((at, why));
            }
            open.retain(|other| *other != at); // another request took the breaker's one probe in between
        }
        None
    }

    fn choose(&self, open: &[usize], tokens: f64, key: Option<u64>, now: f64) -> (usize, Choice) {
        if let [only] = open {
            return (*only, Choice::Only);
        }
        if let Some(sticky) = key.and_then(|key| open.iter().copied().max_by_key(|at| mix(key ^ mix(*at as u64 + 1))))
            && !self.overloaded(sticky, open, tokens, now)
        {
            return (sticky, Choice::Sticky);
        }
        let first = self.dice.below(open.len());
        let second = (first + 1 + self.dice.below(open.len() - 1)) % open.len();
        let (first, second) = (open[first], open[second]);
        let better = if self.load(second, tokens, now) < self.load(first, tokens, now) { second } else { first };
        (better, Choice::BetterOfTwo)
    }

    fn overloaded(&self, sticky: usize, open: &[usize], tokens: f64, now: f64) -> bool {
        let others = || open.iter().copied().filter(|at| *at != sticky);
        if self.full(sticky) && others().any(|at| !self.full(at)) {
            return true;
        }
        let best = others().map(|at| self.wait(at, tokens, now)).fold(f64::INFINITY, f64::min);
        self.wait(sticky, tokens, now) > best + self.gate
    }

    fn full(&self, at: usize) -> bool {
        let member = &self.members[at];
        member.spec.slots.is_some_and(|slots| member.in_flight() >= slots)
    }

    /// Predicted seconds to the first token; of the others where this one was not measured yet.
    fn wait(&self, at: usize, tokens: f64, now: f64) -> f64 {
        let of = |member: &Tier| member.predicted_ttft(tokens, now);
        of(&self.members[at]).or_else(|| self.members.iter().find_map(of)).unwrap_or(TYPICAL_TTFT)
    }

    /// What the two drawn are compared by: the wait, for each call that is under way and this one.
    fn load(&self, at: usize, tokens: f64, now: f64) -> f64 {
        self.wait(at, tokens, now).max(1e-3) * (f64::from(self.members[at].in_flight()) + 1.0)
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::{Choice, Replicas};
    use crate::route::breaker::BreakerOptions;
    use crate::route::tier::Outcome;

    const BREAKER: BreakerOptions = BreakerOptions { failures: 1, cooldown: 10.0 };

    fn replicas(slots: &[Option<u32>]) -> Replicas {
        Replicas::new(slots, 1.0, BREAKER).unwrap()
    }

    fn answer(replicas: &Replicas, at: usize, ttft: f64) {
        replicas.members[at].finish(Outcome::Answered { ttft: Some(ttft), decode: 0.0, output: 1 }, 10.0, 0.0);
    }

    #[test]
    fn calls_under_way_are_spread() {
        let three = replicas(&[None; 3]);
        for _ in 0..300 {
            assert!(three.start(10.0, None, &[], 0.0).is_some());
        }
        let most = three.members.iter().map(super::Tier::in_flight).max().unwrap();
        assert!(most <= 110, "{most}");
    }

    #[test]
    fn the_quicker_replica_gets_more() {
        let two = replicas(&[None; 2]);
        for (at, ttft) in [(0, 0.1), (1, 1.0)] {
            assert!(two.members[at].start(0.0));
            answer(&two, at, ttft);
        }
        for _ in 0..110 {
            assert!(two.start(10.0, None, &[], 0.0).is_some());
        }
        assert!(two.members[0].in_flight() > 90, "{}", two.members[0].in_flight());
    }

    #[test]
    fn a_key_stays_where_it_is_until_its_replica_goes_or_fills_up() {
        let four = replicas(&[Some(2); 4]);
        let home = |key: u64| {
            let (at, why) = four.start(10.0, Some(key), &[], 0.0).unwrap();
            answer(&four, at, 0.1);
            (at, why)
        };
        let homes: Vec<_> = (0..64).map(home).collect();
        assert_eq!(homes, (0..64).map(home).collect::<Vec<_>>());
        assert!(homes.iter().all(|(_, why)| *why == Choice::Sticky));
        assert!((0..4).all(|at| homes.iter().any(|(home, _)| *home == at)), "{homes:?}");
        let gone = homes[0].0;
        for (key, (at, _)) in homes.iter().enumerate() {
            let (now, _) = four.start(10.0, Some(key as u64), &[gone], 0.0).unwrap();
            assert!(now != gone && (now == *at || *at == gone), "only the keys of the one that went move");
            answer(&four, now, 0.1);
        }
        for _ in 0..2 {
            assert_eq!(four.start(10.0, Some(0), &[], 0.0).unwrap().0, gone);
        }
        assert_ne!(four.start(10.0, Some(0), &[], 0.0).unwrap().0, gone, "its two slots are taken");
    }

    #[test]
    fn a_slow_home_is_left_beyond_the_gate() {
        let two = replicas(&[None; 2]);
        let (home, _) = two.start(10.0, Some(7), &[], 0.0).unwrap();
        answer(&two, home, 0.9);
        assert!(two.members[1 - home].start(0.0));
        answer(&two, 1 - home, 0.1);
        assert_eq!(two.start(10.0, Some(7), &[], 0.0), Some((home, Choice::Sticky)));
        answer(&two, home, 5.0);
        assert_eq!(two.start(10.0, Some(7), &[], 0.0), Some((1 - home, Choice::BetterOfTwo)));
    }

    #[test]
    fn those_that_are_down_are_passed_over_and_probed_once() {
        let two = replicas(&[None; 2]);
        assert!(two.members[0].start(0.0));
        two.members[0].finish(Outcome::Failed { waited: None }, 10.0, 0.0);
        assert_eq!(two.start(10.0, None, &[], 1.0), Some((1, Choice::Only)));
        assert_eq!(two.start(10.0, None, &[1], 1.0), None);
        assert_eq!(two.start(10.0, None, &[1], 10.0), Some((0, Choice::Only)));
        assert_eq!(two.start(10.0, None, &[1], 10.0), None, "one probe");
    }

    #[test]
    fn options_without_meaning_are_refused() {
        assert!(Replicas::new(&[], 1.0, BREAKER).is_err());
        assert!(Replicas::new(&[Some(0)], 1.0, BREAKER).is_err());
        assert!(Replicas::new(&[None], f64::NAN, BREAKER).is_err());
        assert!(Replicas::new(&[None], 1.0, BreakerOptions { failures: 0, cooldown: 1.0 }).is_err());
    }
}
