//! What a cache has done and what it holds.

use super::Cache;
use super::counters::Event;
use super::entry::Entry;
use super::latency::Quantiles;
use super::learning::Learning;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes by part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Entries: records, texts, responses, tags, and their places in the maps.
    pub entries: usize,
    /// Vector indexes.
    pub vectors: usize,
    /// Eviction queues, expiry and age order, tag lists, ghosts.
    pub bookkeeping: usize,
}

impl Bytes {
    /// All parts together: what `max_bytes` bounds.
    pub fn total(&self) -> usize {
        self.entries + self.vectors + self.bookkeeping
    }
}

/// Figures of one caller's scope.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantStats {
    /// The scope as it was given (JSON); `None` for the shared one.
    pub label: Option<String>,
    /// Entries held.
    pub entries: usize,
    /// Bytes held, vectors not counted.
    pub bytes: usize,
    /// Exact hits since the scope last was empty.
    pub exact_hits: u64,
    /// Near hits since the scope last was empty.
    pub near_hits: u64,
    /// Greatest risk that the verified policy serves it at present; `None` before it was asked.
    pub risk_limit: Option<f64>,
}

/// Figures of a cache since it was made.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "each name says it: events counted since the cache was made")]
pub struct Stats {
    pub exact_hits: u64,
    pub near_hits: u64,
    pub misses: u64,
    /// Near lookups whose candidates were all refused; these count as misses too.
    pub near_misses: u64,
    pub stores: u64,
    pub replaced: u64,
    pub evicted_bytes: u64,
    pub evicted_entries: u64,
    pub evicted_quota: u64,
    pub expired: u64,
    pub invalidated: u64,
    pub judged_correct: u64,
    pub judged_wrong: u64,
    /// Near lookups whose best candidate was tried on the model instead of served, under the verified policy.
    pub explored: u64,
    /// Judged answers that the verified policy has learned from.
    pub labels: u64,
    /// Texts that were not embedded: their vectors were remembered, or being made by another caller.
    pub memo_hits: u64,
    /// Bytes of the vectors remembered, beside `bytes`.
    pub memo_bytes: usize,
    /// Entries held.
    pub entries: usize,
    /// Bytes held, by part.
    pub bytes: Bytes,
    /// Time of exact hits, one in 32 measured.
    pub exact_latency: Quantiles,
    /// Time of near lookups: search and judging, embedding not included.
    pub near_latency: Quantiles,
    /// Time of stores, waiting for the disk included where they do.
    pub store_latency: Quantiles,
    /// Scopes that hold entries.
    pub tenants: Vec<TenantStats>,
}

impl Cache {
    /// The figures now. Entries whose time is over leave first, so that they are not counted as held.
    pub fn stats(&self) -> Stats {
        self.sweep();
        let get = |event| self.counters.get(event);
        let ledger = self.ledger();
        let bookkeeping = ledger.overhead();
        let bytes = Bytes {
            entries: ledger.bytes() - bookkeeping,
            vectors: self.index_bytes.load(Ordering::Relaxed),
            bookkeeping: bookkeeping + self.learned_bytes(),
        };
        let (explored, labels) = self.learning.as_ref().map_or((0, 0), Learning::counts);
        let limit = |caller| self.learning.as_ref().and_then(|learning| learning.limit(caller));
        let tenants = ledger
            .tenants()
            .map(|tenant| TenantStats {
                label: tenant.label().map(ToOwned::to_owned),
                entries: tenant.entries(),
                bytes: tenant.bytes(),
                exact_hits: tenant.hits().0,
                near_hits: tenant.hits().1,
                risk_limit: limit(tenant.id),
            })
            .collect();
        Stats {
            exact_hits: get(Event::ExactHit),
            near_hits: get(Event::NearHit),
            misses: get(Event::Miss),
            near_misses: get(Event::NearMiss),
            stores: get(Event::Store),
            replaced: get(Event::Replaced),
            evicted_bytes: get(Event::EvictedBytes),
            evicted_entries: get(Event::EvictedEntries),
            evicted_quota: get(Event::EvictedQuota),
            expired: get(Event::Expired),
            invalidated: get(Event::Invalidated),
            judged_correct: get(Event::JudgedCorrect),
            judged_wrong: get(Event::JudgedWrong),
            explored,
            labels,
            memo_hits: self.memo.hits(),
            memo_bytes: self.memo.nbytes(),
            entries: ledger.len(),
            bytes,
            exact_latency: self.latency.exact.quantiles(),
            near_latency: self.latency.near.quantiles(),
            store_latency: self.latency.store.quantiles(),
            tenants,
        }
    }

    /// Checks every structure against the others; says what does not agree. For tests: it looks at everything.
    pub fn validate(&self) -> Result<(), String> {
        let ledger = self.ledger();
        ledger.validate()?;
        let mut vectors = 0;
        for entry in ledger.entries() {
            let same = |at: &Arc<Entry>| Arc::ptr_eq(at, entry);
            if self.entries.look(&entry.fingerprint, same) != Some(true) {
                return Err(format!("entry {} is not in the exact map", entry.fingerprint));
            }
            if let Some(at) = &entry.vector {
                vectors += 1;
                if self.vectors.look(&at.key(), same) != Some(true) {
                    return Err(format!("the vector of entry {} leads elsewhere", entry.fingerprint));
                }
            }
        }
        let partitions = self.partitions.values();
        let indexed: usize = partitions.iter().map(|partition| partition.index.len()).sum();
        let weighed: usize = partitions.iter().map(|partition| partition.weight()).sum();
        let counts = [self.entries.len(), self.vectors.len(), indexed, self.index_bytes.load(Ordering::Relaxed)];
        if counts != [ledger.len(), vectors, vectors, weighed] {
            return Err(format!(
                "maps, vectors, index and index bytes {counts:?}, expected {:?}",
                [ledger.len(), vectors, vectors, weighed]
            ));
        }
        if partitions.iter().any(|partition| partition.is_empty()) {
            return Err("an empty partition was left behind".into());
        }
        Ok(())
    }
}
