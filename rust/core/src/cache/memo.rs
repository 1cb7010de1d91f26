//! Nothing is embedded twice: vectors of the texts that were embedded last, and of those that are being embedded.
//!
//! Of concurrent callers with one text the first embeds it and the others wait for its vector. If it fails, its error is
//! its own, and one of the others goes next. Nobody waits longer than [`PATIENCE`]: who has waited that long embeds for
//! himself.

use super::Space;
use super::flight::{Flight, Outcome};
use super::recent::{Key, Recent};
use super::sync::{AtomicU64, Mutex, MutexGuard};
use crate::Result;
use crate::encode::{Embed, Embedded, Spent};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for another caller's vector: a full window takes a base-sized model a fifth of a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// Part of the cache's bytes that vectors remembered may take.
const SHARE: usize = 16;

#[derive(Debug, Default)]
struct State {
    recent: Recent,
    flights: HashMap<Key, Arc<Flight>>,
}

/// The vectors of one embedder's texts.
#[derive(Debug)]
pub(super) struct Memo {
    /// Feeds the keys, so that no vector is ever taken for another embedder's.
    space: [u8; 12],
    each: usize,
    most: usize,
    patience: Duration,
    state: Mutex<State>,
    hits: AtomicU64,
}

impl Memo {
    /// A memo of at most `entries` vectors, and of a sixteenth of `max_bytes`. Without an embedder it stays empty.
    pub(super) fn new(space: Option<Space>, entries: usize, max_bytes: Option<usize>) -> Self {
        let each = Recent::bytes_each(space.map_or(0, |space| space.dim()));
        let most = if space.is_none() { 0 } else { entries };
        Self {
            space: space.map(Space::to_bytes).unwrap_or_default(),
            each,
            most: max_bytes.map_or(most, |bytes| most.min(bytes / SHARE / each)),
            patience: PATIENCE,
            state: Mutex::default(),
            hits: AtomicU64::new(0),
        }
    }

    /// Most bytes that it will take.
    pub(super) fn reserved(&self) -> usize {
        self.most * self.each
    }

    /// Bytes held.
    pub(super) fn nbytes(&self) -> usize {
        self.state().recent.len() * self.each
    }

    /// Vectors that were remembered, or made by another caller at the same time.
    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// What is remembered of a text.
    pub(super) fn recall(&self, text: &str) -> Option<Arc<Embedded>> {
        if self.most == 0 {
            return None;
        }
        let key = self.key(text);
        let found = self.state().recent.get(&key)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// Remembers what was made of a text elsewhere.
    pub(super) fn keep(&self, text: &str, made: Embedded) {
        if self.most > 0 {
            let key = self.key(text);
            self.state().recent.keep(key, Arc::new(made), self.most);
        }
    }

    /// The vector of a text: remembered, awaited, or made by `embedder`; and the time that took, waiting as the forward
    /// pass.
    pub(super) fn embed(&self, text: &str, embedder: &dyn Embed) -> Result<(Arc<Embedded>, Spent)> {
        let make = || embedder.embed(text).map(|(made, spent)| (Arc::new(made), spent));
        if self.most == 0 {
            return make();
        }
        let (key, started) = (self.key(text), Instant::now());
        loop {
            let flight = match self.board(key) {
                Boarding::Kept(found) => {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    return Ok((found, Spent::default()));
                }
                Boarding::Lead(mut lead) => {
                    let (made, spent) = make()?;
                    lead.made = Some(Arc::clone(&made));
                    return Ok((made, spent));
                }
                Boarding::Wait(flight) => flight,
            };
            match flight.wait(self.patience.saturating_sub(started.elapsed())) {
                Outcome::Made(found) => {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    return Ok((found, Spent { forward: started.elapsed(), ..Spent::default() }));
                }
                Outcome::Failed => {}
                Outcome::Late => return make(),
            }
        }
    }

    fn board(&self, key: Key) -> Boarding<'_> {
        let mut state = self.state();
        if let Some(found) = state.recent.get(&key) {
            return Boarding::Kept(found);
        }
        if let Some(flight) = state.flights.get(&key) {
            return Boarding::Wait(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::default());
        state.flights.insert(key, Arc::clone(&flight));
        Boarding::Lead(Lead { memo: self, key, flight, made: None })
    }

    fn key(&self, text: &str) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.space);
        hasher.update(text.as_bytes());
        let mut key = Key::default();
        key.copy_from_slice(&hasher.finalize().as_bytes()[..size_of::<Key>()]);
        key
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is of a text's vector.
enum Boarding<'m> {
    Kept(Arc<Embedded>),
    Wait(Arc<Flight>),
    Lead(Lead<'m>),
}

/// The duty to make a vector that others may wait for. However it is left, by an error or a panic too, the flight ends.
struct Lead<'m> {
    memo: &'m Memo,
    key: Key,
    flight: Arc<Flight>,
    made: Option<Arc<Embedded>>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let made = self.made.take();
        let mut state = self.memo.state();
        state.flights.remove(&self.key);
        if let Some(made) = &made {
            state.recent.keep(self.key, Arc::clone(made), self.memo.most);
        }
        drop(state);
        self.flight.end(made);
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;
    use crate::Error;
    use std::sync::atomic::AtomicUsize;

    const DIM: usize = 4;

