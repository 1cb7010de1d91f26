//! The reading side: no lock, relaxed stores only.

use super::clock::NEVER;
use super::counters::{Event, sampled};
use super::entry::Entry;
use super::learning::{Learning, Trial};
use super::options::threshold;
use super::partition::PartitionKey;
use super::{Cache, NearKey, Policy};
use crate::Result;
use crate::index::Neighbour;
use crate::text::canonical::{Fingerprint, ScopeId};
use crate::verify;
use crate::verify::verified::{Choice, Offset};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Candidates judged before a near lookup gives up. The guards refuse few, so the first or second answers.
const CANDIDATES: usize = 16;

/// How an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The very same request.
    Exact,
    /// Another request that means the same.
    Near,
}

/// An answer found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The entry that answers.
    pub entry: Arc<Entry>,
    /// How it was found.
    pub kind: Kind,
    /// Cosine of the two prompts; 1 for an exact hit.
    pub similarity: f32,
    /// Probability that the answer fits, where the policy estimates one; 1 for an exact hit.
    pub confidence: Option<f32>,
    /// What was asked, where it is not what the entry answers.
    pub query: Option<Box<str>>,
}

/// A question to the near tier.
#[derive(Debug, Clone, Copy)]
pub struct NearQuery<'a> {
    /// The request, under which the verified policy remembers what it tried.
    pub request: Fingerprint,
    /// Whose request it is.
    pub caller: ScopeId,
    /// What must match exactly.
    pub scope: ScopeId,
    /// The text, for the guards.
    pub text: &'a str,
    /// The text's vector.
    pub vector: &'a [f32],
    /// Least similarity for this lookup; only counts where it is stricter than the cache's own.
    pub threshold: Option<f32>,
}

/// A candidate and what was thought of it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Cosine of the two prompts.
    pub similarity: f32,
    /// Probability that the entry's answer fits; the similarity where the policy estimates none.
    pub confidence: f32,
    /// Why it may not answer; empty if it may.
    pub reasons: Vec<String>,
}

/// A candidate that the verified policy did not serve, to be learned from once the model has answered.
#[derive(Debug, Clone)]
pub struct Exploration {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Cosine of the two prompts.
    pub similarity: f32,
    /// Probability that the entry's answer fits, by the verifier.
    pub confidence: f32,
}

/// What a near lookup found, and where its time went.
#[derive(Debug, Clone, Default)]
pub struct Near {
    /// The answer, if there is one.
    pub hit: Option<Hit>,
    /// The best candidate that was near enough and was refused, if there was one.
    pub near_miss: Option<Candidate>,
    /// Time of the vector search.
    pub search: Duration,
    /// Time of judging the candidates.
    pub judge: Duration,
}

impl Cache {
    /// The entry of exactly this request. Takes no lock and waits for nobody.
    pub fn lookup_exact(&self, fingerprint: Fingerprint) -> Option<Arc<Entry>> {
        let started = sampled().then(Instant::now);
        let entry = self.entries.look(&fingerprint, Arc::clone)?;
        if !self.live(&entry) {
            self.drop_expired(&entry);
            return None;
        }
        entry.touch(self.options.clock.now());
        self.counters.add(Event::ExactHit, 1);
        entry.tenant.count_hit(Kind::Exact);
        if let Some(started) = started {
            self.latency.exact.add(started.elapsed());
        }
        Some(entry)
    }

    /// The entry of this request without counting a hit.
    pub fn peek(&self, fingerprint: Fingerprint) -> Option<Arc<Entry>> {
        self.entries.look(&fingerprint, Arc::clone).filter(|entry| self.live(entry))
    }

