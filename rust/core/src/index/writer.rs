//! The writer's side: sealing, joining, learning and compaction, in bounded steps under one lock.

use super::page::{PAGE, Page, bits};
use super::segment::{SEGMENT, Segment};
use super::tail::Tail;
use crate::codec::{Basis, learn};
use crate::simd::Kernels;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Segments of one size that are joined into one of the next.
const FAN: usize = 8;
/// Vectors at which a basis is first learned; it is learned again each time the index has grown eightfold.
const FIRST_LESSON: usize = 512;
/// Vectors that a basis is learned from, at most.
const SAMPLE: usize = 2048;
/// Shortest vectors worth coding: below, comparing them whole is as quick.
const CODED_DIM: usize = 48;
/// Slots of a new tail.
const FIRST_SLOTS: usize = 4;

/// What readers see: replaced as a whole, never changed.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// In the order of their ids.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) tail: Option<Arc<Tail>>,
}

/// What only the writer needs.
#[derive(Debug)]
pub(crate) struct Writer {
    dim: usize,
    next_id: u64,
    /// Pages by their first id.
    pages: BTreeMap<u64, Arc<Page>>,
    basis: Option<Arc<Basis>>,
    next_lesson: usize,
    /// Next segment to be looked at by `compact`.
    cursor: usize,
}

impl Writer {
    pub(crate) fn new(dim: usize, basis: Option<Arc<Basis>>) -> Self {
        let next_lesson = if basis.is_some() || dim < CODED_DIM { usize::MAX } else { FIRST_LESSON };
        Self { dim, next_id: 0, pages: BTreeMap::new(), basis, next_lesson, cursor: 0 }
    }

    /// Appends a unit vector; the snapshot to publish, if another one is needed.
    pub(crate) fn push(&mut self, now: &Snapshot, row: Arc<[f32]>, kernels: &Kernels) -> (u64, Option<Snapshot>) {
        let id = self.next_id;
        self.next_id += 1;
        let Some(tail) = &now.tail else {
            let tail = Tail::new(id, FIRST_SLOTS);
            tail.push(0, row);
            return (id, Some(Snapshot { segments: now.segments.clone(), tail: Some(Arc::new(tail)) }));
        };
        let slot = (id - tail.first_id()) as usize;
        if slot < tail.capacity() {
            tail.push(slot, row);
            return (id, None);
        }
        if tail.capacity() < PAGE {
            let tail = tail.grown();
            tail.push(slot, row);
            return (id, Some(Snapshot { segments: now.segments.clone(), tail: Some(Arc::new(tail)) }));
        }
        let mut segments = now.segments.clone();
        self.seal(&mut segments, tail, kernels);
        let tail = Tail::new(id, PAGE);
        tail.push(0, row);
        (id, Some(Snapshot { segments, tail: Some(Arc::new(tail)) }))
    }

    /// Turns the tail into a page and keeps segments few and codes fresh.
    fn seal(&mut self, segments: &mut Vec<Arc<Segment>>, tail: &Tail, kernels: &Kernels) {
        let page = Arc::new(tail.page(self.dim));
        self.pages.insert(tail.first_id(), page.clone());
        let codable = self.dim >= CODED_DIM;
        segments.push(Arc::new(match &self.basis {
            Some(basis) if codable => Segment::coded(vec![page], basis, kernels),
            _ => Segment::plain(vec![page]),
        }));
        if self.pages.len() * PAGE >= self.next_lesson {
            self.learn(kernels);
        }
        self.refresh(segments, kernels);
        join(segments);
    }

    /// Learns a basis from rows spread over the whole index.
    fn learn(&mut self, kernels: &Kernels) {
        self.next_lesson = self.next_lesson.saturating_mul(8);
        let held = self.pages.len() * PAGE;
        let stride = (held / SAMPLE).max(1);
        let sample: Vec<&[f32]> = self
            .pages
            .values()
            .flat_map(|page| (0..page.ids().len()).map(|slot| page.row(slot)))
            .step_by(stride)
            .collect();
        if let Ok(basis) = learn(self.dim, &sample, kernels) {
            self.basis = Some(Arc::new(basis));
        }
    }

