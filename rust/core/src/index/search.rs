//! One query on its way through a snapshot.

use super::page::{PAGE, Page, bits};
use super::rows::ByteQuery;
use super::segment::{Codes, Segment};
use super::snapshot::Snapshot;
use super::tail::{Tail, rest_norm, start_of};
use super::top::TopK;
use crate::codec::{Basis, QueryBound, float_error};
use crate::simd::{BLOCK, Candidate, Cut, HeadCut, Kernels, Reach, ScanQuery, prefetch};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Threshold below which the scan would leave too much to compare, so that good neighbours are looked for
/// first, to raise it.
const SURVEY_BELOW: f32 = 0.75;
/// Slots below which looking first does not pay.
const SURVEY_FROM: usize = 2048;
/// Most neighbours for which it is done.
const SURVEY_K: usize = 4096;

/// Comparisons that cost about what preparing a query for one more slab does.
const COMPARED_PER_SLAB: usize = 6;

/// Comparisons that cost about what turning a query into bytes does.
const COMPARED_PER_BYTES: usize = 16;

/// Rows that tell how many end with their head. The newest segments, which are visited first, have 64.
const TELLING: usize = 2048;

/// One in so many rows that heads leave is enough to read the rests of all.
const WHOLE: usize = 16;

/// One in so many rows that the first slab leaves is enough to scan the second with it. With 4 and 8, lookups at .8 among
/// 100,000 were up to a tenth slower.
const DEEP: usize = 16;

/// Rows of one segment from which what the scan left goes through the later slabs together. A lead for each from the start
/// took 2,724 µs for 10 neighbours of 100,000, this 1,857.
const SIEVED: usize = 128;

/// Rows of which the scan could not say enough that are followed up together, the most promising first.
const LEADS: usize = 64;
/// Of these, rows that are fetched from memory at the same time.
const FETCHED: usize = 8;

/// A unit query, what it found, and its preparation for the bases it met.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    kernels: &'static Kernels,
    query: &'a [f32],
    bounds: Vec<(&'a Arc<Basis>, QueryBound<'a>)>,
    candidates: Vec<Candidate>,
    left: Vec<Reach>,
    leads: Vec<Lead<'a>>,
    /// Made when rows in bytes have been compared often enough.
    bytes: Option<ByteQuery>,
    /// Rows whose head was tested, and those of them that it left.
    heads: [usize; 2],
    /// Rows of which the first slab was tested, and those it left.
    rows: [usize; 2],
    survey: Option<Survey>,
    /// Rows compared so far.
    compared: usize,
    /// What was asked for.
    threshold: f32,
    /// Ids below are left out.
    first_id: u64,
    pub(crate) top: TopK,
}

/// A segment that is looked at, with its codes and the position of the query's preparation for their basis.
#[derive(Debug, Clone, Copy)]
struct Visit<'a> {
    at: usize,
    segment: &'a Segment,
    codes: &'a Codes,
}

/// A row that may be a neighbour by its code in the first slabs.
#[derive(Debug)]
struct Lead<'a> {
    /// Upper bound of its similarity but for what lies outside the slabs looked at.
    reach: f32,
    /// Later slabs looked at.
    slabs: usize,
    /// Position of the query's preparation for its basis.
    bound: usize,
    segment: &'a Segment,
    codes: &'a Codes,
    row: usize,
}

/// The rows with the largest estimates so far, as (estimate, segment, row).
#[derive(Debug)]
struct Survey {
    room: usize,
    best: BinaryHeap<Reverse<(i32, u32, u32)>>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(kernels: &'static Kernels, query: &'a [f32], threshold: f32, k: usize, first_id: u64) -> Self {
        let survey =
            (threshold < SURVEY_BELOW && k <= SURVEY_K).then(|| Survey { room: 4 * k + 32, best: BinaryHeap::new() });
        let top = TopK::new(k, threshold);
        Self {
            kernels,
            query,
            bounds: Vec::new(),
            candidates: Vec::new(),
            left: Vec::new(),
            leads: Vec::new(),
            bytes: None,
            heads: [0; 2],
            rows: [0; 2],
            survey,
            compared: 0,
            threshold,
            first_id,
            top,
        }
    }