    /// The nearest entry of the scope that may answer: candidates best first, each one judged.
    pub fn lookup_near(&self, query: &NearQuery<'_>) -> Result<Near> {
        let least = self.effective_threshold(query.threshold)?;
        let started = Instant::now();
        let (partition, neighbours) = self.neighbours(query, least, CANDIDATES)?;
        let searched = Instant::now();
        let mut near = Near { search: searched - started, ..Near::default() };
        let text = verify::Query::new(query.text, query.vector);
        let candidates = neighbours.into_iter().filter_map(|found| self.candidate(&text, partition, found, least));
        let served = match &self.learning {
            None => first_unrefused(candidates, &mut near.near_miss),
            Some(learning) => self.surest(learning, query, candidates, &mut near.near_miss),
        };
        if let Some(Candidate { entry, similarity, confidence, .. }) = served {
            entry.touch(self.options.clock.now());
            entry.tenant.count_hit(Kind::Near);
            let confidence = (self.options.policy != Policy::Static).then_some(confidence);
            near.hit = Some(Hit { entry, kind: Kind::Near, similarity, confidence, query: Some(query.text.into()) });
        }
        near.judge = searched.elapsed();
        self.latency.near.add(near.search + near.judge);
        if near.hit.is_some() {
            self.counters.add(Event::NearHit, 1);
        } else if near.near_miss.is_some() {
            self.counters.add(Event::NearMiss, 1);
        }
        Ok(near)
    }

    /// The `k` nearest entries of the scope at any similarity, each with the reasons against it.
    pub fn candidates(&self, query: &NearQuery<'_>, k: usize) -> Result<Vec<Candidate>> {
        let least = self.effective_threshold(query.threshold)?;
        let (partition, neighbours) = self.neighbours(query, -1.0, k)?;
        let text = verify::Query::new(query.text, query.vector);
        let mut found: Vec<Candidate> =
            neighbours.into_iter().filter_map(|found| self.candidate(&text, partition, found, least)).collect();
        for candidate in &mut found {
            let shown = *candidate.entry.shown();
            candidate.reasons.extend(self.foresee(query.caller, candidate.confidence, &shown));
        }
        Ok(found)
    }

    /// What the policy thinks of a candidate that is held elsewhere: its confidence, and the reasons against it.
    pub fn consider(&self, query: &NearQuery<'_>, text: &str, similarity: f32) -> Result<(f32, Vec<String>)> {
        let least = self.effective_threshold(query.threshold)?;
        let asked = verify::Query::new(query.text, query.vector);
        let (confidence, mut reasons) = self.judge_text(&asked, text, similarity, least);
        reasons.extend(self.foresee(query.caller, confidence, &Offset::default()));
        Ok((confidence, reasons))
    }

    /// What the verified policy tried for a request, if it did and the entry is still there. It is handed out once.
    pub fn exploration(&self, request: Fingerprint) -> Option<Exploration> {
        let trial = self.learning.as_ref()?.take(request)?;
        let entry = self.peek(trial.entry).filter(|entry| entry.sequence == trial.sequence)?;
        Some(Exploration { entry, similarity: trial.similarity, confidence: trial.confidence })
    }

    /// Serves an entry that was found elsewhere and has been stored here: the hit, counted as one.
    pub fn serve(&self, fingerprint: Fingerprint, kind: Kind) -> Option<Arc<Entry>> {
        let entry = self.peek(fingerprint)?;
        entry.touch(self.options.clock.now());
        entry.tenant.count_hit(kind);
        self.counters.add(if kind == Kind::Exact { Event::ExactHit } else { Event::NearHit }, 1);
        Some(entry)
    }

    /// Counts a lookup that found nothing.
    pub fn count_miss(&self) {
        self.counters.add(Event::Miss, 1);
    }

    /// The stricter of the cache's threshold and one given for this call.
    pub fn effective_threshold(&self, given: Option<f32>) -> Result<f32> {
        given.map_or(Ok(self.options.threshold), |given| Ok(threshold(given)?.max(self.options.threshold)))
    }

    /// The scope's own vectors, and those of them that are near enough.
    fn neighbours(&self, query: &NearQuery<'_>, least: f32, k: usize) -> Result<(u64, Vec<Neighbour>)> {
        let Some(space) = self.space.get().copied() else { return Ok((0, Vec::new())) };
        space.check(query.vector)?;
        let key = PartitionKey { scope: query.scope, space };
        match self.partitions.look(&key, Arc::clone) {
            Some(partition) => Ok((partition.number, partition.index.search(query.vector, least, k)?)),
            None => Ok((0, Vec::new())),
        }
    }

