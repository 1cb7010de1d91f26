//! What the first pass of a scan hands to the second.
//!
//! The first pass has no branch that depends on what it finds, and the second one knows its addresses well ahead: a
//! scan that decides block by block waits for a wrong guess at every block that is left.
#![expect(unsafe_code, reason = "room that is not filled before it is needed")]

use super::BLOCK;
use std::mem::MaybeUninit;

/// Blocks in one first pass: a full segment of the index.
pub(super) const CHUNK: usize = 256;

/// Integer sums of one block.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [i32; BLOCK]);

/// The blocks of a chunk that the first half of the slab left, with its sums.
#[derive(Debug)]
pub(super) struct Left {
    /// Written up to `count`.
    sums: [MaybeUninit<Sums>; CHUNK],
    numbers: [MaybeUninit<u32>; CHUNK],
    count: usize,
}

impl Left {
    #[inline]
    pub(super) fn new() -> Self {
        Self { sums: [MaybeUninit::uninit(); CHUNK], numbers: [MaybeUninit::uninit(); CHUNK], count: 0 }
    }

    /// Takes down the sums of block `number`, and keeps them if it is left; at most [`CHUNK`] blocks.
    #[inline]
    pub(super) fn offer(&mut self, number: usize, sums: Sums, is_left: bool) {
        let at = self.count % CHUNK;
        self.sums[at].write(sums);
        self.numbers[at].write(number as u32);
        self.count += usize::from(is_left);
    }

    /// Number of blocks that are left.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The blocks that are left.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Sums, usize)> {
        self.sums.iter().zip(&self.numbers).take(self.count).map(|(sums, number)| {
            // SAFETY: `count` grows by at most one with each call of `offer`, which has written the place before it.
            unsafe { (sums.assume_init_ref(), number.assume_init() as usize) }
        })
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }
}
