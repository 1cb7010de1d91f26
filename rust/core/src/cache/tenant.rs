//! A caller's own scope: what invalidation by scope, quotas and per-scope figures go by.
//!
//! It is coarser than a [`ScopeId`]: one tenant's conversations,
//! system prompts and parameters make many scopes, and all of them belong to it.

use super::counters::stripe;
use super::lookup::Kind;
use crate::text::canonical::ScopeId;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const STRIPES: usize = 4;

/// Exact and near hits, counted by some of the threads: a cache line of its own, so that they do not meet on it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Hits([AtomicU64; 2]);

/// Figures of one tenant.
#[derive(Debug, Default)]
pub struct Tenant {
    pub(super) id: ScopeId,
    label: Option<Box<str>>,
    pub(super) entries: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    hits: [Hits; STRIPES],
}

impl Tenant {
    pub(super) fn new(id: ScopeId, label: Option<&str>) -> Self {
        Self { id, label: label.map(Into::into), ..Self::default() }
    }

    /// The scope as the caller gave it (JSON); `None` for the shared one.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Entries held.
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count_hit(&self, kind: Kind) {
        self.hits[stripe() % STRIPES].0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Exact and near hits so far.
    pub fn hits(&self) -> (u64, u64) {
        let sum = |kind: usize| self.hits.iter().map(|hits| hits.0[kind].load(Ordering::Relaxed)).sum();
        (sum(Kind::Exact as usize), sum(Kind::Near as usize))
    }

    /// Forgets what it held, after everything was cleared.
    pub(super) fn leave(&self) {
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}