    /// Codes the first segment that is not in the present basis.
    fn refresh(&self, segments: &mut [Arc<Segment>], kernels: &Kernels) {
        let Some(basis) = self.basis.as_ref().filter(|_| self.dim >= CODED_DIM) else { return };
        let stale = |segment: &&mut Arc<Segment>| segment.basis().is_none_or(|other| !Arc::ptr_eq(other, basis));
        if let Some(segment) = segments.iter_mut().find(stale) {
            *segment = Arc::new(Segment::coded(segment.pages().to_vec(), basis, kernels));
        }
    }

    /// Removes an id from where it is.
    pub(crate) fn remove(&mut self, now: &Snapshot, id: u64) -> bool {
        if let Some(tail) = &now.tail
            && id >= tail.first_id()
        {
            return id < self.next_id && tail.kill((id - tail.first_id()) as usize);
        }
        let Some((_, page)) = self.pages.range(..=id).next_back() else { return false };
        page.ids().binary_search(&id).is_ok_and(|slot| page.kill(slot))
    }

    /// Looks at one segment; the snapshot to publish if most of it was dead and it was rewritten.
    pub(crate) fn compact(&mut self, now: &Snapshot, kernels: &Kernels) -> Option<Snapshot> {
        let at = self.cursor % now.segments.len().max(1);
        self.cursor = at + 1;
        let segment = now.segments.get(at)?;
        let live = segment.live();
        if live * 2 > segment.pages().len() * PAGE {
            return None;
        }
        let mut segments = now.segments.clone();
        for page in segment.pages() {
            self.pages.remove(&page.ids()[0]);
        }
        let pages = self.gather(segment);
        for page in &pages {
            self.pages.insert(page.ids()[0], page.clone());
        }
        if pages.is_empty() {
            segments.remove(at);
        } else {
            segments[at] = Arc::new(match segment.basis() {
                Some(basis) => Segment::coded(pages, basis, kernels),
                None => Segment::plain(pages),
            });
            let fits = |pair: &[Arc<Segment>]| {
                pair[0].pages().len() + pair[1].pages().len() <= SEGMENT && same_basis(&pair[0], &pair[1])
            };
            for first in [at, at.wrapping_sub(1)] {
                if segments.get(first..first.wrapping_add(2)).is_some_and(fits) {
                    let joined = Segment::joined(&segments[first..first + 2]);
                    segments.splice(first..first + 2, [Arc::new(joined)]);
                }
            }
        }
        Some(Snapshot { segments, tail: now.tail.clone() })
    }

    /// The held rows of a segment in new pages.
    fn gather(&self, segment: &Segment) -> Vec<Arc<Page>> {
        let held: Vec<(&Page, usize)> =
            segment.pages().iter().flat_map(|page| bits(page.live()).map(|slot| (&**page, slot))).collect();
        held.chunks(PAGE)
            .map(|part| {
                let rows: Vec<f32> = part.iter().flat_map(|(page, slot)| page.row(*slot).iter().copied()).collect();
                let ids = part.iter().map(|(page, slot)| page.ids()[*slot]).collect();
                let live = u64::MAX >> (PAGE - part.len());
                Arc::new(Page::new(self.dim, rows.into(), ids, live))
            })
            .collect()
    }

    /// Bytes beside the snapshot.
    pub(crate) fn nbytes(&self) -> usize {
        let pages: usize = self.pages.values().map(|page| page.nbytes() + 32).sum();
        pages + self.basis.as_ref().map_or(0, |basis| basis.nbytes())
    }
}

fn same_basis(a: &Segment, b: &Segment) -> bool {
    match (a.basis(), b.basis()) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Joins the last segments while enough of them have one size, so that there are few, and each row is
/// copied a few times in its life.
fn join(segments: &mut Vec<Arc<Segment>>) {
    while let Some(start) = segments.len().checked_sub(FAN) {
        let last = &segments[start..];
        let size = last[0].pages().len();
        let alike = |segment: &Arc<Segment>| segment.pages().len() == size && same_basis(segment, &last[0]);
        if size * FAN > SEGMENT || !last.iter().all(alike) {
            return;
        }
        let joined = Arc::new(Segment::joined(last));
        segments.truncate(start);
        segments.push(joined);
    }
}
