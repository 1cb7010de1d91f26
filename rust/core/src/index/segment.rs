//! A run of pages and their codes, laid out for scanning.

use super::page::{PAGE, Page, bits};
use super::top::TopK;
use crate::codec::{Basis, QueryBound, encode};
use crate::simd::{BLOCK, Block, Candidate, Kernels, LINES, Line, RowCodes, SLAB, Terms};
use std::sync::Arc;

/// Pages in a full segment.
pub(crate) const SEGMENT: usize = 64;

/// Pages in the order of their ids, immutable but for live bits, and codes once a basis is known.
#[derive(Debug)]
pub(crate) struct Segment {
    pages: Vec<Arc<Page>>,
    codes: Option<Codes>,
}

/// Codes of every slot of every page: the first slab in blocks, the second row by row.
#[derive(Debug)]
pub(crate) struct Codes {
    basis: Arc<Basis>,
    blocks: Vec<Block>,
    terms: Vec<Terms>,
    rows: Vec<RowCodes>,
    row_terms: Vec<[u8; 2]>,
}

impl Segment {
    /// Pages without codes: every live row is compared.
    pub(crate) fn plain(pages: Vec<Arc<Page>>) -> Self {
        Self { pages, codes: None }
    }

    /// Pages with codes in a basis.
    pub(crate) fn coded(pages: Vec<Arc<Page>>, basis: &Arc<Basis>, kernels: &Kernels) -> Self {
        let mut codes = Codes::with_capacity(basis, pages.len());
        for page in &pages {
            codes.push(page, kernels);
        }
        Self { pages, codes: Some(codes) }
    }

    /// The pages of several segments of one basis, in their order.
    pub(crate) fn joined(parts: &[Arc<Self>]) -> Self {
        let pages: Vec<_> = parts.iter().flat_map(|part| part.pages.iter().cloned()).collect();
        let codes = parts.first().and_then(|part| part.codes.as_ref()).map(|first| {
            let mut codes = Codes::with_capacity(&first.basis, pages.len());
            for other in parts.iter().filter_map(|part| part.codes.as_ref()) {
                codes.blocks.extend_from_slice(&other.blocks);
                codes.terms.extend_from_slice(&other.terms);
                codes.rows.extend_from_slice(&other.rows);
                codes.row_terms.extend_from_slice(&other.row_terms);
            }
            codes
        });
        Self { pages, codes }
    }

    pub(crate) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    pub(crate) fn basis(&self) -> Option<&Arc<Basis>> {
        self.codes.as_ref().map(|codes| &codes.basis)
    }

    /// Held rows.
    pub(crate) fn live(&self) -> usize {
        self.pages.iter().map(|page| page.live().count_ones() as usize).sum()
    }

    /// Offers every held row that may reach the floor.
    pub(crate) fn search(
        &self,
        kernels: &Kernels,
        query: &[f32],
        bound: Option<&QueryBound>,
        candidates: &mut Vec<Candidate>,
        top: &mut TopK,
    ) {
        let (Some(codes), Some(bound)) = (&self.codes, bound) else {
            for page in &self.pages {
                for slot in bits(page.live()) {
                    top.offer(page.ids()[slot], (kernels.dot)(query, page.row(slot)));
                }
            }
            return;
        };
        candidates.clear();
        (kernels.scan)(&bound.scan(top.floor()), &codes.blocks, &codes.terms, 0, candidates);
        for candidate in candidates.iter() {
            let row = candidate.row as usize;
            if let Some(weights) = bound.second_weights() {
                let [residual, error] = codes.row_terms[row];
                let dot = (kernels.code_dot)(&codes.rows[row], weights);
                if bound.second(candidate.partial, dot, error, residual) < f64::from(top.floor()) {
                    continue;
                }
            }
            let (page, slot) = (&self.pages[row / PAGE], row % PAGE);
            if page.live() & (1 << slot) != 0 {
                top.offer(page.ids()[slot], (kernels.dot)(query, page.row(slot)));
            }
        }
    }

    /// Bytes of the codes and the pages' list; the pages count themselves.
    pub(crate) fn nbytes(&self) -> usize {
        let codes = self.codes.as_ref().map_or(0, |codes| {
            size_of_val(&codes.blocks[..])
                + size_of_val(&codes.terms[..])
                + size_of_val(&codes.rows[..])
                + size_of_val(&codes.row_terms[..])
        });
        size_of::<Self>() + self.pages.len() * size_of::<Arc<Page>>() + codes
    }
}

impl Codes {
    fn with_capacity(basis: &Arc<Basis>, pages: usize) -> Self {
        let second = if basis.slabs().len() > 1 { pages * PAGE } else { 0 };
        Self {
            basis: basis.clone(),
            blocks: Vec::with_capacity(pages * PAGE / BLOCK),
            terms: Vec::with_capacity(pages * PAGE / BLOCK),
            rows: Vec::with_capacity(second),
            row_terms: Vec::with_capacity(second),
        }
    }

    /// Codes a page; slots without a row get codes of zero and stay dead.
    fn push(&mut self, page: &Page, kernels: &Kernels) {
        let start = self.blocks.len();
        self.blocks.resize(start + PAGE / BLOCK, [Line([0; 64]); LINES]);
        self.terms.resize(start + PAGE / BLOCK, Terms([0; 2 * BLOCK]));
        for slot in 0..page.ids().len() {
            let (block, lane) = (start + slot / BLOCK, slot % BLOCK);
            let mut slabs = encode(&self.basis, kernels, page.row(slot));
            if let Some(code) = slabs.next() {
                for (j, line) in self.blocks[block].iter_mut().enumerate() {
                    for byte in 0..4 {
                        line.0[4 * lane + byte] = code.levels[8 * j + byte] | code.levels[8 * j + 4 + byte] << 4;
                    }
                }
                self.terms[block].0[2 * lane..2 * lane + 2].copy_from_slice(&[code.residual, code.error]);
            }
            if let Some(code) = slabs.next() {
                let row = std::array::from_fn(|byte| code.levels[byte] | code.levels[byte + SLAB / 2] << 4);
                self.rows.push(RowCodes(row));
                self.row_terms.push([code.residual, code.error]);
            }
        }
        if self.basis.slabs().len() > 1 {
            self.rows.resize((start + PAGE / BLOCK) * BLOCK, RowCodes([0; SLAB / 2]));
            self.row_terms.resize(self.rows.len(), [0; 2]);
        }
    }
}
