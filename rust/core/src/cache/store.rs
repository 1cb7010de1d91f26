//! The writing side: stores, evictions, invalidation.

use super::bytes::{record_bytes, scattered};
use super::clock::{Millis, NEVER, whole_millis};
use super::counters::Event;
use super::durable::Origin;
use super::entry::{Entry, Meta, VectorAt};
use super::judged::Judgement;
use super::learning::Learning;
use super::ledger::Ledger;
use super::lookup::{Exploration, Hit, Kind};
use super::partition::{Partition, PartitionKey};
use super::payload::Payload;
use super::slab::NIL;
use super::sync::MutexGuard;
use super::tenant::Tenant;
use super::{Cache, NearKey, Space};
use crate::text::canonical::{Fingerprint, Request, ScopeId};
use crate::verify::{self, verified::Offset};
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes of a vector in an index besides its values, until the index is asked: its cell and its reference counts.
const VECTOR_OVERHEAD: usize = 40;

/// Bytes that judgements may take, at most.
const JUDGED_BYTES: usize = 4 << 20;

/// Ended entries that one store takes out on its way.
const EXPIRED_PER_STORE: usize = 16;

/// The caller's own scope.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller<'a> {
    /// Its id: [`ScopeId::of`] the scope given.
    pub id: ScopeId,
    /// The scope as it was given (JSON); `None` for the shared one.
    pub label: Option<&'a str>,
}

/// An answer to store.
#[derive(Debug, Clone)]
pub struct NewEntry<'a> {
    /// What it answers.
    pub fingerprint: Fingerprint,
    /// What must match exactly before it may answer another request.
    pub scope: ScopeId,
    /// The text that may be compared by meaning.
    pub text: Option<&'a str>,
    /// Whose it is.
    pub caller: Caller<'a>,
    /// The text's vector; `None` makes the entry exact-only.
    pub vector: Option<&'a [f32]>,
    /// It has no vector here only because its own is of another embedder.
    pub awaits_vector: bool,
    /// The answer.
    pub payload: Payload,
    /// What is known about it.
    pub meta: Meta,
    /// Its life; `None` for the cache's default.
    pub ttl: Option<Duration>,
    /// When it ends, in place of `ttl`; [`NEVER`] is a choice too.
    pub expires: Option<Millis>,
    /// When it was made, if not now.
    pub created: Option<Millis>,
}

impl<'a> NewEntry<'a> {
    /// An answer to `request` for anybody, without a vector.
    pub fn new(request: &'a Request<'_>, payload: Payload) -> Self {
        Self {
            fingerprint: request.fingerprint,
            scope: request.scope,
            text: request.text.as_deref(),
            caller: Caller::default(),
            vector: None,
            awaits_vector: false,
            payload,
            meta: Meta::default(),
            ttl: None,
            expires: None,
            created: None,
        }
    }
}

impl Cache {
    /// Stores an answer, in place of an earlier one to the same request, and makes the room it needs.
    ///
    /// # Errors
    /// A vector that the index refuses; [`Error::TooLarge`] for an answer beyond `max_bytes` on its own; under synchronous
    /// durability [`Error::Storage`] if the disk refuses it: the entry is held, and written as soon as the disk allows.
    pub fn store(&self, new: &NewEntry<'_>) -> Result<Arc<Entry>> {
        let started = Instant::now();
        let entry = self.store_in(&mut self.ledger(), new, Origin::Fresh)?;
        self.settle()?;
        self.latency.store.add(started.elapsed());
        Ok(entry)
    }

