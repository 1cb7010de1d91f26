//! A caller's own scope: what invalidation by scope, quotas and per-scope figures go by.
//!
//! It is coarser than a [`ScopeId`]: one tenant's conversations,
//! system prompts and parameters make many scopes, and all of them belong to it.

use crate::text::canonical::ScopeId;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Figures of one tenant.
#[derive(Debug, Default)]
pub struct Tenant {
    pub(super) id: ScopeId,
    label: Option<Box<str>>,
    pub(super) entries: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    pub(super) exact_hits: AtomicU64,
    pub(super) near_hits: AtomicU64,
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

    /// Exact and near hits so far.
    pub fn hits(&self) -> (u64, u64) {
        (self.exact_hits.load(Ordering::Relaxed), self.near_hits.load(Ordering::Relaxed))
    }

    /// Forgets what it held, after everything was cleared.
    pub(super) fn leave(&self) {
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}
