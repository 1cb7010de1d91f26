//! One query on its way through a snapshot.

use super::page::{PAGE, bits};
use super::segment::{Codes, Segment};
use super::snapshot::Snapshot;
use super::tail::Tail;
use super::top::TopK;
use crate::codec::{Basis, QueryBound};
use crate::simd::{Candidate, Kernels, ScanQuery};
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

/// A unit query, what it found, and its preparation for the bases it met.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    kernels: &'static Kernels,
    query: &'a [f32],
    bounds: Vec<(&'a Arc<Basis>, QueryBound<'a>)>,
    candidates: Vec<Candidate>,
    survey: Option<Survey>,
    /// Rows compared so far.
    compared: usize,
    /// What was asked for.
    threshold: f32,
    /// Ids below are left out.
    first_id: u64,
    pub(crate) top: TopK,
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
        for segment in snapshot.segments.iter().rev() {
            for query in &mut *queries {
                query.visit(segment);
            }
        }
    }

    fn visit_tail(&mut self, tail: &Tail) {
        for slot in bits(tail.live.bits()) {
            let id = tail.first_id() + slot as u64;
            if let Some(row) = tail.row(slot).filter(|_| id >= self.first_id) {
                self.top.offer(id, row.score(self.kernels, self.query, 0));
            }
        }
    }

    /// Offers every held row that may reach the floor.
    fn visit(&mut self, segment: &'a Segment) {
        if segment.last_id() < self.first_id {
            return;
        }
        let Some(codes) = &segment.codes else { return self.visit_plain(segment) };
        let at = self.bound(codes);
        let bound = &self.bounds[at].1;
        self.candidates.clear();
        let scan = bound.scan(self.top.floor());
        (self.kernels.scan)(&scan, &codes.blocks, &codes.terms, 0, &mut self.candidates);
        'candidates: for candidate in &self.candidates {
            let row = candidate.row as usize;
            let mut sum = bound.start(candidate.partial);
            // A slab's preparation costs as much as comparing a few rows: it waits until that many were compared.
            let slabs = self.compared / COMPARED_PER_SLAB;
            for (slab, (code, [residual, error])) in codes.later(row).take(slabs).enumerate() {
                let query = bound.later(slab + 1);
                sum += query.part((self.kernels.code_dot)(code, query.weights()), error);
                if sum + query.rest(residual) < f64::from(self.top.floor()) {
                    continue 'candidates;
                }
            }
            let (page, slot) = (&segment.pages[row / PAGE], row % PAGE);
            if page.live.bits() & (1 << slot) != 0 && page.id(slot) >= self.first_id {
                self.compared += 1;
                self.top.offer(page.id(slot), page.rows.score(self.kernels, self.query, slot));
            }
        }
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
        let scan = ScanQuery { residual: 0, error: 0, limit: cut.max(i32::MIN + 1), ..self.bounds[0].1.scan(0.0) };
        self.candidates.clear();
        (self.kernels.scan)(&scan, &codes.blocks, &codes.terms, 0, &mut self.candidates);
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

#[cfg(test)]
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