    pub(super) fn store_in(&self, ledger: &mut Ledger, new: &NewEntry<'_>, origin: Origin) -> Result<Arc<Entry>> {
        let now = self.options.clock.now();
        let created = new.created.unwrap_or(now);
        let lifetime = new.ttl.or(self.options.ttl);
        let expires = new
            .expires
            .unwrap_or_else(|| lifetime.map_or(NEVER, |ttl| created.saturating_add(whole_millis(ttl)).min(NEVER - 1)));
        for _ in 0..EXPIRED_PER_STORE {
            let Some(slot) = ledger.expired(now) else { break };
            self.evict(ledger, slot, Event::Expired);
        }

        let vector = match new.vector {
            Some(vector) if new.text.is_some() => Some(self.add_vector(new.scope, vector)?),
            _ => None,
        };
        let tenant = ledger.tenant(new.caller.id, new.caller.label);
        let sequence = match origin {
            Origin::Fresh => self.sequence.fetch_add(1, Ordering::Relaxed),
            Origin::Loaded(number) => number,
        };
        let generation = self.generation.load(Ordering::Relaxed); // only writers change it, and we hold their lock
        let mut entry = Entry::new(
            new.fingerprint,
            new.scope,
            tenant,
            new.text.map(Into::into),
            new.payload.clone(),
            new.meta.clone(),
            (created, expires),
            (sequence, generation),
            vector,
        );
        entry.awaits_vector = new.awaits_vector;
        let charge = charge(&entry);
        if let Err(error) = self.check_size(charge) {
            self.remove_vector(&entry);
            return Err(error);
        }

        let previous = self.entries.look(&new.fingerprint, Arc::clone);
        // A replaced entry leaves the books now and the map when its successor takes its place there.
        let mut inherited = (0, false);
        if let Some(previous) = previous.as_ref().filter(|previous| ledger.holds(previous)) {
            inherited = (previous.credit.load(Ordering::Relaxed), ledger.in_main(previous.slot));
            ledger.remove(previous.slot);
            self.counters.add(Event::Replaced, 1);
        }
        let (credit, in_main) = inherited;
        entry.set_value(ledger.boost(new.meta.cost, charge), credit);
        entry.slot = ledger.slab.next_slot();
        let entry = Arc::new(entry);
        if let Some(at) = &entry.vector {
            self.vectors.insert(at.key(), Arc::clone(&entry));
        }
        self.entries.insert(entry.fingerprint, Arc::clone(&entry));
        if let Some(previous) = &previous {
            self.remove_vector(previous);
        }
        ledger.insert(&entry, charge, in_main);
        if let Origin::Fresh = origin {
            self.write(&entry, new.vector.filter(|_| entry.vector.is_some()));
            self.counters.add(Event::Store, 1);
        }
        if let Some(previous) = &previous {
            self.unwrite(previous.sequence); // after its successor: a crash in between leaves both, and the later one counts
        }
        self.make_room(ledger, entry.slot, &entry.tenant);
        Ok(entry)
    }

    /// Removes the entry with this id; with `sequence`, only if that very store made it.
    pub fn invalidate(&self, id: Fingerprint, sequence: Option<u64>) -> Result<bool> {
        let mut ledger = self.ledger();
        let Some(entry) = self.peek(id).filter(|entry| sequence.is_none_or(|wanted| wanted == entry.sequence)) else {
            return Ok(false);
        };
        self.evict(&mut ledger, entry.slot, Event::Invalidated);
        drop(ledger);
        self.settle()?;
        Ok(true)
    }

    /// Makes the entry that this very store made exact-only; `false` if it has gone or been replaced since.
    pub fn demote(&self, id: Fingerprint, sequence: u64) -> Result<bool> {
        self.revise(id, |entry| entry.sequence == sequence && entry.vector.is_some(), None)
    }

    /// Gives an entry that waits for a vector of the present embedder that vector; `None` makes it exact-only for good.
    pub fn give_vector(&self, id: Fingerprint, vector: Option<&[f32]>) -> Result<bool> {
        self.revise(id, Entry::awaits_vector, vector)
    }

    /// Replaces an entry that is `wanted` by one that differs in its vector alone.
    fn revise(&self, id: Fingerprint, wanted: impl Fn(&Entry) -> bool, vector: Option<&[f32]>) -> Result<bool> {
        let mut ledger = self.ledger();
        let Some(entry) = self.peek(id).filter(|entry| wanted(entry)) else { return Ok(false) };
        let revised = NewEntry {
            fingerprint: id,
            scope: entry.scope,
            text: entry.text(),
            caller: Caller { id: entry.tenant.id, label: entry.tenant() },
            vector,
            awaits_vector: false,
            payload: entry.payload.clone(),
            meta: entry.meta.clone(),
            ttl: None,
            expires: Some(entry.expires),
            created: Some(entry.created),
        };
        self.store_in(&mut ledger, &revised, Origin::Fresh)?;
        drop(ledger);
        self.settle()?;
        Ok(true)
    }

