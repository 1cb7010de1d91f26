//! Writing a segment anew, page by page: in another basis, or without its dead rows.

use super::page::{PAGE, Page, bits};
use super::rows::{Rows, Storage};
use super::segment::{Codes, Segment};
use crate::codec::Basis;
use crate::simd::Kernels;
use std::sync::Arc;

/// A segment in the making.
#[derive(Debug)]
pub(crate) struct Rewrite {
    pub(crate) source: Arc<Segment>,
    /// Rows to gather into new pages; none if the pages stay as they are.
    held: Option<Vec<u32>>,
    pages: Vec<Arc<Page>>,
    codes: Option<Codes>,
}

impl Rewrite {
    /// The same pages in another basis.
    pub(crate) fn recode(source: Arc<Segment>, basis: &Arc<Basis>, later: usize) -> Self {
        let codes = Some(Codes::with_capacity(basis, later, source.pages.len()));
        let pages = Vec::with_capacity(source.pages.len());
        Self { source, held: None, pages, codes }
    }

    /// The held rows in new pages.
    pub(crate) fn gather(source: Arc<Segment>, basis: Option<&Arc<Basis>>, later: usize) -> Self {
        let held: Vec<u32> = source
            .pages
            .iter()
            .enumerate()
            .flat_map(|(number, page)| bits(page.live.bits()).map(move |slot| (number * PAGE + slot) as u32))
            .collect();
        let count = held.len().div_ceil(PAGE);
        let codes = basis.map(|basis| Codes::with_capacity(basis, later, count));
        Self { source, held: Some(held), pages: Vec::with_capacity(count), codes }
    }

    /// Whether the rows move to new pages.
    pub(crate) fn gathers(&self) -> bool {
        self.held.is_some()
    }

    /// Writes one page; `true` after the last.
    pub(crate) fn step(&mut self, storage: Storage, dim: usize, kernels: &Kernels) -> bool {
        let at = self.pages.len();
        let page = match &self.held {
            None => self.source.pages.get(at).cloned(),
            Some(held) => held.chunks(PAGE).nth(at).map(|part| {
                let mut rows = Rows::with_capacity(storage, dim, part.len());
                for row in part {
                    rows.push_from(&self.page_of(*row).rows, dim, *row as usize % PAGE);
                }
                let ids: Vec<u64> = part.iter().map(|row| self.page_of(*row).id(*row as usize % PAGE)).collect();
                Arc::new(Page::new(rows, &ids, u64::MAX >> (PAGE - part.len())))
            }),
        };
        let Some(page) = page else { return true };
        if let Some(codes) = &mut self.codes {
            codes.push(&page, kernels);
        }
        self.pages.push(page);
        self.pages.len() == self.held.as_ref().map_or(self.source.pages.len(), |held| held.len().div_ceil(PAGE))
    }

    fn page_of(&self, row: u32) -> &Page {
        &self.source.pages[row as usize / PAGE]
    }

    /// The new segment. Rows removed since they were gathered are removed from it; the caller holds the
    /// writer's lock, so none is removed meanwhile.
    pub(crate) fn finish(self) -> Segment {
        for (number, row) in self.held.iter().flatten().enumerate() {
            if self.page_of(*row).live.bits() & (1 << (*row as usize % PAGE)) == 0 {
                self.pages[number / PAGE].live.clear(number % PAGE);
            }
        }
        Segment { pages: self.pages, codes: self.codes }
    }

    /// Bytes held while it lasts.
    pub(crate) fn nbytes(&self) -> usize {
        let pages: usize = self.pages.iter().filter(|_| self.gathers()).map(|page| page.nbytes()).sum();
        let codes = self.codes.as_ref().map_or(0, Codes::nbytes);
        pages + codes + self.held.as_ref().map_or(0, |held| held.len() * 4)
    }
}