    /// The live entry behind a neighbour, confirmed by the exact map: an index may still know a vector whose
    /// entry has just gone or been replaced.
    fn candidate(&self, query: &verify::Query<'_>, partition: u64, found: Neighbour, least: f32) -> Option<Candidate> {
        let entry = self.vectors.look(&NearKey { partition, vector: found.id }, Arc::clone)?;
        let current = self.entries.look(&entry.fingerprint, |current| Arc::ptr_eq(&entry, current))?;
        if !current || !self.live(&entry) {
            return None;
        }
        let (confidence, reasons) = self.judge(query, &entry, found.similarity, least);
        Some(Candidate { entry, similarity: found.similarity, confidence, reasons })
    }

    /// Under the verified policy, the candidate with the best chance, if its risk is within the caller's budget. One
    /// that is not is what the policy would like to learn about.
    fn surest(
        &self,
        learning: &Learning,
        query: &NearQuery<'_>,
        candidates: impl Iterator<Item = Candidate>,
        near_miss: &mut Option<Candidate>,
    ) -> Option<Candidate> {
        let now = self.options.clock.now();
        let (fit, refused): (Vec<_>, Vec<_>) = candidates.partition(|candidate| candidate.reasons.is_empty());
        let Some(mut best) = fit.into_iter().max_by(|a, b| a.confidence.total_cmp(&b.confidence)) else {
            *near_miss = refused.into_iter().next();
            learning.pass(query.caller, now);
            return None;
        };
        let (entry, shown) = (&best.entry, *best.entry.shown());
        let (similarity, confidence) = (best.similarity, best.confidence);
        let trial = Trial { entry: entry.fingerprint, sequence: entry.sequence, similarity, confidence };
        let choice = learning.choose(query.request, query.caller, trial, &shown, now);
        if choice.serve {
            return Some(best);
        }
        best.reasons.push(explores(choice));
        *near_miss = Some(best);
        None
    }

    /// Why the verified policy would not serve a candidate, if it would not.
    fn foresee(&self, caller: ScopeId, confidence: f32, shown: &Offset) -> Option<String> {
        let choice = self.learning.as_ref()?.foresee(caller, confidence, shown);
        (!choice.serve).then(|| explores(choice))
    }

    fn judge(&self, query: &verify::Query<'_>, entry: &Entry, similarity: f32, least: f32) -> (f32, Vec<String>) {
        self.judge_text(query, entry.text().unwrap_or_default(), similarity, least)
    }

    pub(super) fn judge_text(
        &self,
        query: &verify::Query<'_>,
        text: &str,
        similarity: f32,
        least: f32,
    ) -> (f32, Vec<String>) {
        // The index keeps its vectors to itself; the verifier goes by the texts and the similarity.
        let candidate = verify::Candidate { text, vector: &[], similarity };
        let decision = self.judge.judge(query, candidate);
        let mut reasons = decision.refusals();
        if similarity < least {
            reasons.insert(0, format!("similarity {similarity:.4} is below the threshold {least:.4}"));
        }
        (decision.confidence, reasons)
    }

    /// Whether an entry may still be served.
    pub(super) fn live(&self, entry: &Entry) -> bool {
        entry.generation == self.generation.load(Ordering::Acquire)
            && (entry.expires == NEVER || !entry.expired(self.options.clock.now()))
    }
}

/// The first candidate that nothing speaks against; the first one refused before it is noted.
fn first_unrefused(
    candidates: impl Iterator<Item = Candidate>,
    near_miss: &mut Option<Candidate>,
) -> Option<Candidate> {
    for candidate in candidates {
        if candidate.reasons.is_empty() {
            return Some(candidate);
        }
        near_miss.get_or_insert(candidate);
    }
    None
}

fn explores(choice: Choice) -> String {
    let Choice { risk, limit, .. } = choice;
    if risk <= limit {
        return format!(
            "verified: risk {risk:.4} is within {limit:.4}, but a small share is asked anew to keep learning"
        );
    }
    format!("verified: risk {risk:.4} is above {limit:.4}, so the model is asked and its answer learned from")
}