    /// Takes a caller's judgement of a hit. A wrong near hit makes its entry exact-only, for the answer may be right
    /// for its own prompt; a wrong exact hit removes it. An entry that has been replaced since is left alone.
    pub fn feedback(&self, hit: &Hit, correct: bool) -> Result<()> {
        self.counters.add(if correct { Event::JudgedCorrect } else { Event::JudgedWrong }, 1);
        self.remember(hit, correct);
        self.learn_from(&hit.entry, hit.confidence.filter(|_| hit.kind == Kind::Near), correct);
        let (id, sequence) = (hit.entry.id(), hit.entry.sequence());
        match hit.kind {
            _ if correct => self.settle()?,
            Kind::Exact => drop(self.invalidate(id, Some(sequence))?),
            Kind::Near => drop(self.demote(id, sequence)?),
        }
        Ok(())
    }

    /// Takes a judgement of a candidate that was not served: whether its answer would have been right for `query`.
    pub fn learn(&self, query: &str, tried: Exploration, correct: bool) -> Result<()> {
        let Exploration { entry, similarity, confidence } = tried;
        self.learn_from(&entry, Some(confidence), correct);
        let query = Some(query.into());
        self.remember(&Hit { entry, kind: Kind::Near, similarity, confidence: Some(confidence), query }, correct);
        self.settle()
    }

    fn learn_from(&self, entry: &Entry, confidence: Option<f32>, correct: bool) {
        let (Some(learning), Some(confidence)) = (&self.learning, confidence) else { return };
        learning.learn(entry.caller(), confidence, &mut entry.shown(), correct, self.options.clock.now());
    }

    /// Learns again from the judgements that a file holds: what an entry has shown is not written with it.
    pub(super) fn relearn(&self) {
        let Some(learning) = &self.learning else { return };
        let judgements = self.judgements();
        let told: HashSet<(ScopeId, &str)> =
            judgements.iter().map(|judged| (judged.caller, judged.candidate.as_ref())).collect();
        let entries = self.snapshot();
        let mut named: HashMap<(ScopeId, &str), &Entry> = HashMap::new();
        for entry in &entries {
            let Some(key) = entry.text().map(|text| (entry.caller(), text)).filter(|key| told.contains(key)) else {
                continue;
            };
            named.insert(key, entry);
        }
        let now = self.options.clock.now();
        for judged in &judgements {
            let query = verify::Query::new(&judged.query, &[]);
            let (confidence, _) = self.judge_text(&query, &judged.candidate, judged.similarity, -1.0);
            let entry = named.get(&(judged.caller, judged.candidate.as_ref()));
            let mut gone = Offset::default();
            match entry {
                Some(entry) => learning.learn(judged.caller, confidence, &mut entry.shown(), judged.correct, now),
                None => learning.learn(judged.caller, confidence, &mut gone, judged.correct, now),
            }
        }
    }

    /// What was said of near hits lately, oldest first: see [`Judgement`].
    pub fn judgements(&self) -> Vec<Judgement> {
        self.ledger().judged.iter().map(|(_, judgement)| judgement.clone()).collect()
    }

    /// Keeps the two prompts of a near hit and what was said of them.
    fn remember(&self, hit: &Hit, correct: bool) {
        let (Kind::Near, Some(query), Some(candidate)) = (hit.kind, &hit.query, hit.entry.text()) else { return };
        let judgement = Judgement {
            query: query.clone(),
            candidate: candidate.into(),
            similarity: hit.similarity,
            correct,
            at: self.options.clock.now(),
            caller: hit.entry.caller(),
        };
        let mut ledger = self.ledger();
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.write_judgement(number, &judgement);
        for number in ledger.judged.add(number, judgement, self.judged_bytes()) {
            self.unwrite_judgement(number);
        }
        self.make_room(&mut ledger, NIL, &hit.entry.tenant);
    }