    /// Runs several queries through a snapshot together: a segment's codes are read from far once, then from
    /// the cache.
    pub(crate) fn run(queries: &mut [Self], snapshot: &'a Snapshot) {
        Self::survey(queries, snapshot);
        Self::visit_all(queries, snapshot);
        for query in queries {
            // What the survey found may have been removed since, and with it the reason to ask for so much.
            if query.top.threshold() > query.threshold && !query.top.is_full() {
                query.top = TopK::new(query.top.k(), query.threshold);
                Self::visit_all(std::slice::from_mut(query), snapshot);
            }
        }
    }

    /// Looks for good neighbours first where many are asked for.
    fn survey(queries: &mut [Self], snapshot: &'a Snapshot) {
        if snapshot.segments.iter().map(|segment| segment.slots()).sum::<usize>() < SURVEY_FROM {
            return;
        }
        for (number, segment) in snapshot.segments.iter().enumerate() {
            for query in &mut *queries {
                query.estimate(number, segment);
            }
        }
        for query in queries {
            query.settle(snapshot);
        }
    }

    fn visit_all(queries: &mut [Self], snapshot: &'a Snapshot) {
        for query in &mut *queries {
            if let Some(tail) = &snapshot.tail {
                query.visit_tail(tail);
            }
        }
        for (number, segment) in snapshot.segments.iter().enumerate().rev() {
            Self::fetch(&snapshot.segments[..number]);
            for query in &mut *queries {
                query.visit(segment);
            }
        }
        for query in queries {
            query.follow();
        }
    }

    /// Asks for the start of the last of these segments, and for what says where that of the one before it is: of 33 µs for 25
    /// segments of which nothing was left, 1.2 were spent on finding them.
    fn fetch(segments: &[Arc<Segment>]) {
        let [.., before, last] = segments else { return };
        prefetch(std::slice::from_ref(&**before));
        if let Some(codes) = &last.codes {
            prefetch(&codes.blocks.heads);
        }
    }

    fn visit_tail(&mut self, tail: &Tail) {
        let (start, rest) = (&self.query[..start_of(self.query.len())], rest_norm(self.query, self.kernels));
        // Both comparisons are off by their rounding.
        let error = 2.0 * float_error(self.query.len()) as f32;
        for slot in bits(tail.live.bits()) {
            let id = tail.first_id() + slot as u64;
            let Some(recent) = tail.row(slot).filter(|_| id >= self.first_id) else { continue };
            let floor = self.top.floor();
            if floor < SURVEY_BELOW || recent.row.score_start(self.kernels, start) + rest * recent.rest + error >= floor
            {
                self.top.offer(id, recent.row.score(self.kernels, self.query, 0));
            }
        }
    }

    /// Offers every held row that may reach the floor.
    fn visit(&mut self, segment: &'a Segment) {
        if self.first_id > 0 && segment.last_id() < self.first_id {
            return;
        }
        let Some(codes) = &segment.codes else { return self.visit_plain(segment) };
        let at = self.bound(codes);
        let Some(second) = codes.second.as_ref().filter(|_| self.most_are_left()) else {
            return self.scan(Visit { at, segment, codes });
        };
        let query = self.bounds[at].1.scan_deep(self.top.floor());
        self.left.clear();
        (self.kernels.scan_deep)(&query, [&codes.blocks, second], &mut self.left);
        self.sieve(Visit { at, segment, codes }, 1);
    }

    /// Looks for what the first slab leaves.
    fn scan(&mut self, visit: Visit<'a>) {
        let (bound, blocks) = (&self.bounds[visit.at].1, &visit.codes.blocks);
        let (rows, mut scan) = (blocks.heads.len() * BLOCK, bound.scan(self.top.floor()));
        let whole = self.reads_all();
        if whole {
            scan.head.limit = i32::MIN;
        }
        self.candidates.clear();
        let passed = (self.kernels.scan)(&scan, blocks, &mut self.candidates);
        if !whole {
            self.heads[0] += rows;
            self.heads[1] += passed;
        }
        self.rows[0] += rows;
        self.rows[1] += self.candidates.len();
        let start = bound.start();
        self.left.clear();
        let reach = |candidate: &Candidate| Reach { row: candidate.row, reach: start(candidate.partial) };
        self.left.extend(self.candidates.iter().map(reach));
        self.sieve(visit, 0);
    }

