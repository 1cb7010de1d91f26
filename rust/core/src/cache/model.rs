//! The protocol of maps, entries, eviction, expiry and clearing, under a scheduler that switches threads at each use of
//! a lock, a map or the generation. `cargo test -p nearhit-core --features model --lib model::`; `NEARHIT_SCHEDULES` sets
//! how many orders each test tries.

use super::memo::Memo;
use super::{Cache, Clock, Fingerprint, Kind, NearQuery, NewEntry, Options, Payload, Policy, Space};
use crate::encode::{Embed, Embedded, Spent};
use crate::text::canonical::{Request, ScopeId};
use crate::{Error, Result};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tries `test` in many orders, by chance and by priorities (PCT: Burckhardt et al., ASPLOS 2010).
fn in_many_orders(test: impl Fn() + Send + Sync + 'static) {
    let wanted = std::env::var("NEARHIT_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let test = Arc::new(test);
    let again = Arc::clone(&test);
    shuttle::check_random(move || test(), wanted);
    shuttle::check_pct(move || again(), wanted, 3);
}

fn options() -> Options {
    Options {
        policy: Policy::Static,
        threshold: 0.99,
        max_bytes: None,
        clock: Clock::manual(1_000),
        ..Options::default()
    }
}

fn cache(options: Options) -> Arc<Cache> {
    Arc::new(Cache::new(options).unwrap())
}

fn fingerprint(key: u32) -> Fingerprint {
    Request::from_prompt(&format!("prompt {key}"), ScopeId::default()).unwrap().fingerprint
}

fn direction(key: u32) -> [f32; 4] {
    let mut vector = [0.0; 4];
    vector[key as usize % 4] = 1.0;
    vector
}

/// Stores `answer` under `key`, with the vector of `towards`.
fn store(cache: &Cache, key: u32, answer: u32, towards: Option<u32>, ttl: Option<u64>) {
    let text = format!("prompt {key}");
    let request = Request::from_prompt(&text, ScopeId::default()).unwrap();
    let vector = towards.map(direction);
    let new = NewEntry {
        vector: vector.as_ref().map(<[f32; 4]>::as_slice),
        ttl: ttl.map(Duration::from_millis),
        ..NewEntry::new(&request, Payload::text(&answer.to_string()))
    };
    cache.store(&new).unwrap();
}

fn exact(cache: &Cache, key: u32) -> Option<u32> {
    let entry = cache.lookup_exact(fingerprint(key))?;
    Some(std::str::from_utf8(&entry.payload().data()).unwrap().parse().unwrap())
}

fn near(cache: &Cache, towards: u32) -> Option<u32> {
    let vector = direction(towards);
    let query = NearQuery {
        request: Fingerprint([0; 16]),
        caller: ScopeId::default(),
        scope: ScopeId::default(),
        text: "anything",
        vector: &vector,
        threshold: None,
    };
    let hit = cache.lookup_near(&query).unwrap().hit?;
    assert_eq!(hit.kind, Kind::Near);
    Some(std::str::from_utf8(&hit.entry.payload().data()).unwrap().parse().unwrap())
}

#[test]
fn a_replaced_answer_never_comes_back_and_leaves_no_gap() {
    in_many_orders(|| {
        let cache = cache(options());
        store(&cache, 0, 0, Some(0), None);
        let writer = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || (1..4).for_each(|answer| store(&cache, 0, answer, Some(0), None)))
        };
        let reader = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || {
                let mut last = 0;
                for _ in 0..4 {
                    let found = exact(&cache, 0).expect("a replaced entry leaves no gap");
                    assert!(found >= last, "{found} after {last}");
                    last = found;
                    if let Some(found) = near(&cache, 0) {
                        assert!(found >= last, "near {found} after {last}");
                        last = found;
                    }
                }
            })
        };
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!((exact(&cache, 0), near(&cache, 0)), (Some(3), Some(3)));
        cache.validate().unwrap();
    });
}

#[test]
fn a_vector_leads_only_to_the_answer_it_was_stored_with() {
    in_many_orders(|| {
        let cache = cache(options());
        let writers = [0, 1].map(|turn| {
            let cache = Arc::clone(&cache);
            // Both write the same prompt, each with its own direction, and the answer tells the direction.
            thread::spawn(move || (0..2).for_each(|_| store(&cache, 0, turn, Some(turn), None)))
        });
        let reader = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || {
                for towards in [0, 1, 0, 1] {
                    assert!(near(&cache, towards).is_none_or(|answer| answer == towards));
                }
            })
        };
        for writer in writers {
            writer.join().unwrap();
        }
        reader.join().unwrap();
        let last = exact(&cache, 0).unwrap();
        assert_eq!((near(&cache, last), near(&cache, 1 - last)), (Some(last), None));
        cache.validate().unwrap();
    });
}