    /// Bytes that judgements may take: a small part of the cache's.
    pub(super) fn judged_bytes(&self) -> usize {
        self.options.max_bytes.map_or(JUDGED_BYTES, |most| (most / 16).min(JUDGED_BYTES))
    }

    /// The entries now, oldest first.
    pub fn snapshot(&self) -> Vec<Arc<Entry>> {
        let now = self.options.clock.now();
        self.ledger().entries().filter(|entry| !entry.expired(now)).map(Arc::clone).collect()
    }

    /// Removes every entry with this tag; returns how many.
    pub fn invalidate_tag(&self, tag: &str) -> Result<usize> {
        self.invalidate_while(|ledger| ledger.tagged(tag))
    }

    /// Removes every entry of this caller's scope, and its judgements; returns how many entries there were.
    pub fn invalidate_caller(&self, id: ScopeId) -> Result<usize> {
        for number in self.ledger().judged.remove_caller(id) {
            self.unwrite_judgement(number);
        }
        self.invalidate_while(|ledger| ledger.of_tenant(id))
    }

    /// Removes every entry made more than `age` ago; returns how many.
    pub fn invalidate_older_than(&self, age: Duration) -> Result<usize> {
        let cutoff = self.options.clock.now().saturating_sub(whole_millis(age));
        self.invalidate_while(|ledger| ledger.older_than(cutoff))
    }

    /// Removes everything, judgements too. Readers see an empty cache from one moment to the next, whatever it held.
    pub fn clear(&self) -> Result<usize> {
        let mut ledger = self.ledger();
        self.generation.fetch_add(1, Ordering::Release);
        let removed = ledger.len();
        let old = std::mem::take(&mut *ledger);
        self.unwrite_all();
        self.entries.clear();
        self.vectors.clear();
        self.partitions.clear();
        self.index_bytes.store(0, Ordering::Relaxed);
        drop(ledger);
        for entry in old.entries() {
            entry.tenant.leave();
        }
        self.counters.add(Event::Invalidated, removed as u64);
        self.settle()?;
        Ok(removed)
    }

    /// Takes out every entry whose time is over; returns how many.
    pub fn sweep(&self) -> usize {
        let now = self.options.clock.now();
        let mut removed = 0;
        loop {
            let mut ledger = self.ledger(); // once per batch, so that stores get their turn in between
            for _ in 0..EXPIRED_PER_STORE {
                let Some(slot) = ledger.expired(now) else { return removed };
                self.evict(&mut ledger, slot, Event::Expired);
                removed += 1;
            }
        }
    }

    /// Takes an entry out that a reader found to be over, unless a writer is at work: a reader waits for nobody.
    pub(super) fn drop_expired(&self, entry: &Arc<Entry>) {
        if let Ok(mut ledger) = self.ledger.try_lock()
            && entry.expired(self.options.clock.now())
            && ledger.holds(entry)
        {
            self.evict(&mut ledger, entry.slot, Event::Expired);
        }
    }

    fn invalidate_while(&self, next: impl Fn(&Ledger) -> Option<u32>) -> Result<usize> {
        let mut removed = 0;
        let mut ledger: MutexGuard<'_, Ledger> = self.ledger();
        while let Some(slot) = next(&ledger) {
            self.evict(&mut ledger, slot, Event::Invalidated);
            removed += 1;
        }
        drop(ledger);
        self.settle()?;
        Ok(removed)
    }

    fn check_size(&self, charge: usize) -> Result<()> {
        let bound = [self.options.max_bytes, self.options.scope_bytes].into_iter().flatten().min();
        match bound {
            Some(limit) if charge > limit => Err(Error::TooLarge { bytes: charge, limit }),
            _ => Ok(()),
        }
    }

    /// Evicts until everything is within its bounds again, first the caller's quota, then the cache's own, but not the
    /// entry of the slot `keep`. The lock is held, so that nobody sees the moment when it is too much.
    fn make_room(&self, ledger: &mut Ledger, keep: u32, tenant: &Tenant) {
        if let Some(quota) = self.options.scope_bytes {
            while tenant.bytes() > quota {
                let Some(slot) = ledger.victim_of(tenant.id, keep) else { break };
                self.evict(ledger, slot, Event::EvictedQuota);
            }
        }
        if let Some(most) = self.options.max_entries {
            while ledger.len() > most {
                let Some(slot) = ledger.victim(keep) else { break };
                self.evict(ledger, slot, Event::EvictedEntries);
            }
        }
        self.fit_bytes(ledger, keep);
    }

