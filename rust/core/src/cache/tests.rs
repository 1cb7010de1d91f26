//! The cache against a naive model: random operations, then every structure is checked against the others.

use super::{Cache, Caller, Clock, Hit, Kind, Meta, NearQuery, NewEntry, Options, Payload, Policy};
use crate::text::canonical::{Fingerprint, Request, ScopeId};
use crate::text::json::Value;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DIM: usize = 8;

#[derive(Debug, Clone)]
enum Op {
    Store { key: u8, scope: u8, vector: bool, ttl: Option<u16>, tag: Option<u8>, size: u16 },
    Exact { key: u8, scope: u8 },
    Near { key: u8, scope: u8 },
    Remove { key: u8, scope: u8 },
    RemoveTag { tag: u8 },
    RemoveScope { scope: u8 },
    RemoveOld { age: u16 },
    Wrong { key: u8, scope: u8, near: bool },
    Advance { by: u16 },
    Clear,
}

fn operation() -> impl Strategy<Value = Op> {
    let key = || 0..24_u8;
    let scope = || 0..3_u8;
    prop_oneof![
        8 => (key(), scope(), any::<bool>(), proptest::option::of(1..200_u16), proptest::option::of(0..4_u8), 0..600_u16)
            .prop_map(|(key, scope, vector, ttl, tag, size)| Op::Store { key, scope, vector, ttl, tag, size }),
        4 => (key(), scope()).prop_map(|(key, scope)| Op::Exact { key, scope }),
        4 => (key(), scope()).prop_map(|(key, scope)| Op::Near { key, scope }),
        2 => (key(), scope()).prop_map(|(key, scope)| Op::Remove { key, scope }),
        1 => (0..4_u8).prop_map(|tag| Op::RemoveTag { tag }),
        1 => scope().prop_map(|scope| Op::RemoveScope { scope }),
        1 => (0..300_u16).prop_map(|age| Op::RemoveOld { age }),
        1 => (key(), scope(), any::<bool>()).prop_map(|(key, scope, near)| Op::Wrong { key, scope, near }),
        2 => (0..100_u16).prop_map(|by| Op::Advance { by }),
        1 => Just(Op::Clear),
    ]
}

/// What the model remembers of an entry.
#[derive(Debug, Clone)]
struct Known {
    answer: Vec<u8>,
    created: u64,
    expires: Option<u64>,
    tag: Option<u8>,
    vector: bool,
}

/// `max_entries`, `max_bytes`, `scope_bytes`.
type Bounds = (Option<usize>, Option<usize>, Option<usize>);

/// A cache and the model beside it. Entries the cache evicts of its own accord are struck from the model too.
struct Pair {
    cache: Cache,
    model: HashMap<(u8, u8), Known>,
    now: u64,
    stores: u32,
}

fn scope_id(scope: u8) -> ScopeId {
    ScopeId::of(&Value::from(format!("tenant {scope}").as_str())).unwrap()
}

fn prompt(key: u8) -> String {
    format!("prompt number {key}")
}

/// Keys differ in direction by at least 15 degrees, so that only a key's own vector is within the threshold.
fn vector(key: u8) -> Vec<f32> {
    let angle = f32::from(key) * std::f32::consts::TAU / 24.0;
    let mut vector = vec![0.0; DIM];
    (vector[0], vector[1]) = (angle.cos(), angle.sin());
    vector
}

impl Pair {
    fn new(bounds: Bounds) -> Self {
        let (max_entries, max_bytes, scope_bytes) = bounds;
        let options = Options {
            max_entries,
            max_bytes,
            scope_bytes,
            clock: Clock::manual(1_000),
            policy: Policy::Static,
            threshold: 0.99,
            ..Options::default()
        };
        Self { cache: Cache::new(options).unwrap(), model: HashMap::new(), now: 1_000, stores: 0 }
    }

    fn fingerprint(key: u8, scope: u8) -> Fingerprint {
        Request::from_prompt(&prompt(key), scope_id(scope)).unwrap().fingerprint
    }

