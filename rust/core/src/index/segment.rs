//! A run of pages and their codes, laid out for scanning.

use super::page::{PAGE, Page};
use crate::codec::{Basis, SlabCode, encode};
use crate::simd::{BLOCK, Block, Blocks, HALF, Kernels, LINES, Line, RowCodes, SLAB, SecondBlocks, Terms};
use crate::values::Values;
use bytemuck::cast_slice;
use std::sync::Arc;

/// Pages in a full segment.
pub(crate) const SEGMENT: usize = 64;

/// Pages in the order of their ids, immutable but for live bits, and codes once a basis is known.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) pages: Vec<Arc<Page>>,
    pub(crate) codes: Option<Codes>,
}

/// Codes of every slot of every page: the first slab in blocks, the later ones row by row.
#[derive(Debug)]
pub(crate) struct Codes {
    pub(crate) basis: Arc<Basis>,
    pub(crate) blocks: Blocks,
    /// The second slab once more in blocks, if the basis has one: where most rows are left, reading all of them so is quicker.
    pub(crate) second: Option<SecondBlocks>,
    pub(crate) later: Vec<LaterSlab>,
}

/// Every row's code in one later slab. A slab's codes lie together: what is left of many rows reads them one after the other.
#[derive(Debug)]
pub(crate) struct LaterSlab {
    pub(crate) codes: Values<RowCodes>,
    /// Residual norm and coding error of each row.
    pub(crate) terms: Values<[u8; 2]>,
}

impl Segment {
    /// One page, coded if there is a basis.
    pub(crate) fn of(page: Arc<Page>, basis: Option<&Arc<Basis>>, later: usize, kernels: &Kernels) -> Self {
        let codes = basis.map(|basis| Codes::of(&page, basis, later, kernels));
        Self { pages: vec![page], codes }
    }

    /// The pages of several segments of one basis, in their order.
    pub(crate) fn joined(parts: &[Arc<Self>]) -> Self {
        let pages: Vec<_> = parts.iter().flat_map(|part| part.pages.iter().cloned()).collect();
        let codes = parts.first().and_then(|part| part.codes.as_ref()).map(|first| {
            let mut codes = Codes::with_capacity(&first.basis, first.later.len(), pages.len());
            for other in parts.iter().filter_map(|part| part.codes.as_ref()) {
                codes.blocks.heads.extend_from_slice(&other.blocks.heads);
                codes.blocks.head_terms.extend_from_slice(&other.blocks.head_terms);
                codes.blocks.tails.extend_from_slice(&other.blocks.tails);
                codes.blocks.terms.extend_from_slice(&other.blocks.terms);
                if let (Some(second), Some(other)) = (&mut codes.second, &other.second) {
                    second.codes.extend_from_slice(&other.codes);
                    second.terms.extend_from_slice(&other.terms);
                }
                for (slab, other) in codes.later.iter_mut().zip(&other.later) {
                    slab.codes.extend_from_slice(&other.codes);
                    slab.terms.extend_from_slice(&other.terms);
                }
            }
            codes
        });
        Self { pages, codes }
    }

    pub(crate) fn basis(&self) -> Option<&Arc<Basis>> {
        self.codes.as_ref().map(|codes| &codes.basis)
    }

    /// Slots of its pages, held or not.
    pub(crate) fn slots(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Held rows.
    pub(crate) fn live(&self) -> usize {
        self.pages.iter().map(|page| page.live.bits().count_ones() as usize).sum()
    }

    /// Largest id it may hold.
    pub(crate) fn last_id(&self) -> u64 {
        self.pages.last().map_or(0, |page| page.id(page.len() - 1))
    }

    /// Bytes of the codes and the pages' list; the pages count themselves.
    pub(crate) fn nbytes(&self) -> usize {
        let codes = self.codes.as_ref().map_or(0, Codes::nbytes);
        size_of::<Self>() + self.pages.capacity() * size_of::<Arc<Page>>() + codes
    }
}

impl Codes {
    /// Room for pages coded in at most `later` slabs after the first row by row.
    pub(crate) fn with_capacity(basis: &Arc<Basis>, later: usize, pages: usize) -> Self {
        let blocks = pages * PAGE / BLOCK;
        let slab =
            |_| LaterSlab { codes: Values::with_capacity(pages * PAGE), terms: Values::with_capacity(pages * PAGE) };
        Self {
            basis: basis.clone(),
            blocks: Blocks {
                heads: Values::with_capacity(blocks),
                head_terms: Values::with_capacity(blocks),
                tails: Values::with_capacity(blocks),
                terms: Values::with_capacity(blocks),
            },
            second: (basis.slabs().len() > 1)
                .then(|| SecondBlocks { codes: Values::with_capacity(blocks), terms: Values::with_capacity(blocks) }),
            later: (1..basis.slabs().len().min(later + 1)).map(slab).collect(),
        }
    }