    /// Whether the first slab leaves so many rows that reading the second one of all of them pays.
    fn most_are_left(&self) -> bool {
        let [scanned, left] = self.rows;
        scanned >= TELLING && left * DEEP > scanned
    }

    /// Whether so few rows end with their head that testing it does not pay.
    fn reads_all(&self) -> bool {
        let [tested, passed] = self.heads;
        tested >= TELLING && passed * WHOLE > tested
    }

    /// Drops what later slabs rule out, slab by slab while much is left; what remains is followed up. `slabs` of them have been
    /// looked at before.
    fn sieve(&mut self, Visit { at, segment, codes }: Visit<'a>, mut slabs: usize) {
        let (bound, floor) = (&self.bounds[at].1, self.top.floor());
        while slabs < codes.later.len() && self.left.len() >= SIEVED {
            let (query, slab) = (bound.later(slabs + 1).sieve(floor), &codes.later[slabs]);
            (self.kernels.sieve)(&query, &slab.codes, &slab.terms, &mut self.left);
            slabs += 1;
        }
        let lead = |left: &Reach| Lead { reach: left.reach, slabs, bound: at, segment, codes, row: left.row as usize };
        self.leads.extend(self.left.iter().map(lead));
        if self.leads.len() >= LEADS {
            self.follow();
        }
    }

    /// Looks closer at what the scan left: in later slabs, then at the vectors themselves.
    fn follow(&mut self) {
        let mut leads = std::mem::take(&mut self.leads);
        if leads.is_empty() {
            return;
        }
        // The most promising first: what it turns out to be may rule out others. Sorting them all costs more than it saves.
        let best = (0..leads.len()).max_by(|a, b| leads[*a].reach.total_cmp(&leads[*b].reach));
        leads.swap(0, best.unwrap_or(0));
        for group in leads.chunks(FETCHED) {
            // A slab's preparation costs as much as comparing a few rows: it waits until that many were compared.
            let slabs = self.compared / COMPARED_PER_SLAB;
            let mut rows: [Option<(&Page, usize)>; FETCHED] = [None; FETCHED];
            for (place, lead) in rows.iter_mut().zip(group) {
                let (page, slot) = (&*lead.segment.pages[lead.row / PAGE], lead.row % PAGE);
                if self.may_reach(lead, slabs) && page.live.bits() & (1 << slot) != 0 && page.id(slot) >= self.first_id
                {
                    page.rows.fetch(self.query.len(), slot);
                    *place = Some((page, slot));
                }
            }
            for (page, slot) in rows.into_iter().flatten() {
                self.compare(page, slot);
            }
        }
        leads.clear();
        self.leads = leads;
    }

    /// Offers a row, unless a comparison in bytes rules it out.
    fn compare(&mut self, page: &Page, slot: usize) {
        self.compared += 1;
        if page.rows.are_bytes(self.query.len()) && self.compared > COMPARED_PER_BYTES {
            let bytes = self.bytes.get_or_insert_with(|| ByteQuery::new(self.query));
            if !page.rows.may_reach(self.kernels, bytes, slot, self.top.floor()) {
                return;
            }
        }
        self.top.offer(page.id(slot), page.rows.score(self.kernels, self.query, slot));
    }

    /// Whether a row may reach the floor by its codes in so many later slabs.
    fn may_reach(&self, lead: &Lead, slabs: usize) -> bool {
        let bound = &self.bounds[lead.bound].1;
        let floor = f64::from(self.top.floor());
        let mut sum = f64::from(lead.reach);
        lead.codes.later.iter().take(slabs).enumerate().skip(lead.slabs).all(|(number, slab)| {
            let (query, [residual, error]) = (bound.later(number + 1), slab.terms[lead.row]);
            sum += query.part((self.kernels.code_dot)(&slab.codes[lead.row], query.weights()), error);
            sum + query.rest(residual) >= floor
        })
    }