    fn known(&self, key: u8, scope: u8) -> Option<&Known> {
        self.model.get(&(key, scope)).filter(|known| known.expires.is_none_or(|end| end > self.now))
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Store { key, scope, vector, ttl, tag, size } => self.store(key, scope, vector, ttl, tag, size),
            Op::Exact { key, scope } => self.exact(key, scope),
            Op::Near { key, scope } => self.near(key, scope),
            Op::Remove { key, scope } => {
                let expected = self.known(key, scope).is_some();
                let removed = self.cache.invalidate(Self::fingerprint(key, scope), None).unwrap();
                assert!(removed <= expected);
                self.model.remove(&(key, scope));
            }
            Op::RemoveTag { tag } => {
                self.cache.invalidate_tag(&format!("tag {tag}")).unwrap();
                self.model.retain(|_, known| known.tag != Some(tag));
            }
            Op::RemoveScope { scope } => {
                self.cache.invalidate_caller(scope_id(scope)).unwrap();
                self.model.retain(|(_, held), _| *held != scope);
            }
            Op::RemoveOld { age } => {
                self.cache.invalidate_older_than(Duration::from_millis(age.into())).unwrap();
                let cutoff = self.now.saturating_sub(age.into());
                self.model.retain(|_, known| known.created >= cutoff);
            }
            Op::Wrong { key, scope, near } => {
                if let Some(entry) = self.cache.peek(Self::fingerprint(key, scope)) {
                    let kind = if near { Kind::Near } else { Kind::Exact };
                    let hit = Hit { entry, kind, similarity: 0.9, confidence: None, query: Some("query".into()) };
                    self.cache.feedback(&hit, false).unwrap();
                    if near {
                        self.model.get_mut(&(key, scope)).unwrap().vector = false;
                    } else {
                        self.model.remove(&(key, scope));
                    }
                }
            }
            Op::Advance { by } => {
                self.now += u64::from(by);
                self.cache.options().clock.advance(Duration::from_millis(by.into()));
            }
            Op::Clear => {
                self.cache.clear().unwrap();
                self.model.clear();
            }
        }
    }

    fn store(&mut self, key: u8, scope: u8, with_vector: bool, ttl: Option<u16>, tag: Option<u8>, size: u16) {
        self.stores += 1;
        let text = prompt(key);
        let request = Request::from_prompt(&text, scope_id(scope)).unwrap();
        let label = format!("\"tenant {scope}\"");
        let answer = [self.stores.to_le_bytes().as_slice(), &vec![b'x'; size.into()]].concat();
        let direction = vector(key);
        let new = NewEntry {
            caller: Caller { id: scope_id(scope), label: Some(&label) },
            vector: with_vector.then_some(direction.as_slice()),
            meta: Meta { tags: tag.iter().map(|tag| format!("tag {tag}").into()).collect(), ..Meta::default() },
            ttl: ttl.map(|ttl| Duration::from_millis(ttl.into())),
            ..NewEntry::new(&request, Payload::new(super::Form::Bytes, answer.clone()))
        };
        self.cache.store(&new).unwrap();
        let expires = ttl.map(|ttl| self.now + u64::from(ttl));
        self.model.insert((key, scope), Known { answer, created: self.now, expires, tag, vector: with_vector });
    }

    fn exact(&mut self, key: u8, scope: u8) {
        let found = self.cache.lookup_exact(Self::fingerprint(key, scope));
        match (self.known(key, scope), found) {
            (Some(known), Some(entry)) => assert_eq!(*entry.payload().data(), *known.answer),
            (None, Some(_)) => panic!("the cache serves what was never stored, has ended or was removed"),
            (_, None) => drop(self.model.remove(&(key, scope))),
        }
    }

    fn near(&mut self, key: u8, scope: u8) {
        let direction = vector(key);
        let query = NearQuery {
            request: Fingerprint([0; 16]),
            caller: ScopeId::default(),
            scope: scope_id(scope),
            text: "anything",
            vector: &direction,
            threshold: None,
        };
        let found = self.cache.lookup_near(&query).unwrap();
        match (self.known(key, scope).filter(|known| known.vector), found.hit) {
            (Some(known), Some(hit)) => assert_eq!(*hit.entry.payload().data(), *known.answer),
            (None, Some(_)) => panic!("a near hit on what is not held for near lookups"),
            (Some(_), None) => {
                assert!(self.cache.peek(Self::fingerprint(key, scope)).is_none(), "a held vector was not found");
                self.model.remove(&(key, scope));
            }
            (None, None) => {}
        }
    }

    /// Without bounds nothing may go missing; with them, whatever is held must be the model's.
    fn check(&self, bounded: bool) {
        self.cache.validate().unwrap();
        for (key, scope) in self.model.keys() {
            let held = self.cache.peek(Self::fingerprint(*key, *scope));
            match (self.known(*key, *scope), held) {
                (Some(known), Some(entry)) => assert_eq!(*entry.payload().data(), *known.answer),
                (Some(_), None) => assert!(bounded, "an entry was lost"),
                (None, Some(_)) => panic!("an entry outlived its time"),
                (None, None) => {}
            }
        }
        let bytes = self.cache.stats().bytes.total();
        assert!(self.cache.options().max_bytes.is_none_or(|most| bytes <= most));
        assert!(self.cache.options().max_entries.is_none_or(|most| self.cache.len() <= most));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_is_lost_without_bounds(operations in prop::collection::vec(operation(), 1..120)) {
        let mut pair = Pair::new((None, None, None));
        for op in &operations {
            pair.apply(op);
            pair.check(false);
        }
    }

    #[test]
    fn bounds_hold_and_what_is_held_is_right(operations in prop::collection::vec(operation(), 1..200)) {
        let mut pair = Pair::new((Some(20), Some(24_000), Some(9_000)));
        for op in &operations {
            pair.apply(op);
            pair.check(true);
        }
    }
}