    /// The codes of one page.
    pub(crate) fn of(page: &Page, basis: &Arc<Basis>, later: usize, kernels: &Kernels) -> Self {
        let mut codes = Self::with_capacity(basis, later, 1);
        codes.push(page, kernels);
        codes
    }

    /// Everything of the codes and terms, as bytes; each array has as many for every page.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &[u8]> {
        let Blocks { heads, head_terms, tails, terms } = &self.blocks;
        let first = [
            cast_slice(heads.as_flattened()),
            cast_slice(head_terms),
            cast_slice(tails.as_flattened()),
            cast_slice(terms),
        ];
        let second = self
            .second
            .iter()
            .flat_map(|second| [cast_slice(second.codes.as_flattened().as_flattened()), cast_slice(&second.terms)]);
        let later = self.later.iter().flat_map(|slab| [cast_slice(&slab.codes), slab.terms.as_flattened()]);
        first.into_iter().chain(second).chain(later)
    }

    /// Bytes held, the basis not counted.
    pub(crate) fn nbytes(&self) -> usize {
        let Blocks { heads, head_terms, tails, terms } = &self.blocks;
        let blocks = heads.nbytes() + head_terms.nbytes() + tails.nbytes() + terms.nbytes();
        let slab = |slab: &LaterSlab| size_of::<LaterSlab>() + slab.codes.nbytes() + slab.terms.nbytes();
        let second = self.second.as_ref().map_or(0, |second| second.codes.nbytes() + second.terms.nbytes());
        blocks + second + self.later.iter().map(slab).sum::<usize>()
    }

    /// Codes a page; slots without a row get codes of zero and stay dead.
    pub(crate) fn push(&mut self, page: &Page, kernels: &Kernels) {
        let start = self.blocks.heads.len() * BLOCK;
        for half in [&mut self.blocks.heads, &mut self.blocks.tails] {
            half.extend_with(PAGE / BLOCK, [Line([0; 64]); LINES]);
        }
        for terms in [&mut self.blocks.head_terms, &mut self.blocks.terms] {
            terms.extend_with(PAGE / BLOCK, Terms([0; 2 * BLOCK]));
        }
        if let Some(second) = &mut self.second {
            second.codes.extend_with(PAGE / BLOCK, [[Line([0; 64]); LINES]; 2]);
            second.terms.extend_with(PAGE / BLOCK, Terms([0; 2 * BLOCK]));
        }
        for slab in &mut self.later {
            slab.codes.extend_with(PAGE, RowCodes([0; SLAB / 2]));
            slab.terms.extend_with(PAGE, [0; 2]);
        }
        let coded = 1 + self.later.len().max(usize::from(self.second.is_some()));
        for first in (0..page.len()).step_by(4) {
            let rows: Vec<_> =
                (first..page.len().min(first + 4)).map(|slot| page.rows.decode(self.basis.dim(), slot)).collect();
            let rows: Vec<&[f32]> = rows.iter().map(|row| &row[..]).collect();
            let basis = self.basis.clone();
            let mut slabs = [0; 4];
            encode(&basis, kernels, coded, &rows, |number, code| {
                self.put(start + first + number, slabs[number], &code);
                slabs[number] += 1;
            });
        }
    }

    fn put(&mut self, row: usize, slab: usize, code: &SlabCode) {
        let (block, lane) = (row / BLOCK, row % BLOCK);
        if slab == 0 {
            let blocks = &mut self.blocks;
            transpose(code, lane, [&mut blocks.heads[block], &mut blocks.tails[block]]);
            for (terms, norms) in [(&mut blocks.head_terms, code.head), (&mut blocks.terms, code.whole)] {
                terms[block].0[2 * lane..2 * lane + 2].copy_from_slice(&[norms.residual, norms.error]);
            }
        } else {
            if let Some(second) = self.second.as_mut().filter(|_| slab == 1) {
                let [first, other] = &mut second.codes[block];
                transpose(code, lane, [first, other]);
                let terms = [code.whole.residual, code.whole.error];
                second.terms[block].0[2 * lane..2 * lane + 2].copy_from_slice(&terms);
            }
            if let Some(slab) = self.later.get_mut(slab - 1) {
                slab.codes[row] = RowCodes(std::array::from_fn(|b| code.levels[b] | code.levels[b + SLAB / 2] << 4));
                slab.terms[row] = [code.whole.residual, code.whole.error];
            }
        }
    }
}

/// Puts a vector's levels in their places in both halves of its block.
fn transpose(code: &SlabCode, lane: usize, halves: [&mut Block; 2]) {
    for (half, levels) in halves.into_iter().zip(code.levels.as_chunks::<HALF>().0) {
        for (line, levels) in half.iter_mut().zip(levels.as_chunks::<8>().0) {
            for byte in 0..4 {
                line.0[4 * lane + byte] = levels[byte] | levels[4 + byte] << 4;
            }
        }
    }
}