#[test]
fn what_was_there_before_a_clear_is_gone_when_it_returns() {
    in_many_orders(|| {
        let cache = cache(options());
        (0..3).for_each(|key| store(&cache, key, 0, Some(key), None));
        let writer = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || (0..3).for_each(|key| store(&cache, key, 1, Some(key), None)))
        };
        let clearer = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || {
                cache.clear().unwrap();
                for key in 0..3 {
                    assert_ne!(exact(&cache, key), Some(0));
                    assert_ne!(near(&cache, key), Some(0));
                }
            })
        };
        let reader = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || {
                let found = [0, 1, 2].map(|key| exact(&cache, key));
                let cleared = found.iter().position(Option::is_none).unwrap_or(3);
                assert!(found[cleared..].iter().all(|found| *found != Some(0)), "{found:?}");
            })
        };
        writer.join().unwrap();
        clearer.join().unwrap();
        reader.join().unwrap();
        cache.validate().unwrap();
    });
}

#[test]
fn an_answer_that_has_ended_is_not_served_and_takes_no_successor_with_it() {
    in_many_orders(|| {
        let cache = cache(options());
        store(&cache, 0, 0, Some(0), Some(10));
        let threads = [0, 1, 2].map(|role| {
            let cache = Arc::clone(&cache);
            thread::spawn(move || match role {
                0 => {
                    cache.options().clock.advance(Duration::from_millis(10));
                    assert_ne!(exact(&cache, 0), Some(0)); // and whoever finds it over takes it out
                }
                1 => store(&cache, 0, 1, Some(0), None),
                _ => drop((exact(&cache, 0), near(&cache, 0), cache.sweep())),
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((exact(&cache, 0), near(&cache, 0)), (Some(1), Some(1)));
        cache.validate().unwrap();
    });
}

#[test]
fn bounds_hold_and_books_balance_whoever_stores_evicts_or_removes() {
    in_many_orders(|| {
        let cache = cache(Options { max_entries: Some(2), ..options() });
        let threads = [0, 1, 2].map(|role| {
            let cache = Arc::clone(&cache);
            thread::spawn(move || {
                for turn in 0..3 {
                    let key = (role + turn) % 4;
                    match role {
                        2 => {
                            assert!(exact(&cache, key).is_none_or(|answer| answer == key));
                            assert!(near(&cache, key).is_none_or(|answer| answer == key));
                            cache.invalidate(fingerprint(key), None).unwrap();
                        }
                        _ => store(&cache, key, key, Some(key), None),
                    }
                    assert!(cache.len() <= 2);
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        cache.validate().unwrap();
    });
}

/// Gives a text the vector of its length, and lets others run meanwhile; the first `failures` calls fail.
#[derive(Debug, Default)]
struct Maker {
    calls: AtomicU64,
    failures: u64,
}

impl Embed for Maker {
    fn dim(&self) -> usize {
        1
    }

    fn embed(&self, text: &str) -> Result<(Embedded, Spent)> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        thread::yield_now();
        if call < self.failures {
            return Err(Error::Embedding { reason: "as the test wants it".into() });
        }
        Ok((Embedded { vector: [text.len() as f32].into(), truncated: false }, Spent::default()))
    }
}

/// Has three threads ask for a text each; returns how many got an error, after checking what the others got.
fn ask(memo: &Arc<Memo>, maker: &Arc<Maker>, texts: [&'static str; 3]) -> usize {
    let threads = texts.map(|text| {
        let (memo, maker) = (Arc::clone(memo), Arc::clone(maker));
        thread::spawn(move || memo.embed(text, &*maker).map(|(embedded, _)| (text, embedded)))
    });
    let outcomes = threads.map(|thread| thread.join().unwrap());
    let made = outcomes.iter().flatten();
    assert!(made.clone().all(|(text, embedded)| *embedded.vector == [text.len() as f32]));
    texts.len() - made.count()
}

#[test]
fn a_text_is_embedded_once_whoever_comes_when() {
    in_many_orders(|| {
        let memo = Arc::new(Memo::new(Some(Space::of("maker", 1)), 4, None));
        let maker = Arc::new(Maker::default());
        assert_eq!(ask(&memo, &maker, ["a", "a", "a"]), 0);
        assert_eq!((maker.calls.load(Ordering::Relaxed), memo.hits()), (1, 2));
    });
}

#[test]
fn a_failure_leaves_nobody_waiting_and_reaches_nobody_else() {
    for failures in 1..=3 {
        in_many_orders(move || {
            let memo = Arc::new(Memo::new(Some(Space::of("maker", 1)), 4, None));
            let maker = Arc::new(Maker { failures, ..Maker::default() });
            assert_eq!(ask(&memo, &maker, ["a", "a", "a"]) as u64, failures);
            assert_eq!(maker.calls.load(Ordering::Relaxed), 3.min(failures + 1));
        });
    }
}

#[test]
fn a_memo_of_one_text_gives_each_its_own_vector() {
    in_many_orders(|| {
        let memo = Arc::new(Memo::new(Some(Space::of("maker", 1)), 1, None));
        let maker = Arc::new(Maker::default());
        assert_eq!(ask(&memo, &maker, ["a", "bb", "a"]), 0);
        assert_eq!(memo.nbytes(), memo.reserved());
    });
}