#[test]
fn a_clear_is_seen_at_once_by_readers_that_hold_an_entry() {
    let cache = Cache::new(Options::default()).unwrap();
    let request = Request::from_prompt("hello", ScopeId::default()).unwrap();
    let entry = cache.store(&NewEntry::new(&request, Payload::text("hi"))).unwrap();
    assert!(cache.live(&entry));
    cache.clear().unwrap();
    assert!(!cache.live(&entry));
    assert!(cache.lookup_exact(request.fingerprint).is_none());
}

#[test]
fn readers_and_writers_agree_under_load() {
    let cache = Cache::new(Options {
        max_entries: Some(64),
        policy: Policy::Static,
        threshold: 0.99,
        max_bytes: None,
        ..Options::default()
    })
    .unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for reader in 0..2_u8 {
            let (cache, stop) = (&cache, &stop);
            threads.spawn(move || {
                let mut key = reader;
                while !stop.load(Ordering::Relaxed) {
                    key = key.wrapping_add(7);
                    let (name, scope) = (key % 24, key % 3);
                    if let Some(entry) = cache.lookup_exact(Pair::fingerprint(name, scope)) {
                        assert_eq!(*entry.payload().data(), *prompt(name).as_bytes());
                    }
                    let direction = vector(name);
                    let query = NearQuery {
                        request: Fingerprint([0; 16]),
                        caller: ScopeId::default(),
                        scope: scope_id(scope),
                        text: "anything",
                        vector: &direction,
                        threshold: None,
                    };
                    if let Some(hit) = cache.lookup_near(&query).unwrap().hit {
                        assert_eq!(*hit.entry.payload().data(), *prompt(name).as_bytes());
                        assert_eq!(hit.entry.scope(), scope_id(scope));
                    }
                }
            });
        }
        for round in 0..20_000_u32 {
            let (key, scope) = ((round % 24) as u8, (round % 5 % 3) as u8);
            let text = prompt(key);
            let request = Request::from_prompt(&text, scope_id(scope)).unwrap();
            let direction = vector(key);
            let new = NewEntry {
                vector: Some(&direction),
                caller: Caller { id: scope_id(scope), label: None },
                ..NewEntry::new(&request, Payload::text(&text))
            };
            cache.store(&new).unwrap();
            match round % 997 {
                0 => drop(cache.clear().unwrap()),
                1 => drop(cache.invalidate_caller(scope_id(scope)).unwrap()),
                2 => drop(cache.invalidate(request.fingerprint, None).unwrap()),
                _ => {}
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    cache.validate().unwrap();
}
