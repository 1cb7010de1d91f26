//! A run of pages and their codes, laid out for scanning.

use super::page::{PAGE, Page};
use crate::codec::{Basis, SlabCode, encode};
use crate::simd::{BLOCK, Blocks, HEAD, Head, Kernels, Piece, RUN, RowCodes, SLAB};
use crate::values::Values;
use bytemuck::{Zeroable, cast_slice};
use std::sync::Arc;

/// Pages in a full segment.
pub(crate) const SEGMENT: usize = 64;
const _: () = assert!(SEGMENT * PAGE <= RUN * BLOCK);

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
    pub(crate) second: Option<Blocks>,
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
                for (slab, other) in codes.in_blocks().zip([Some(&other.blocks), other.second.as_ref()]) {
                    if let Some(other) = other {
                        slab.heads.extend_from_slice(&other.heads);
                        slab.rests.extend_from_slice(&other.rests);
                    }
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
        let in_blocks = || Blocks { heads: Values::with_capacity(blocks), rests: Values::with_capacity(blocks) };
        Self {
            basis: basis.clone(),
            blocks: in_blocks(),
            second: (basis.slabs().len() > 1).then(in_blocks),
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
        let in_blocks = [Some(&self.blocks), self.second.as_ref()].into_iter().flatten();
        let in_blocks = in_blocks.flat_map(|slab| [cast_slice(slab.heads.as_flattened()), cast_slice(&slab.rests)]);
        let later = self.later.iter().flat_map(|slab| [cast_slice(&slab.codes), slab.terms.as_flattened()]);
        in_blocks.chain(later)
    }

    /// The slabs that are kept in blocks.
    fn in_blocks(&mut self) -> impl Iterator<Item = &mut Blocks> {
        std::iter::once(&mut self.blocks).chain(&mut self.second)
    }

    /// Bytes held, the basis not counted.
    pub(crate) fn nbytes(&self) -> usize {
        let in_blocks = |slab: &Blocks| slab.heads.nbytes() + slab.rests.nbytes();
        let slab = |slab: &LaterSlab| size_of::<LaterSlab>() + slab.codes.nbytes() + slab.terms.nbytes();
        in_blocks(&self.blocks) + self.second.as_ref().map_or(0, in_blocks) + self.later.iter().map(slab).sum::<usize>()
    }

    /// Codes a page; slots without a row get codes of zero and stay dead.
    pub(crate) fn push(&mut self, page: &Page, kernels: &Kernels) {
        let start = self.blocks.heads.len() * BLOCK;
        for slab in self.in_blocks() {
            slab.heads.extend_with(PAGE / BLOCK, Zeroable::zeroed());
            slab.rests.extend_with(PAGE / BLOCK, Zeroable::zeroed());
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
        let norms = [code.whole.residual, code.whole.error];
        if let Some(blocks) = self.in_blocks().nth(slab) {
            let (block, lane) = (row / BLOCK, row % BLOCK);
            let (head, rest) = code.levels.split_at(HEAD);
            transpose(&mut blocks.heads[block], lane, head, [code.head.residual, code.head.error]);
            *blocks.rests[block].of_mut(lane) = Piece::new(rest, norms);
        }
        if let Some(slab) = slab.checked_sub(1).and_then(|later| self.later.get_mut(later)) {
            slab.codes[row] = RowCodes(std::array::from_fn(|b| code.levels[b] | code.levels[b + SLAB / 2] << 4));
            slab.terms[row] = norms;
        }
    }
}

/// Puts a vector's levels in the head of a slab, and what they leave out, in their places in its block.
fn transpose(head: &mut Head, lane: usize, levels: &[u8], norms: [u8; 2]) {
    for (line, levels) in head.iter_mut().zip(levels.chunks(8)) {
        let (low, high) = levels.split_at(levels.len() / 2);
        for (byte, (low, high)) in line.0[4 * lane..].iter_mut().zip(low.iter().zip(high)) {
            *byte = low | high << 4;
        }
    }
    head[HEAD / 8].0[4 * lane + 2..4 * lane + 4].copy_from_slice(&norms);
}
