//! A whole lookup in one call: the exact map, then the text's vector, the search and the judgement.

use super::{Cache, Hit, Kind, Near, NearQuery};
use crate::Result;
use crate::encode::{Embedded, Spent};
use crate::text::canonical::{Request, ScopeId};
use std::sync::Arc;

/// How far a lookup goes for a text's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Takes it if it is remembered: microseconds.
    Recall,
    /// Has it made, or waits for whoever is making it: milliseconds.
    Embed,
}

/// What a lookup by meaning came to.
#[derive(Debug, Clone, Default)]
pub struct Sought {
    /// What was found and refused.
    pub near: Near,
    /// What was made of the text; `None` for a request that is not compared by meaning.
    pub embedded: Option<Arc<Embedded>>,
    /// What the vector took.
    pub spent: Spent,
}

/// How a lookup ended.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It is answered.
    Hit(Hit),
    /// Nothing held here may answer it.
    Miss,
    /// Its text has a meaning, which can only be had from an embedder that the cache does not hold.
    Unembedded,
}

impl Cache {
    /// The answer to an equal request. Takes no lock and waits for nobody.
    pub fn find(&self, request: &Request<'_>) -> Option<Hit> {
        let entry =
            self.options.shares(request.temperature).then(|| self.lookup_exact(request.fingerprint)).flatten()?;
        Some(Hit { entry, kind: Kind::Exact, similarity: 1.0, confidence: Some(1.0), query: None })
    }

    /// The part of a lookup after [`Cache::find`] had nothing; it counts.
    pub fn lookup(
        &self,
        request: &Request<'_>,
        caller: ScopeId,
        threshold: Option<f32>,
        effort: Effort,
    ) -> Result<Answer> {
        let Some(sought) = self.seek(request, caller, threshold, effort)? else { return Ok(Answer::Unembedded) };
        Ok(sought.near.hit.map_or_else(
            || {
                self.count_miss();
                Answer::Miss
            },
            Answer::Hit,
        ))
    }

    /// The nearest entry that may answer a request, by the vector of its text; `None` if only an embedder that the cache
    /// does not hold could tell it.
    ///
    /// A text beyond the embedder's window is not compared: what was cut off may be where it differs.
    pub fn seek(
        &self,
        request: &Request<'_>,
        caller: ScopeId,
        threshold: Option<f32>,
        effort: Effort,
    ) -> Result<Option<Sought>> {
        self.effective_threshold(threshold)?;
        let compared = self.embeds() && self.options.compares(request.temperature);
        let Some(text) = request.text.as_deref().filter(|_| compared) else { return Ok(Some(Sought::default())) };
        let Some((embedded, spent)) = self.vector_of(text, effort)? else { return Ok(None) };
        let mut near = Near::default();
        if !embedded.truncated {
            let (request, scope, vector) = (request.fingerprint, request.scope, &*embedded.vector);
            near = self.lookup_near(&NearQuery { request, caller, scope, text, vector, threshold })?;
        }
        Ok(Some(Sought { near, embedded: Some(embedded), spent }))
    }

    /// The vector of a text and the time it took; `None` if it is not remembered and nothing here can make it.
    pub fn vector_of(&self, text: &str, effort: Effort) -> Result<Option<(Arc<Embedded>, Spent)>> {
        match &self.options.encoder {
            Some(encoder) if effort == Effort::Embed => self.memo.embed(text, &**encoder).map(Some),
            _ => Ok(self.memo.recall(text).map(|found| (found, Spent::default()))),
        }
    }

    /// Remembers what an embedder that the cache does not hold made of a text.
    pub fn keep_vector(&self, text: &str, made: Embedded) -> Result<()> {
        if let Some(space) = self.options.space {
            space.check(&made.vector)?;
            self.memo.keep(text, made);
        }
        Ok(())
    }

    /// Whether texts have vectors at all: there is an embedder, here or elsewhere.
    fn embeds(&self) -> bool {
        self.options.space.is_some()
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;
    use crate::Error;
    use crate::cache::{Bound, NewEntry, Options, Payload, Policy, Sampling, Space};
    use crate::encode::Encoder;
    use crate::encode::tests::encoder;
    use crate::text::canonical::Fingerprint;

    const WORDS: [&str; 8] = ["a", "b", "ab", "ba", "aab", "!", "abab", "bb"];
    const EVERYBODY: ScopeId = ScopeId([0; 16]);

    /// Sentences of the small model's words, the same each time.
    fn texts(count: usize) -> Vec<String> {
        let mut state = 7_usize;
        let mut word = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            WORDS[(state >> 40) % WORDS.len()]
        };
        (0..count).map(|number| (0..2 + number % 5).map(|_| word()).collect::<Vec<_>>().join(" ")).collect()
    }

