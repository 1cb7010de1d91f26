//! The writer's side: appending, removing and, in bounded steps between, learning and rewriting.

use super::bulk;
use super::page::{PAGE, Page};
use super::rewrite::Rewrite;
use super::rows::{Rows, Storage};
use super::segment::{SEGMENT, Segment};
use super::snapshot::Snapshot;
use super::sync::Handle;
use super::tail::{Recent, Tail};
use crate::codec::{Basis, Lesson, SharedBasis};
use crate::simd::Kernels;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Segments of one size that are joined into one of the next.
const FAN: usize = 8;
/// Slots at which a basis is first learned; it is learned again each time the index has grown so many times. (4 instead
/// of 16 made lookups among 5,000 vectors up to a quarter quicker, none among 100,000, and adding these 1.4 times as long.)
const FIRST_LESSON: usize = 8 * PAGE;
const LESSON_GROWTH: usize = 16;
/// Changes between two steps of a rewrite, which takes some 100 µs; also between two looks for what to rewrite.
const REWRITE_PACE: usize = 16;
/// Shortest vectors worth coding: below, comparing them whole is as quick.
const CODED_DIM: usize = 48;
/// Pages from which on the rows of past tails are kept for the next ones.
const SPARING: usize = 16;
/// Slots of the first tail; the next are four times as large, up to a page.
const FIRST_SLOTS: usize = 4;

/// What only the writer needs, under its lock.
#[derive(Debug)]
pub(crate) struct Writer {
    dim: usize,
    storage: Storage,
    shared: Arc<SharedBasis>,
    now: Handle<Snapshot>,
    changed: bool,
    /// Replaced snapshots that were still being read when they were last looked at.
    retired: Vec<Handle<Snapshot>>,
    /// Rows of past tails, for the next ones: nothing is allocated for a vector, and none given back leaves holes between
    /// entries that live longer (a process under churn held 1.11 times what was counted without, 1.106 with).
    spare: Vec<Arc<Rows>>,
    next_id: u64,
    /// Pages by their first id.
    pages: BTreeMap<u64, Arc<Page>>,
    /// Bytes of these.
    page_bytes: usize,
    job: Option<Job>,
    changes: usize,
    /// Next segment to be looked at.
    cursor: usize,
    /// Whether pages are left without codes for now, see [`Self::defer`].
    deferred: bool,
}

#[derive(Debug)]
enum Job {
    /// A lesson, the vectors that it is still to take, and the slots there were when it began.
    Lesson(Box<Lesson>, Vec<(Arc<Page>, usize)>, usize),
    Rewrite(Box<Rewrite>),
}

impl Writer {
    pub(crate) fn new(dim: usize, storage: Storage, shared: Arc<SharedBasis>, next_id: u64) -> Self {
        Self {
            dim,
            storage,
            shared,
            now: Handle::new(Snapshot::default()),
            changed: false,
            retired: Vec::new(),
            spare: Vec::new(),
            next_id,
            pages: BTreeMap::new(),
            page_bytes: 0,
            job: None,
            changes: 0,
            cursor: 0,
            deferred: false,
        }
    }

    /// The snapshot to publish, if there is a new one.
    pub(crate) fn take_change(&mut self) -> Option<Handle<Snapshot>> {
        std::mem::take(&mut self.changed).then(|| self.now.clone())
    }

    /// Takes a replaced snapshot, to be freed when nobody reads it any more. Nobody can begin to: so once this is
    /// its only owner, it stays so.
    pub(crate) fn retire(&mut self, old: Handle<Snapshot>) {
        self.retired.push(old);
        self.free();
    }

    fn free(&mut self) {
        let mut at = 0;
        while at < self.retired.len() {
            if Handle::strong_count(&self.retired[at]) > 1 {
                at += 1;
            } else {
                let old = self.retired.swap_remove(at);
                self.salvage(old);
            }
        }
    }

