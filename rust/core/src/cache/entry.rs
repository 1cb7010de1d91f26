//! One cached answer. Everything but a few counters is immutable, so readers share it without a lock.

use super::NearKey;
use super::bytes::allocated;
use super::clock::{Millis, NEVER};
use super::partition::Partition;
use super::payload::Payload;
use super::tenant::Tenant;
use crate::text::canonical::{Fingerprint, ScopeId};
use crate::verify::verified::Offset;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most second chances an entry can have saved up (two bits in S3-FIFO).
pub(super) const MAX_CREDIT: u8 = 3;

/// What is known about an answer besides its text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta {
    /// Labels for invalidation.
    pub tags: Vec<Box<str>>,
    /// What the answer saved, in the caller's unit (seconds, dollars, tokens), for cost-aware eviction.
    pub cost: Option<f64>,
    /// Model that gave the answer.
    pub model: Option<Box<str>>,
    /// Tokens of the prompt and of the answer.
    pub tokens: Option<(u32, u32)>,
}

/// Where an entry's vector lies.
#[derive(Debug, Clone)]
pub(super) struct VectorAt {
    pub(super) partition: Arc<Partition>,
    pub(super) id: u64,
}

impl VectorAt {
    pub(super) fn key(&self) -> NearKey {
        NearKey { partition: self.partition.number, vector: self.id }
    }
}

/// One cached answer.
#[derive(Debug)]
pub struct Entry {
    pub(super) fingerprint: Fingerprint,
    pub(super) scope: ScopeId,
    pub(super) tenant: Arc<Tenant>,
    pub(super) text: Option<Box<str>>,
    pub(super) payload: Payload,
    pub(super) meta: Meta,
    pub(super) created: Millis,
    pub(super) expires: Millis,
    /// Number of the store that made the entry: tells a replaced answer from its successor.
    pub(super) sequence: u64,
    /// How often the cache had been cleared when the entry was made; older entries are gone.
    pub(super) generation: u64,
    pub(super) vector: Option<VectorAt>,
    pub(super) slot: u32,
    /// It has no vector only because its own is of another embedder.
    pub(super) awaits_vector: bool,
    /// Extra credit per hit of an answer that is dear for its size.
    boost: u8,
    pub(super) credit: AtomicU8,
    hits: AtomicU32,
    last_hit: AtomicU64,
    /// What judged answers have shown of it, under the verified policy.
    shown: Mutex<Offset>,
}

impl Entry {
    #[expect(clippy::too_many_arguments, reason = "one caller, which has just gathered them")]
    pub(super) fn new(
        fingerprint: Fingerprint,
        scope: ScopeId,
        tenant: Arc<Tenant>,
        text: Option<Box<str>>,
        payload: Payload,
        meta: Meta,
        (created, expires): (Millis, Millis),
        (sequence, generation): (u64, u64),
        vector: Option<VectorAt>,
    ) -> Self {
        Self {
            fingerprint,
            scope,
            tenant,
            text,
            payload,
            meta,
            created,
            expires,
            sequence,
            generation,
            vector,
            slot: 0,
            awaits_vector: false,
            boost: 0,
            credit: AtomicU8::new(0),
            hits: AtomicU32::new(0),
            last_hit: AtomicU64::new(0),
            shown: Mutex::default(),
        }
    }

    /// Sets what the answer is worth: its boost, and the credit it starts with.
    pub(super) fn set_value(&mut self, boost: u8, inherited: u8) {
        self.boost = boost;
        self.credit = AtomicU8::new(boost.max(inherited).min(MAX_CREDIT + boost));
    }

    /// The entry's id: its request's fingerprint.
    pub fn id(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The scope the entry answers in.
    pub fn scope(&self) -> ScopeId {
        self.scope
    }

    /// The caller's own scope as it was given (JSON), or `None` for the shared one.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.label()
    }

    /// Id of the caller's own scope.
    pub fn caller(&self) -> ScopeId {
        self.tenant.id
    }

    /// The request's text, where it may be compared by meaning.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The response.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// What is known about the answer.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// When the entry was made.
    pub fn created(&self) -> Millis {
        self.created
    }

    /// When the entry ends; [`NEVER`] if it does not.
    pub fn expires(&self) -> Millis {
        self.expires
    }

    /// Number of the store that made the entry.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether a vector is held for it.
    pub fn has_vector(&self) -> bool {
        self.vector.is_some()
    }

    /// Whether its vector is of another embedder, so that it is exact-only until it is embedded again.
    pub fn awaits_vector(&self) -> bool {
        self.awaits_vector
    }

    /// Hits so far. Two hits at the very same moment may count as one: readers do not wait for each other.
    pub fn hits(&self) -> u32 {
        self.hits.load(Ordering::Relaxed)
    }

    /// When it was last hit, if ever.
    pub fn last_hit(&self) -> Option<Millis> {
        Some(self.last_hit.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// What judged answers have shown of it. Held by nobody but the verified policy, for one step of its arithmetic.
    pub(super) fn shown(&self) -> MutexGuard<'_, Offset> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the entry's time is over. A hit never extends it.
    pub(super) fn expired(&self, now: Millis) -> bool {
        self.expires != NEVER && self.expires <= now
    }

    /// Marks a hit: relaxed stores only, so that readers of one hot entry do not queue for it.
    pub(super) fn touch(&self, now: Millis) {
        let credit = self.credit.load(Ordering::Relaxed);
        let most = MAX_CREDIT + self.boost;
        if credit < most {
            self.credit.store((credit + 1 + self.boost).min(most), Ordering::Relaxed);
        }
        self.hits.store(self.hits.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        self.last_hit.store(now, Ordering::Relaxed);
    }

    /// Heap bytes of the entry itself: record, text, response, tags. Maps and vectors are counted where they live.
    pub(super) fn heap_bytes(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>(); // the reference counts in front of an `Arc`'s value
        allocated(COUNTS + size_of::<Self>())
            + self.text.as_deref().map_or(0, |text| allocated(text.len()))
            + allocated(self.payload.nbytes())
            + self.meta.model.as_deref().map_or(0, |model| allocated(model.len()))
            + allocated(self.meta.tags.capacity() * size_of::<Box<str>>())
            + self.meta.tags.iter().map(|tag| allocated(tag.len())).sum::<usize>()
    }
}