    fn fit_bytes(&self, ledger: &mut Ledger, keep: u32) {
        let Some(most) = self.options.max_bytes else { return };
        while self.total_bytes(ledger) > most {
            let Some(slot) = ledger.victim(keep) else { break };
            self.evict(ledger, slot, Event::EvictedBytes);
        }
    }

    /// Removes the entry of `slot` from everywhere.
    fn evict(&self, ledger: &mut Ledger, slot: u32, why: Event) {
        let Some(node) = ledger.remove(slot) else { return };
        self.forget(&node.entry);
        self.remove_vector(&node.entry);
        self.unwrite(node.entry.sequence);
        self.counters.add(why, 1);
    }

    fn forget(&self, entry: &Entry) {
        self.entries.remove(&entry.fingerprint);
    }

    fn remove_vector(&self, entry: &Entry) {
        let Some(at) = &entry.vector else { return };
        self.vectors.remove(&at.key());
        at.partition.remove(at.id);
        self.weigh(&at.partition, 0);
        self.drop_if_empty(&at.partition);
    }

    /// Adds a vector to its scope's index. Under the writer lock.
    fn add_vector(&self, scope: ScopeId, vector: &[f32]) -> Result<VectorAt> {
        let space = *self.space.get_or_init(|| Space::of("", vector.len()));
        space.check(vector)?;
        let partition = self.partition(PartitionKey { scope, space })?;
        let added = partition.add(vector);
        self.weigh(&partition, size_of_val(vector) + VECTOR_OVERHEAD);
        self.drop_if_empty(&partition);
        Ok(VectorAt { id: added?, partition })
    }

    /// The partition with this key, made on first use. Under the writer lock.
    fn partition(&self, key: PartitionKey) -> Result<Arc<Partition>> {
        if let Some(partition) = self.partitions.look(&key, Arc::clone) {
            return Ok(partition);
        }
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let partition = Arc::new(Partition::new(key, number)?);
        if self.loading {
            partition.index.defer_codes();
        }
        self.partitions.insert(key, Arc::clone(&partition));
        Ok(partition)
    }

    /// Codes the vectors that were read from a file, and makes the room that the codes take.
    pub(super) fn code_loaded(&self) {
        let mut ledger = self.ledger();
        for partition in self.partitions.values() {
            partition.index.code_deferred();
            self.note_weight(partition.look());
        }
        self.fit_bytes(&mut ledger, NIL);
    }

    /// Brings the sum of the indexes' bytes up to date after a change of one of them.
    fn weigh(&self, partition: &Partition, grown: usize) {
        self.note_weight(partition.reweigh(grown));
    }

    fn note_weight(&self, (before, after): (usize, usize)) {
        self.index_bytes.fetch_add(after, Ordering::Relaxed);
        self.index_bytes.fetch_sub(before, Ordering::Relaxed);
    }

    fn drop_if_empty(&self, partition: &Partition) {
        if partition.is_empty() {
            self.partitions.remove(&partition.key);
            self.index_bytes.fetch_sub(partition.weight(), Ordering::Relaxed);
        }
    }

    /// Bytes of what the verified policy has learned.
    pub(super) fn learned_bytes(&self) -> usize {
        self.learning.as_ref().map_or(0, Learning::nbytes)
    }

    /// Everything that counts against `max_bytes`.
    pub(super) fn total_bytes(&self, ledger: &Ledger) -> usize {
        ledger.bytes() + self.index_bytes.load(Ordering::Relaxed) + self.learned_bytes()
    }
}

/// Bytes an entry brings with it: itself and its records in the maps. Its vector is weighed with its index.
fn charge(entry: &Entry) -> usize {
    let exact = record_bytes(size_of::<(Fingerprint, Arc<Entry>)>());
    let near = if entry.vector.is_some() { record_bytes(size_of::<(NearKey, Arc<Entry>)>()) } else { 0 };
    scattered(entry.heap_bytes() + exact + near)
}
