//! The writing side: who is in which queue, what it weighs, when it ends and what it is labelled with.
//! Always used under the cache's writer lock; readers never see it.

use super::bytes::allocated;
use super::clock::{Millis, NEVER};
use super::entry::Entry;
use super::ghost::Ghost;
use super::judged::Judgements;
use super::slab::{Lane, List, Node, Queue, Slab};
use super::tenant::Tenant;
use crate::text::canonical::ScopeId;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Share of the bytes that new entries get before they have to have been hit (S3-FIFO's 10 %).
const SMALL_SHARE: usize = 10;
/// Credit that takes an entry from the small queue to the main one. Two hits did better than one in a simulation
/// over the traces of `benches/peers/cache_hit_ratio.py`: a mean hit ratio of 36.3 % against 36.2 %.
const PROMOTED_AT: u8 = 2;
/// Second chances given in one search for a victim; then the oldest goes, so that no store waits for a long scan.
const MOST_CHANCES: usize = 256;
/// Bytes of one record in an ordered set of `(Millis, u32)`: 16 of key, B-tree nodes three quarters full.
const ORDERED: usize = 24;

/// A tenant and its entries in order of arrival.
#[derive(Debug)]
struct Seat {
    tenant: Arc<Tenant>,
    entries: List,
}

/// Book-keeping of the live entries.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) slab: Slab,
    pub(super) judged: Judgements,
    small: List,
    main: List,
    ghost: Ghost,
    seats: HashMap<ScopeId, Seat>,
    by_created: BTreeSet<(Millis, u32)>,
    by_expiry: BTreeSet<(Millis, u32)>,
    tags: HashMap<Box<str>, HashSet<u32>>,
    tag_bytes: usize,
    /// Charges of all entries when room was last needed.
    full_at: Option<usize>,
    mean_value: f64,
    valued: u32,
}

impl Ledger {
    /// Entries held.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Charges of all entries, and the book-keeping itself.
    pub(super) fn bytes(&self) -> usize {
        self.small.bytes() + self.main.bytes() + self.overhead()
    }

    /// Bytes of the book-keeping: tables that grow with the number of entries, not with their content.
    pub(super) fn overhead(&self) -> usize {
        self.slab.nbytes()
            + self.ghost.nbytes()
            + self.tag_bytes
            + self.judged.nbytes()
            + (self.by_created.len() + self.by_expiry.len()) * ORDERED
    }

    /// The tenant with this id; a new one if it has no entries.
    pub(super) fn tenant(&self, id: ScopeId, label: Option<&str>) -> Arc<Tenant> {
        self.seats.get(&id).map_or_else(|| Arc::new(Tenant::new(id, label)), |seat| Arc::clone(&seat.tenant))
    }