    fn request(text: &str) -> Request<'_> {
        Request::from_prompt(text, EVERYBODY).unwrap()
    }

    fn options(policy: Policy, encoder: &Encoder) -> Options {
        let bound = Bound { exploration: 0.0, ..Bound::default() };
        Options { space: Some(Space::of("small", encoder.config().hidden)), policy, bound, ..Options::default() }
    }

    fn fill(cache: &Cache, encoder: &Encoder, texts: &[String]) {
        for text in texts {
            let mut vector = vec![0.0; encoder.config().hidden];
            encoder.encode(text, &mut vector).unwrap();
            let request = request(text);
            let new = NewEntry { vector: Some(&vector), ..NewEntry::new(&request, Payload::text(text)) };
            cache.store(&new).unwrap();
        }
    }

    /// What can be told apart of a hit.
    fn told(hit: Option<Hit>) -> Option<(Fingerprint, Kind, u32, Option<u32>)> {
        let hit = hit?;
        Some((hit.entry.id(), hit.kind, hit.similarity.to_bits(), hit.confidence.map(f32::to_bits)))
    }

    #[test]
    fn one_call_answers_as_the_stages_do() {
        for policy in [Policy::Static, Policy::Guarded, Policy::Verified] {
            let encoder = Arc::new(encoder(2, 3));
            let whole = Cache::new(Options { encoder: Some(encoder.clone()), ..options(policy, &encoder) }).unwrap();
            let staged = Cache::new(options(policy, &encoder)).unwrap();
            let texts = texts(160);
            for cache in [&whole, &staged] {
                fill(cache, &encoder, &texts[..60]);
            }
            let mut hits = 0;
            for text in texts.iter().chain(&texts[40..]) {
                let request = request(text);
                let answer = whole
                    .find(&request)
                    .map_or_else(|| whole.lookup(&request, EVERYBODY, None, Effort::Embed).unwrap(), Answer::Hit);
                let expected = staged.find(&request).or_else(|| {
                    let mut vector = vec![0.0; encoder.config().hidden];
                    encoder.encode(text, &mut vector).unwrap();
                    let (fingerprint, scope) = (request.fingerprint, request.scope);
                    let near = NearQuery {
                        request: fingerprint,
                        caller: EVERYBODY,
                        scope,
                        text,
                        vector: &vector,
                        threshold: None,
                    };
                    let hit = staged.lookup_near(&near).unwrap().hit;
                    hit.is_none().then(|| staged.count_miss());
                    hit
                });
                hits += usize::from(expected.as_ref().is_some_and(|hit| hit.kind == Kind::Near));
                let found = match answer {
                    Answer::Hit(hit) => Some(hit),
                    Answer::Miss => None,
                    Answer::Unembedded => panic!("the cache has an embedder"),
                };
                assert_eq!(told(found), told(expected), "{policy}: {text:?}");
            }
            let (ours, theirs) = (whole.stats(), staged.stats());
            let counts =
                |stats: &crate::cache::Stats| (stats.exact_hits, stats.near_hits, stats.misses, stats.near_misses);
            assert_eq!(counts(&ours), counts(&theirs));
            assert_eq!(ours.explored, theirs.explored);
            assert!(if policy == Policy::Verified { ours.explored > 0 } else { hits > 0 }, "{policy}: {ours:?}");
            assert!(ours.memo_hits > 0 && ours.memo_bytes > 0);
        }
    }

    #[test]
    fn a_text_that_was_cut_is_not_compared() {
        let encoder = Arc::new(encoder(1, 3));
        let cache = Cache::new(Options {
            encoder: Some(encoder.clone()),
            threshold: -1.0,
            ..options(Policy::Static, &encoder)
        })
        .unwrap();
        fill(&cache, &encoder, &["ab".to_owned()]);
        let (short, long) = ("b".to_owned(), "ab ".repeat(40));
        let seek = |text| cache.seek(&request(text), EVERYBODY, None, Effort::Embed).unwrap().unwrap();
        assert!(seek(&short).near.hit.is_some());
        let sought = seek(&long);
        assert!(sought.embedded.unwrap().truncated && sought.near.hit.is_none());
    }

    #[test]
    fn what_is_not_remembered_takes_an_embedder() {
        let encoder = encoder(1, 3);
        let cache = Cache::new(Options { threshold: 0.5, ..options(Policy::Static, &encoder) }).unwrap();
        fill(&cache, &encoder, &["ab".to_owned()]);
        let lookup = || cache.lookup(&request("ab ab"), EVERYBODY, None, Effort::Embed).unwrap();
        assert!(matches!(lookup(), Answer::Unembedded));
        let mut vector = vec![0.0; encoder.config().hidden].into_boxed_slice();
        encoder.encode("ab", &mut vector).unwrap();
        cache.keep_vector("ab ab", Embedded { vector, truncated: false }).unwrap();
        assert!(matches!(lookup(), Answer::Hit(hit) if hit.similarity > 0.999));
        let short = Embedded { vector: [1.0].into(), truncated: false };
        assert!(matches!(cache.keep_vector("b", short), Err(Error::Dimension { expected: 64, got: 1 })));
        assert_eq!((cache.stats().misses, cache.stats().near_hits), (0, 1));
    }

    #[test]
    fn nothing_is_embedded_where_meaning_does_not_count() {
        let encoder = Arc::new(encoder(1, 3));
        let options = || Options { sampling: Sampling::Exact, ..options(Policy::Static, &encoder) };
        let asks_for_chance = Request { temperature: Some(0.7), ..request("ab") };
        let exact_only = Request { text: None, ..request("ab") };
        let cache = Cache::new(Options { encoder: Some(encoder.clone()), ..options() }).unwrap();
        for request in [&asks_for_chance, &exact_only] {
            assert!(matches!(cache.lookup(request, EVERYBODY, None, Effort::Embed).unwrap(), Answer::Miss));
        }
        let blind = Cache::new(Options { space: None, ..options() }).unwrap();
        assert!(matches!(blind.lookup(&request("ab"), EVERYBODY, None, Effort::Embed).unwrap(), Answer::Miss));
        assert_eq!([&cache, &blind].map(|cache| cache.stats().memo_bytes), [0, 0]);
        assert!(cache.lookup(&request("ab"), EVERYBODY, Some(2.0), Effort::Embed).is_err());
    }

    #[test]
    fn an_encoder_needs_the_space_of_its_vectors() {
        let encoder = Arc::new(encoder(1, 3));
        for space in [None, Some(Space::of("small", 3))] {
            let refused = Cache::new(Options { space, encoder: Some(encoder.clone()), ..Options::default() });
            assert!(refused.unwrap_err().to_string().contains("64 values"));
        }
    }
}