    fn visit_plain(&mut self, segment: &Segment) {
        for page in &segment.pages {
            for slot in bits(page.live.bits()) {
                if page.id(slot) >= self.first_id {
                    self.top.offer(page.id(slot), page.rows.score(self.kernels, self.query, slot));
                }
            }
        }
    }

    /// Notes the segment's rows whose code alone comes closest to the query.
    fn estimate(&mut self, number: usize, segment: &'a Segment) {
        let Some(codes) = &segment.codes else { return };
        if self.survey.is_none() || segment.last_id() < self.first_id {
            return;
        }
        let at = self.bound(codes);
        // Estimates are in units of their basis: while an index changes over, only one is surveyed.
        let Some(survey) = self.survey.as_mut().filter(|_| at == 0) else { return };
        let cut = match survey.best.peek() {
            Some(Reverse((worst, ..))) if survey.best.len() >= survey.room => worst + 1,
            _ => i32::MIN,
        };
        let head = HeadCut { residual: 0, error: 0, limit: i32::MIN };
        let scan = ScanQuery { head, whole: Cut { residual: 0, error: 0, limit: cut }, ..self.bounds[0].1.scan(0.0) };
        self.candidates.clear();
        (self.kernels.scan)(&scan, &codes.blocks, &mut self.candidates);
        for candidate in &self.candidates {
            let full = survey.best.len() >= survey.room;
            if full && survey.best.peek().is_some_and(|Reverse((worst, ..))| candidate.partial <= *worst) {
                continue;
            }
            let (page, slot) = (&segment.pages[candidate.row as usize / PAGE], candidate.row as usize % PAGE);
            if page.live.bits() & (1 << slot) != 0 && page.id(slot) >= self.first_id {
                survey.best.push(Reverse((candidate.partial, number as u32, candidate.row)));
                if full {
                    survey.best.pop();
                }
            }
        }
    }

    /// Compares what the survey found, and asks for no less from here on.
    fn settle(&mut self, snapshot: &Snapshot) {
        let Some(survey) = self.survey.take() else { return };
        let mut top = self.top.empty();
        for Reverse((_, number, row)) in survey.best {
            let page = &snapshot.segments[number as usize].pages[row as usize / PAGE];
            top.offer(page.id(row as usize % PAGE), page.rows.score(self.kernels, self.query, row as usize % PAGE));
        }
        self.top.raise(top.floor());
    }

    /// Position of the query's preparation for the basis of these codes.
    fn bound(&mut self, codes: &'a Codes) -> usize {
        self.bounds.iter().position(|(basis, _)| Arc::ptr_eq(basis, &codes.basis)).unwrap_or_else(|| {
            self.bounds.push((&codes.basis, QueryBound::new(&codes.basis, self.kernels, self.query)));
            self.bounds.len() - 1
        })
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::index::VectorIndex;
    use crate::simd::kernels;

    #[test]
    fn what_was_surveyed_may_be_removed() {
        let index = VectorIndex::new(64).expect("valid");
        let rows: Vec<Vec<f32>> = (0..6000_u32)
            .map(|i| {
                (0..64).map(|d| ((i * 37 + d * 101) % 251) as f32 - 125.0 + f32::from(i % 7 == 0) * 60.0).collect()
            })
            .collect();
        for row in &rows {
            index.add(row).expect("valid");
        }
        let query = crate::codec::unit(&rows[70], 64).expect("valid");
        let near = index.search(&query, -1.0, 20).expect("valid");
        let snapshot = index.snapshot.load_full();
        let mut search = [Search::new(kernels(), &query, -1.0, 5, 0)];
        Search::survey(&mut search, &snapshot);
        assert!(search[0].top.threshold() >= near[4].similarity);
        for neighbour in &near[..12] {
            assert!(index.remove(neighbour.id));
        }
        search[0].survey = None;
        Search::run(&mut search, &snapshot);
        let [search] = search;
        assert_eq!(search.top.into_sorted(), near[12..17]);
    }
}
