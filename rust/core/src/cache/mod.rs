//! The cache: entries under an exact map and, per scope, a vector index.
//!
//! Readers take no lock: an exact hit is one probe of a concurrent map and one look at the generation; a near
//! lookup searches the scope's own index and confirms what it finds in the same map; only who wants a text's vector
//! looks into the `memo` of the last ones, under a lock of its own. Writers take one lock,
//! behind which the `ledger` keeps the eviction queues, the expiry order, the tags and the sums. Nothing
//! runs in the background: eviction and expiry happen in bounded steps within the stores that need the room.
//!
//! ```
//! use nearhit_core::cache::{Cache, NewEntry, Options, Payload};
//! use nearhit_core::text::canonical::{Request, ScopeId};
//!
//! let cache = Cache::new(Options::default())?;
//! let request = Request::from_prompt("How do I reset my password?", ScopeId::default())?;
//! cache.store(&NewEntry::new(&request, Payload::text("Click on \"Forgot password\".")))?;
//! let entry = cache.lookup_exact(request.fingerprint).expect("just stored");
//! assert_eq!(*entry.payload().data(), *b"Click on \"Forgot password\".");
//! # Ok::<(), nearhit_core::Error>(())
//! ```

mod bytes;
mod clock;
mod counters;
mod durable;
mod entry;
mod flight;
mod ghost;
mod json;
mod judged;
mod latency;
mod learning;
mod ledger;
mod lookup;
#[cfg(not(all(test, feature = "model")))]
mod map;
#[cfg(all(test, feature = "model"))]
#[path = "map_model.rs"]
mod map;
mod memo;
mod options;
mod partition;
mod payload;
mod recent;
mod record;
mod seek;
mod slab;
mod space;
mod stats;
mod store;
mod sync;
mod tenant;

#[cfg(all(test, feature = "model"))]
mod model;
#[cfg(all(test, not(feature = "model")))]
mod tests;

pub use crate::verify::Policy;
pub use clock::{Clock, Millis, NEVER};
pub use durable::Opened;
pub use entry::{Entry, Meta};
pub use json::to_json;
pub use judged::Judgement;
pub use latency::Quantiles;
pub use learning::Bound;
pub use lookup::{Candidate, Exploration, Hit, Kind, Near, NearQuery};
pub use options::{Options, Sampling};
pub use payload::{Form, Payload};
pub use seek::{Answer, Effort, Sought};
pub use space::Space;
pub use stats::{Bytes, Stats, TenantStats};
pub use store::{Caller, NewEntry};
pub use tenant::Tenant;

use crate::Result;
use crate::persist::Journal;
use crate::text::canonical::Fingerprint;
use crate::verify::Judge;
use counters::Counters;
use latency::Histogram;
use learning::Learning;
use ledger::Ledger;
use map::{Map, Maps};
use memo::Memo;
use partition::{Partition, PartitionKey};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock, PoisonError};
use sync::{AtomicU64, Mutex, MutexGuard};

/// Names one vector among all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct NearKey {
    partition: u64,
    vector: u64,
}

/// Times of each operation.
#[derive(Debug, Default)]
struct Latency {
    exact: Histogram,
    near: Histogram,
    store: Histogram,
}

/// A cache, shared between threads by reference.
#[derive(Debug)]
pub struct Cache {
    options: Options,
    /// Decides about candidates that are near enough.
    judge: Judge,
    /// What the verified policy has learned; `None` under another one.
    learning: Option<Learning>,
    entries: Map<Fingerprint, Arc<Entry>>,
    vectors: Map<NearKey, Arc<Entry>>,
    partitions: Map<PartitionKey, Arc<Partition>>,
    /// Raised by `clear`: entries of an earlier generation are gone, whatever map still holds them.
    generation: AtomicU64,
    sequence: AtomicU64,
    index_bytes: AtomicUsize,
    /// The embedder whose vectors are held; settled by the options or by the first vector stored.
    space: OnceLock<Space>,
    /// Vectors of the last texts.
    memo: Memo,
    counters: Counters,
    latency: Latency,
    journal: Option<Journal>,
    /// While a file is read: indexes code their vectors once all are there.
    loading: bool,
    ledger: Mutex<Ledger>,
}

impl Cache {
    /// An empty cache.
    pub fn new(mut options: Options) -> Result<Self> {
        options.check()?;
        let memo = Memo::new(options.space, options.memo, options.max_bytes);
        options.max_bytes = options.max_bytes.map(|most| most - memo.reserved());
        let space = options.space.map_or_else(OnceLock::new, OnceLock::from);
        let maps = Maps::new();
        let judge = options.judge()?;
        let learning = (options.policy == Policy::Verified).then(|| Learning::new(options.bound)).transpose()?;
        Ok(Self {
            options,
            judge,
            learning,
            entries: maps.map(),
            vectors: maps.map(),
            partitions: maps.map(),
            generation: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            index_bytes: AtomicUsize::new(0),
            space,
            memo,
            counters: Counters::default(),
            latency: Latency::default(),
            journal: None,
            loading: false,
            ledger: Mutex::new(Ledger::default()),
        })
    }

    /// The cache's bounds and defaults; what the vectors remembered may take is no longer part of `max_bytes`.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Entries held, those included whose time is over and that have not been met yet.
    pub fn len(&self) -> usize {
        self.ledger().len()
    }

    /// Whether the cache holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The writing side. A writer that panicked left the ledger between two statements, each of which keeps it
    /// whole, so its successors may go on.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