    /// Every tenant that has entries.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.seats.values().map(|seat| &seat.tenant)
    }

    /// Extra second chances for an answer worth twice, four or eight times as much per byte as the mean: 0 to 3.
    pub(super) fn boost(&mut self, cost: Option<f64>, charge: usize) -> u8 {
        let Some(cost) = cost.filter(|cost| cost.is_finite() && *cost > 0.0) else { return 0 };
        let value = (cost / charge.max(1) as f64).log2();
        // A slow mean of logarithms: neither one outlier nor the dearer half of all answers sets the measure.
        self.valued = (self.valued + 1).min(256);
        self.mean_value += (value - self.mean_value) / f64::from(self.valued);
        (value - self.mean_value).clamp(0.0, 3.0) as u8
    }

    /// Enters `entry`, made for [`Slab::next_slot`], into every list. `known`: it replaces one of the main queue.
    pub(super) fn insert(&mut self, entry: &Arc<Entry>, charge: usize, known: bool) {
        // While there is room to spare, nothing has to prove itself: a cache that is too small for a loop then keeps a
        // part of it, where a queue alone would lose every entry just before its turn.
        let roomy = self.full_at.is_none_or(|full| self.main.bytes() < full / 5 * 4);
        let wanted = known || self.ghost.recall(entry.fingerprint) || roomy;
        let queue = if wanted { Queue::Main } else { Queue::Small };
        let slot = self.slab.insert(Arc::clone(entry), charge, queue);
        debug_assert_eq!(slot, entry.slot);
        self.enqueue(slot, queue);
        let seat = self
            .seats
            .entry(entry.tenant.id)
            .or_insert_with(|| Seat { tenant: Arc::clone(&entry.tenant), entries: List::default() });
        seat.entries.push_back(&mut self.slab, slot, Lane::Tenant);
        entry.tenant.entries.fetch_add(1, Ordering::Relaxed);
        entry.tenant.bytes.fetch_add(charge, Ordering::Relaxed);
        self.by_created.insert((entry.created, slot));
        if entry.expires != NEVER {
            self.by_expiry.insert((entry.expires, slot));
        }
        for tag in &entry.meta.tags {
            let slots = self.tags.entry(tag.clone()).or_insert_with(|| {
                self.tag_bytes += tag_cost(tag);
                HashSet::new()
            });
            if slots.insert(slot) {
                self.tag_bytes += TAGGED;
            }
        }
    }

    /// Takes the entry of `slot` out of every list.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Node> {
        let (entry, queue, charge) = {
            let node = self.slab.get(slot)?;
            (Arc::clone(&node.entry), node.queue, node.charge)
        };
        self.dequeue(slot, queue);
        if let Some(seat) = self.seats.get_mut(&entry.tenant.id) {
            seat.entries.remove(&mut self.slab, slot, Lane::Tenant);
            if seat.entries.len() == 0 {
                self.seats.remove(&entry.tenant.id);
            }
        }
        entry.tenant.entries.fetch_sub(1, Ordering::Relaxed);
        entry.tenant.bytes.fetch_sub(charge, Ordering::Relaxed);
        self.by_created.remove(&(entry.created, slot));
        self.by_expiry.remove(&(entry.expires, slot));
        for tag in &entry.meta.tags {
            if let Some(slots) = self.tags.get_mut(tag) {
                if slots.remove(&slot) {
                    self.tag_bytes -= TAGGED;
                }
                if slots.is_empty() {
                    self.tags.remove(tag);
                    self.tag_bytes -= tag_cost(tag);
                }
            }
        }
        self.slab.remove(slot)
    }

    /// The entry to give up next, by S3-FIFO: new entries that were not hit leave the small queue early, the
    /// others move to the main queue, where each hit buys another round.
    ///
    /// `keep` is never chosen: the entry that the room is made for.
    pub(super) fn victim(&mut self, keep: u32) -> Option<u32> {
        let mut chances = 0;
        self.full_at = Some(self.small.bytes() + self.main.bytes());
        loop {
            let small_left = self.small.len() > 0 && (self.small.len() > 1 || self.small.front() != Some(keep));
            let from_small = small_left
                && (self.main.len() == 0 || self.small.bytes() * SMALL_SHARE >= self.small.bytes() + self.main.bytes());
            let (slot, queue) =
                if from_small { (self.small.front()?, Queue::Small) } else { (self.main.front()?, Queue::Main) };
            let entry = Arc::clone(&self.slab.get(slot)?.entry);
            let credit = entry.credit.load(Ordering::Relaxed);
            if slot == keep {
                if self.main.len() <= 1 && queue == Queue::Main {
                    return None;
                }
                self.dequeue(slot, queue);
                self.enqueue(slot, queue);
                continue;
            }
            let least = if queue == Queue::Small { PROMOTED_AT } else { 1 };
            if credit < least || chances == MOST_CHANCES {
                if queue == Queue::Small {
                    self.ghost.remember(entry.fingerprint, self.slab.len());
                }
                return Some(slot);
            }
            chances += 1;
            if queue == Queue::Main {
                entry.credit.store(credit - 1, Ordering::Relaxed);
            }
            self.dequeue(slot, queue);
            self.enqueue(slot, Queue::Main);
        }
    }

    /// The entry that `tenant` should give up next: its oldest one without credit.
    pub(super) fn victim_of(&mut self, tenant: ScopeId, keep: u32) -> Option<u32> {
        let seat = self.seats.get_mut(&tenant)?;
        if seat.entries.len() < 2 {
            return None;
        }
        for _ in 0..MOST_CHANCES {
            let slot = seat.entries.front()?;
            let entry = Arc::clone(&self.slab.get(slot)?.entry);
            let credit = entry.credit.load(Ordering::Relaxed);
            if credit == 0 && slot != keep {
                return Some(slot);
            }
            entry.credit.store(credit.saturating_sub(1), Ordering::Relaxed);
            seat.entries.remove(&mut self.slab, slot, Lane::Tenant);
            seat.entries.push_back(&mut self.slab, slot, Lane::Tenant);
        }
        seat.entries.front().filter(|slot| *slot != keep)
    }

    /// Whether `entry` is still the one in its slot.
    pub(super) fn holds(&self, entry: &Arc<Entry>) -> bool {
        self.slab.get(entry.slot).is_some_and(|node| Arc::ptr_eq(&node.entry, entry))
    }

    /// Whether the entry of `slot` has made it to the main queue.
    pub(super) fn in_main(&self, slot: u32) -> bool {
        self.slab.get(slot).is_some_and(|node| node.queue == Queue::Main)
    }

    /// The entry that ended first, if its time is over.
    pub(super) fn expired(&self, now: Millis) -> Option<u32> {
        self.by_expiry.first().filter(|(at, _)| *at <= now).map(|(_, slot)| *slot)
    }

    /// The oldest entry, if it was made before `cutoff`.
    pub(super) fn older_than(&self, cutoff: Millis) -> Option<u32> {
        self.by_created.first().filter(|(at, _)| *at < cutoff).map(|(_, slot)| *slot)
    }

    /// Any entry with this tag.
    pub(super) fn tagged(&self, tag: &str) -> Option<u32> {
        self.tags.get(tag).and_then(|slots| slots.iter().next().copied())
    }

    /// The tenant's oldest entry.
    pub(super) fn of_tenant(&self, tenant: ScopeId) -> Option<u32> {
        self.seats.get(&tenant).and_then(|seat| seat.entries.front())
    }

    /// Every entry, oldest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_created.iter().filter_map(|(_, slot)| self.slab.get(*slot)).map(|node| &node.entry)
    }

    fn enqueue(&mut self, slot: u32, queue: Queue) {
        if let Some(node) = self.slab.get_mut(slot) {
            node.queue = queue;
        }
        let list = if queue == Queue::Small { &mut self.small } else { &mut self.main };
        list.push_back(&mut self.slab, slot, Lane::Queue);
    }

    fn dequeue(&mut self, slot: u32, queue: Queue) {
        let list = if queue == Queue::Small { &mut self.small } else { &mut self.main };
        list.remove(&mut self.slab, slot, Lane::Queue);
    }

    /// Checks that every list, set and sum tells the same story; says what does not.
    pub(super) fn validate(&self) -> Result<(), String> {
        let queued = self.small.len() + self.main.len();
        let seated: usize = self.seats.values().map(|seat| seat.entries.len()).sum();
        if [queued, seated, self.by_created.len()] != [self.slab.len(); 3] {
            return Err(format!(
                "{} entries, but {queued} queued, {seated} with tenants, {} by age",
                self.slab.len(),
                self.by_created.len()
            ));
        }
        for (list, queue) in [(&self.small, Queue::Small), (&self.main, Queue::Main)] {
            let mut bytes = 0;
            for slot in list.iter(&self.slab, Lane::Queue) {
                let node = self.slab.get(slot).ok_or("a queue holds an empty slot")?;
                if node.queue != queue || node.entry.slot != slot {
                    return Err(format!("slot {slot} is in the wrong queue or holds an entry of another slot"));
                }
                bytes += node.charge;
            }
            if bytes != list.bytes() {
                return Err(format!("a queue claims {} bytes and holds {bytes}", list.bytes()));
            }
        }
        for seat in self.seats.values() {
            let (entries, bytes) = (seat.tenant.entries(), seat.tenant.bytes());
            if entries != seat.entries.len() || bytes != seat.entries.bytes() {
                return Err(format!("tenant {:?} claims {entries} entries, {bytes} bytes", seat.tenant.label()));
            }
        }
        for (tag, slots) in &self.tags {
            let carried =
                slots.iter().all(|slot| self.slab.get(*slot).is_some_and(|node| node.entry.meta.tags.contains(tag)));
            if !carried || slots.is_empty() {
                return Err(format!("tag {tag:?} leads to entries that do not carry it"));
            }
        }
        Ok(())
    }
}

/// One slot in a tag's set: a hash table of `u32` with its control bytes, two thirds full on average.
const TAGGED: usize = 8;

/// A tag's own record: its text, its set's header and its place in the table.
fn tag_cost(tag: &str) -> usize {
    allocated(tag.len()) + 3 * size_of::<HashSet<u32>>() / 2 + size_of::<Box<str>>()
}