    /// Keeps the rows of the tail of a snapshot that is nobody else's, if the tail is not in a later one.
    fn salvage(&mut self, old: Handle<Snapshot>) {
        let tail = Handle::try_unwrap(old).ok().and_then(|old| old.tail);
        if let Some(tail) = tail.and_then(|tail| Arc::try_unwrap(tail).ok())
            && self.pages.len() >= SPARING
        {
            self.spare.extend(tail.into_rows().take(PAGE - self.spare.len()));
        }
    }

    /// The vector times `scale` as a row.
    fn row(&mut self, vector: &[f32], scale: f64) -> Arc<Rows> {
        let spare = self.spare.pop().and_then(|mut row| {
            Arc::get_mut(&mut row)?.set(vector, scale);
            Some(row)
        });
        spare.unwrap_or_else(|| Arc::new(Rows::one(self.storage, vector, scale)))
    }

    /// Replaced snapshots that are still kept.
    #[cfg(all(test, feature = "loom"))]
    pub(crate) fn waiting(&self) -> usize {
        self.retired.len()
    }

    pub(crate) fn now(&self) -> &Handle<Snapshot> {
        &self.now
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// The present basis.
    pub(crate) fn basis(&self) -> Option<Arc<Basis>> {
        self.shared.get()
    }

    fn publish(&mut self, next: Snapshot) {
        self.now = Handle::new(next);
        self.changed = true;
    }

    /// Appends a vector, times `scale`, and returns its id.
    pub(crate) fn push(&mut self, vector: &[f32], scale: f64, kernels: &Kernels) -> u64 {
        let row = Recent::new(self.row(vector, scale), self.dim, kernels);
        let id = self.next_id;
        self.next_id += 1;
        match &self.now.tail {
            Some(tail) if id - tail.first_id() < tail.capacity() as u64 => {
                tail.push((id - tail.first_id()) as usize, row);
            }
            Some(tail) if tail.capacity() < PAGE => {
                let grown = tail.grown();
                grown.push((id - tail.first_id()) as usize, row);
                self.publish(Snapshot { segments: self.now.segments.clone(), tail: Some(Arc::new(grown)) });
            }
            full => {
                let mut segments = self.now.segments.clone();
                let slots = if let Some(tail) = full.clone() {
                    self.seal(&mut segments, &tail, kernels);
                    PAGE
                } else {
                    FIRST_SLOTS
                };
                let tail = Tail::new(id, slots);
                tail.push(0, row);
                self.publish(Snapshot { segments, tail: Some(Arc::new(tail)) });
            }
        }
        self.work(kernels, true);
        id
    }

    /// Turns a full tail into a page.
    fn seal(&mut self, segments: &mut Vec<Arc<Segment>>, tail: &Tail, kernels: &Kernels) {
        if let Some(page) = tail.page(self.storage, self.dim) {
            self.append(segments, page, kernels);
        }
    }

    fn append(&mut self, segments: &mut Vec<Arc<Segment>>, page: Page, kernels: &Kernels) {
        let page = Arc::new(page);
        self.keep(&page);
        let basis = self.coding_basis();
        segments.push(Arc::new(Segment::of(page, basis.as_ref(), self.storage.later_slabs(), kernels)));
        join(segments);
    }

    /// The basis that pages are to be coded in, if they are.
    fn coding_basis(&self) -> Option<Arc<Basis>> {
        self.shared.get().filter(|_| self.dim >= CODED_DIM && !self.deferred)
    }

    /// Leaves pages without codes, and learns no basis, until [`Self::code_deferred`].
    pub(crate) fn defer(&mut self) {
        self.deferred = true;
    }

    /// Learns the basis if it is time to, from everything there is, and codes whatever is not coded in it.
    pub(crate) fn code_deferred(&mut self, kernels: &Kernels) {
        self.deferred = false;
        self.job = None;
        if self.lesson_is_due() {
            let rows = self.spread();
            let mut lesson = Lesson::new(self.dim, rows.len());
            teach(&mut lesson, &rows, self.dim, kernels);
            let basis = loop {
                if let Some(basis) = lesson.step(kernels) {
                    break basis;
                }
            };
            self.shared.put(Arc::new(basis), self.slots());
        }
        if let Some(basis) = self.coding_basis() {
            let segments = bulk::coded(&self.now.segments, &basis, self.storage.later_slabs(), kernels);
            self.publish(Snapshot { segments, tail: self.now.tail.clone() });
        }
    }

    /// Slots of all pages, held or not.
    fn slots(&self) -> usize {
        self.pages.len() * PAGE
    }

    fn lesson_is_due(&self) -> bool {
        let due = self.shared.learned_from().saturating_mul(LESSON_GROWTH).max(FIRST_LESSON);
        self.dim >= CODED_DIM && !self.deferred && !self.shared.is_fixed() && self.slots() >= due
    }

    fn keep(&mut self, page: &Arc<Page>) {
        if self.pages.insert(page.first_id(), page.clone()).is_none() {
            self.page_bytes += page_bytes(page);
        }
    }

    /// Takes over pages, in the order of their ids, into an index that has none.
    pub(crate) fn restore(&mut self, pages: Vec<Page>, kernels: &Kernels) {
        self.defer();
        let mut segments = Vec::new();
        for page in pages {
            self.append(&mut segments, page, kernels);
        }
        self.publish(Snapshot { segments, tail: None });
        self.code_deferred(kernels);
    }

    /// Removes an id from where it is.
    pub(crate) fn remove(&mut self, id: u64, kernels: &Kernels) -> bool {
        let removed = match &self.now.tail {
            Some(tail) if id >= tail.first_id() => {
                id < self.next_id && tail.live.clear((id - tail.first_id()) as usize)
            }
            _ => self
                .pages
                .range(..=id)
                .next_back()
                .is_some_and(|(_, page)| page.slot(id).is_some_and(|slot| page.live.clear(slot))),
        };
        if removed {
            self.work(kernels, false);
        }
        removed
    }

    /// One bounded step of whatever is to be done.
    fn work(&mut self, kernels: &Kernels, lessons: bool) {
        self.changes += 1;
        self.free();
        let turn = self.changes.is_multiple_of(REWRITE_PACE);
        match &mut self.job {
            Some(Job::Lesson(lesson, left, _)) if lessons && !left.is_empty() => {
                let rows = left.split_off(left.len().saturating_sub(lesson.taken_at_once()));
                teach(lesson, &rows, self.dim, kernels);
            }
            Some(Job::Lesson(lesson, _, slots)) if lessons => {
                if let Some(basis) = (0..lesson.steps_at_once()).find_map(|_| lesson.step(kernels)) {
                    self.shared.put(Arc::new(basis), *slots);
                    self.job = None;
                }
            }
            Some(Job::Rewrite(rewrite)) if turn => {
                let done = rewrite.step(self.storage, self.dim, kernels);
                if done {
                    self.replace();
                }
            }
            None if turn => self.job = self.next_job(),
            _ => {}
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        if self.lesson_is_due() {
            let rows = self.spread();
            return Some(Job::Lesson(Box::new(Lesson::new(self.dim, rows.len())), rows, self.slots()));
        }
        let basis = self.coding_basis();
        if let Some(basis) = &basis {
            let stale = |segment: &&Arc<Segment>| segment.basis().is_none_or(|other| !Arc::ptr_eq(other, basis));
            if let Some(segment) = self.now.segments.iter().find(stale) {
                return Some(Job::Rewrite(Box::new(Rewrite::recode(
                    segment.clone(),
                    basis,
                    self.storage.later_slabs(),
                ))));
            }
        }
        self.cursor = (self.cursor + 1) % self.now.segments.len().max(1);
        let segment = self.now.segments.get(self.cursor)?;
        (segment.live() * 2 <= segment.slots()).then(|| {
            Job::Rewrite(Box::new(Rewrite::gather(segment.clone(), basis.as_ref(), self.storage.later_slabs())))
        })
    }

    /// Rows spread over the whole index.
    fn spread(&self) -> Vec<(Arc<Page>, usize)> {
        let stride = (self.pages.len() * PAGE).div_ceil(Lesson::sample_size(self.dim)).max(1);
        let slots = |(number, page): (usize, &Arc<Page>)| {
            let first = (stride - number * PAGE % stride) % stride;
            let page = page.clone();
            (first..page.len()).step_by(stride).map(move |slot| (page.clone(), slot))
        };
        self.pages.values().enumerate().flat_map(slots).collect()
    }

    /// Puts a finished rewrite in the place of its source, unless that was joined to others meanwhile.
    fn replace(&mut self) {
        let Some(Job::Rewrite(rewrite)) = self.job.take() else { return };
        let mut segments = self.now.segments.clone();
        let Some(at) = segments.iter().position(|segment| Arc::ptr_eq(segment, &rewrite.source)) else { return };
        let gathers = rewrite.gathers();
        let segment = rewrite.finish();
        if gathers {
            for page in &segments[at].pages {
                if self.pages.remove(&page.first_id()).is_some() {
                    self.page_bytes -= page_bytes(page);
                }
            }
            for page in &segment.pages {
                self.keep(page);
            }
        }
        if segment.pages.is_empty() {
            segments.remove(at);
        } else {
            segments[at] = Arc::new(segment);
            if gathers {
                join_neighbours(&mut segments, at);
            }
        }
        self.publish(Snapshot { segments, tail: self.now.tail.clone() });
    }

    /// Bytes of everything: what readers see, pages, the basis and unfinished work.
    pub(crate) fn nbytes(&self) -> usize {
        let segments: usize = self.now.segments.iter().map(|segment| segment.nbytes() + 24).sum();
        let tail = self.now.tail.as_ref().map_or(0, |tail| tail.nbytes());
        let job = match &self.job {
            Some(Job::Lesson(lesson, left, _)) => lesson.nbytes() + left.capacity() * size_of::<(Arc<Page>, usize)>(),
            Some(Job::Rewrite(rewrite)) => rewrite.nbytes(),
            None => 0,
        };
        let alone = Arc::strong_count(&self.shared) == 1;
        let basis = self.shared.get().filter(|_| alone).map_or(0, |basis| basis.nbytes());
        let row = self.spare.first().map_or(0, |row| row.nbytes() + size_of::<Rows>() + 16);
        let spare = self.spare.len() * row;
        size_of::<Snapshot>() + segments + tail + spare + self.page_bytes + job + basis
    }
}

/// Lets a lesson take rows.
fn teach(lesson: &mut Lesson, rows: &[(Arc<Page>, usize)], dim: usize, kernels: &Kernels) {
    for four in rows.chunks(4) {
        let vectors: Vec<_> = four.iter().map(|(page, slot)| page.rows.decode(dim, *slot)).collect();
        lesson.take(&vectors.iter().map(|vector| &vector[..]).collect::<Vec<_>>(), kernels);
    }
}

/// Bytes of a page and its place among the others.
fn page_bytes(page: &Page) -> usize {
    page.nbytes() + 48
}

fn same_basis(a: &Segment, b: &Segment) -> bool {
    match (a.basis(), b.basis()) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Joins the last segments while enough of them have one size, so that there are few, and each code is
/// copied a few times in its life.
fn join(segments: &mut Vec<Arc<Segment>>) {
    while let Some(start) = segments.len().checked_sub(FAN) {
        let last = &segments[start..];
        let size = last[0].pages.len();
        let alike = |segment: &Arc<Segment>| segment.pages.len() == size && same_basis(segment, &last[0]);
        if size * FAN > SEGMENT || !last.iter().all(alike) {
            return;
        }
        let joined = Arc::new(Segment::joined(last));
        segments.truncate(start);
        segments.push(joined);
    }
}

/// Joins the segment at `at` with those beside it where both fit into one.
fn join_neighbours(segments: &mut Vec<Arc<Segment>>, at: usize) {
    for first in [Some(at), at.checked_sub(1)].into_iter().flatten() {
        if let Some([a, b]) = segments.get(first..first + 2)
            && a.pages.len() + b.pages.len() <= SEGMENT
            && same_basis(a, b)
        {
            let joined = Segment::joined(&segments[first..first + 2]);
            segments.splice(first..first + 2, [Arc::new(joined)]);
        }
    }
}