    /// Gives a text the vector of its length; the first `failures` calls fail, or panic.
    #[derive(Debug, Default)]
    struct Maker {
        calls: AtomicUsize,
        failures: usize,
        panics: bool,
    }

    impl Embed for Maker {
        fn dim(&self) -> usize {
            DIM
        }

        fn embed(&self, text: &str) -> Result<(Embedded, Spent)> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            if call < self.failures {
                assert!(!self.panics, "as the test wants it");
                return Err(Error::Embedding { reason: format!("failure {call}") });
            }
            Ok((made(text), Spent::default()))
        }
    }

    /// Waits, before it has `inner` embed, until so many callers in all are there.
    #[derive(Debug)]
    struct Crowded<'m> {
        inner: Maker,
        memo: &'m Memo,
        callers: usize,
    }

    impl Embed for Crowded<'_> {
        fn dim(&self) -> usize {
            DIM
        }

        fn embed(&self, text: &str) -> Result<(Embedded, Spent)> {
            // The flight is held by the table, by its leader and by each of the others.
            let waiting = || self.memo.state().flights.get(&self.memo.key(text)).map_or(0, Arc::strong_count);
            while self.inner.calls.load(Ordering::SeqCst) == 0 && waiting() < self.callers + 1 {
                std::thread::yield_now();
            }
            self.inner.embed(text)
        }
    }

    fn made(text: &str) -> Embedded {
        Embedded { vector: vec![text.len() as f32; DIM].into(), truncated: text.len() > 20 }
    }

    fn memo(entries: usize) -> Memo {
        Memo::new(Some(Space::of("maker", DIM)), entries, None)
    }

    /// What so many concurrent callers with one text get.
    fn crowd(memo: &Memo, inner: Maker, callers: usize) -> (Vec<std::thread::Result<Result<Embedded>>>, usize) {
        let crowded = Crowded { inner, memo, callers };
        let outcomes = std::thread::scope(|scope| {
            let ask = || memo.embed("text", &crowded).map(|(embedded, _)| (*embedded).clone());
            let callers: Vec<_> = (0..callers).map(|_| scope.spawn(ask)).collect();
            callers.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        assert!(memo.state().flights.is_empty());
        (outcomes, crowded.inner.calls.into_inner())
    }

    #[test]
    fn concurrent_callers_with_one_text_embed_it_once() {
        let memo = memo(8);
        let (outcomes, calls) = crowd(&memo, Maker::default(), 12);
        assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().unwrap() == made("text")));
        assert_eq!((calls, memo.hits()), (1, 11));
    }

    #[test]
    fn an_error_is_its_callers_own_and_another_caller_goes_next() {
        let memo = memo(8);
        let (outcomes, calls) = crowd(&memo, Maker { failures: 3, ..Maker::default() }, 8);
        let failed = outcomes.iter().filter(|outcome| outcome.as_ref().unwrap().is_err()).count();
        assert_eq!((failed, calls, memo.hits()), (3, 4, 4));
    }

    #[test]
    fn a_panic_leaves_nobody_waiting() {
        let memo = memo(8);
        let (outcomes, calls) = crowd(&memo, Maker { failures: 1, panics: true, ..Maker::default() }, 4);
        assert_eq!((outcomes.iter().filter(|outcome| outcome.is_err()).count(), calls), (1, 2));
    }

    #[test]
    fn who_has_waited_long_enough_embeds_for_himself() {
        let memo = Memo { patience: Duration::from_millis(5), ..memo(8) };
        let key = memo.key("text");
        let Boarding::Lead(stuck) = memo.board(key) else { panic!("nobody else is there") };
        let maker = Maker::default();
        let (embedded, _) = memo.embed("text", &maker).unwrap();
        assert_eq!((&*embedded, maker.calls.load(Ordering::SeqCst)), (&made("text"), 1));
        drop(stuck);
        assert!(memo.recall("text").is_none(), "the leader made nothing");
        memo.embed("text", &maker).unwrap();
        assert_eq!((memo.recall("text").as_deref(), memo.hits()), (Some(&made("text")), 1));
    }

    #[test]
    fn texts_and_embedders_are_told_apart() {
        let (memo, other) = (memo(8), Memo::new(Some(Space::of("other", DIM)), 8, None));
        memo.keep("a", made("a"));
        assert_eq!((memo.recall("a").as_deref(), memo.recall("b")), (Some(&made("a")), None));
        assert_ne!(memo.key("a"), other.key("a"));
    }

    #[test]
    fn bounds_hold() {
        let memo = Memo::new(Some(Space::of("maker", DIM)), 1_000_000, Some(64 << 10));
        for number in 0..1000 {
            memo.embed(&format!("text {number}"), &Maker::default()).unwrap();
        }
        assert!(memo.nbytes() > 0 && memo.nbytes() <= memo.reserved() && memo.reserved() <= 4 << 10);
    }

    #[test]
    fn a_memo_of_nothing_embeds_every_time() {
        for memo in [memo(0), Memo::new(Some(Space::of("maker", DIM)), 8, Some(1000)), Memo::new(None, 8, None)] {
            let maker = Maker::default();
            memo.keep("text", made("text"));
            (0..3).for_each(|_| drop(memo.embed("text", &maker).unwrap()));
            assert_eq!((maker.calls.into_inner(), memo.nbytes(), memo.hits(), memo.reserved()), (3, 0, 0, 0));
        }
    }
}
