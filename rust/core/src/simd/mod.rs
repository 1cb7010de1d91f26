//! Kernels, one set for each instruction set, and the choice between them.
//!
//! The choice is made once for the process: `kernels` hands out a table of functions, and a scan
//! looks into it once, not once for each vector. `NEARHIT_ISA` (`scalar`, `avx2`, `avx512`, `neon`)
//! overrides the choice, for tests, where the machine has that set.
//!
//! Every kernel returns the same bits on every instruction set: integer sums are exact, and float
//! sums use 32 lanes, separate multiply and add, and one fixed reduction tree everywhere. So a
//! similarity never depends on the machine that computed it. The encoder's kernels (`gemm`, `encode`) sum
//! integers exactly too, but their float parts fuse multiply and add where they can and may differ by rounding.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod detected;
pub(crate) mod encode;
pub(crate) mod gemm;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod prefetch;
mod scalar;

use crate::values::Values;
use std::sync::LazyLock;

pub use detected::Detected;
pub(crate) use prefetch::prefetch;

/// Dimensions of one slab: what one projection and one integer scan cover.
pub(crate) const SLAB: usize = 64;
/// Vectors in one block of the transposed layout.
pub(crate) const BLOCK: usize = 16;
/// Most blocks of a run: a full segment of the index.
pub(crate) const RUN: usize = 256;
/// Dimensions of a slab's head. The first slab's, where most of the energy is, rules out most blocks by itself.
pub(crate) const HEAD: usize = 36;
/// Dimensions of the rest of a slab.
pub(crate) const REST: usize = SLAB - HEAD;
/// Fixed-point fraction bits of the bound's float terms beside the integer dot product of a whole slab.
pub(crate) const FRACTION_BITS: u32 = 6;

/// One cache line of a head: four bytes for each of 16 vectors. Byte `b` of line `j` holds dimension `8j + b` in its low and
/// `8j + 4 + b` in its high half. In the last line, only bytes 0 and 1 hold codes, of dimensions 32 to 35; byte 2 is the norm
/// outside the head, and byte 3 the coding error within it: so the test of a head is one sum of products, bytes with weights.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

/// The heads' codes of 16 vectors, transposed.
pub(crate) type Head = [Line; HEAD / 8 + 1];

/// One vector's code in the rest of a slab: byte `b` of the first fourteen holds dimension `b` in its low and `14 + b` in its
/// high half; then come the norm outside the slab and the coding error within it. A vector that its head does not rule out
/// costs one cache line more so, transposed it would be four.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct Piece(pub(crate) [u8; 16]);

/// The pieces of 16 vectors. Vector `v` is the one at `4 (v % 4) + v / 4`: four registers of four pieces, as they lie, add up
/// to sums in the order of the vectors.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Rest([Piece; BLOCK]);

/// The codes of a run of vectors in one slab, block by block.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// All that a scan reads of most blocks.
    pub(crate) heads: Values<Head>,
    pub(crate) rests: Values<Rest>,
}

impl Line {
    /// What a last line holds of a vector beside its codes.
    fn terms(&self, lane: usize) -> [u8; 2] {
        [self.0[4 * lane + 2], self.0[4 * lane + 3]]
    }
}

impl Piece {
    /// From a level for each dimension, and the slab's norms.
    pub(crate) fn new(levels: &[u8], [residual, error]: [u8; 2]) -> Self {
        let (low, high) = levels.split_at(REST / 2);
        let mut bytes = [0; 16];
        for (byte, (low, high)) in bytes.iter_mut().zip(low.iter().zip(high)) {
            *byte = low | high << 4;
        }
        bytes[REST / 2..].copy_from_slice(&[residual, error]);
        Self(bytes)
    }

    /// The norm outside the slab and the coding error within it.
    fn terms(&self) -> [u8; 2] {
        [self.0[REST / 2], self.0[REST / 2 + 1]]
    }
}

impl Rest {
    fn of(&self, lane: usize) -> &Piece {
        &self.0[4 * (lane % 4) + lane / 4 % 4]
    }

    /// The piece of the vector in a lane.
    pub(crate) fn of_mut(&mut self, lane: usize) -> &mut Piece {
        &mut self.0[4 * (lane % 4) + lane / 4 % 4]
    }
}

#[cfg(target_arch = "x86_64")]
impl Blocks {
    fn piece(&self, row: u32) -> &Piece {
        self.rests[row as usize / BLOCK].of(row as usize % BLOCK)
    }
}

/// One row of a projection: what one coordinate of a vector adds to each of a slab's columns.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Columns(pub(crate) [f32; SLAB]);

/// The codes of one vector in one slab, row by row: byte `b` holds dimension `b` in its low and
/// dimension `32 + b` in its high half.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct RowCodes(pub(crate) [u8; SLAB / 2]);

/// A slab's weights, in -127..=127, in the order of codes, and none for the norms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words {
    /// For the low and the high halves of each line of a head, four to a word.
    head: [[i32; 2]; HEAD / 8 + 1],
    /// For the low and the high halves of a piece.
    rest: [[i8; 16]; 2],
}

impl Words {
    /// From the weight of each dimension.
    pub(crate) fn new(weights: &[i8; SLAB]) -> Self {
        let (head, rest) = weights.split_at(HEAD);
        let mut words = [[0; 2]; HEAD / 8 + 1];
        for (words, weights) in words.iter_mut().zip(head.chunks(8)) {
            for (word, weights) in words.iter_mut().zip(weights.chunks(weights.len() / 2)) {
                let mut bytes = [0; 4];
                bytes.iter_mut().zip(weights).for_each(|(byte, weight)| *byte = *weight as u8);
                *word = i32::from_le_bytes(bytes);
            }
        }
        let mut halves = [[0; 16]; 2];
        for (half, weights) in halves.iter_mut().zip(rest.chunks(REST / 2)) {
            half[..REST / 2].copy_from_slice(weights);
        }
        Self { head: words, rest: halves }
    }
}

/// A query prepared for [`Kernels::scan`]: those vectors survive that pass both tests.
#[derive(Debug, Clone)]
pub(crate) struct ScanQuery {
    pub(crate) words: Words,
    /// The test of the head alone; with a limit of `i32::MIN` it is left out.
    pub(crate) head: HeadCut,
    /// The test of the whole slab.
    pub(crate) whole: Cut,
}

/// A test of the head: `sum of weight * code + residual * t + error * e >= limit`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadCut {
    /// Weight of the residual norm, not negative.
    pub(crate) residual: i8,
    /// Weight of the coding error, not negative.
    pub(crate) error: i8,
    /// Least value that survives.
    pub(crate) limit: i32,
}

impl HeadCut {
    /// Both weights, where a last line has the norms.
    #[cfg(target_arch = "x86_64")]
    fn terms(self) -> i32 {
        i32::from_le_bytes([0, 0, self.residual as u8, self.error as u8])
    }
}

/// A test of the whole: `(sum of weight * code << FRACTION_BITS) + residual * t + error * e >= limit`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Weight of the residual norm.
    pub(crate) residual: i16,
    /// Weight of the coding error.
    pub(crate) error: i16,
    /// Least value that survives.
    pub(crate) limit: i32,
}

#[cfg(target_arch = "x86_64")]
impl Cut {
    /// Both weights, as pairs of 16 bits are multiplied and added.
    fn pair(self) -> i32 {
        (i32::from(self.error) << 16) | i32::from(self.residual as u16)
    }
}

/// A vector that [`Kernels::scan`] could not rule out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Candidate {
    /// Its number in the run.
    pub(crate) row: u32,
    /// Its bound without the residual term.
    pub(crate) partial: i32,
}

/// Projects four vectors.
type ProjectFour = fn(&[Columns], [&[f32]; 4]) -> [[f32; SLAB]; 4];

/// A query in one slab, in single precision.
#[derive(Debug, Clone)]
pub(crate) struct SlabPart {
    /// Weight of each dimension, in -127..=127.
    pub(crate) weights: [i8; SLAB],
    /// What one unit of the inner product is worth.
    pub(crate) unit: f32,
    /// What one unit of the coding error is worth.
    pub(crate) error: f32,
}

/// A query in a slab that is kept in blocks, in single precision.
#[derive(Debug, Clone)]
pub(crate) struct DeepPart {
    pub(crate) words: Words,
    /// What one unit of the inner product is worth.
    pub(crate) unit: f32,
    /// What one unit of the coding error is worth.
    pub(crate) error: f32,
}

/// A query prepared for [`Kernels::scan_deep`]: both slabs are tested together, the first alone is not.
#[derive(Debug, Clone)]
pub(crate) struct DeepQuery {
    pub(crate) parts: [DeepPart; 2],
    /// What one unit of the residual norm is worth.
    pub(crate) residual: f32,
    /// To be added for each row, single precision's rounding included.
    pub(crate) offset: f32,
    /// Least bound that survives.
    pub(crate) floor: f32,
}

/// A query prepared for [`Kernels::sieve`].
#[derive(Debug, Clone)]
pub(crate) struct SieveQuery {
    pub(crate) part: SlabPart,
    /// What one unit of the residual norm is worth.
    pub(crate) residual: f32,
    /// To be added for each row, single precision's rounding included.
    pub(crate) offset: f32,
    /// Least bound that survives.
    pub(crate) floor: f32,
}

/// A vector that is not ruled out yet.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub(crate) struct Reach {
    /// Its number in the run.
    pub(crate) row: u32,
    /// Its bound without the residual term.
    pub(crate) reach: f32,
}

/// Appends the vectors that survive; returns the number of those whose rest had to be looked at. There are at most [`RUN`]
/// blocks.
type Scan = fn(&ScanQuery, &Blocks, &mut Vec<Candidate>) -> usize;

/// Appends the vectors that survive the test of the first two slabs.
type ScanDeep = fn(&DeepQuery, [&Blocks; 2], &mut Vec<Reach>);

/// Adds a slab's part to the bounds and drops what it rules out, given the codes and terms of all rows in that slab.
type Sieve = fn(&SieveQuery, &[RowCodes], &[[u8; 2]], &mut Vec<Reach>);

/// The functions of one instruction set.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// Which one.
    pub(crate) isa: Isa,
    /// Inner product of two slices of equal length.
    pub(crate) dot: fn(&[f32], &[f32]) -> f32,
    /// Inner product of half-precision numbers, by their bits, with floats.
    pub(crate) dot_half: fn(&[u16], &[f32]) -> f32,
    /// Inner product of bytes with floats.
    pub(crate) dot_bytes: fn(&[i8], &[f32]) -> f32,
    /// Inner product of bytes with bytes, both in -127..=127, exactly; of at most 2^16 of them.
    pub(crate) byte_dot: fn(&[i8], &[i8]) -> i32,
    /// `x` times a matrix of `x.len()` rows.
    pub(crate) project: fn(&[Columns], &[f32]) -> [f32; SLAB],
    /// The same for four vectors at once, which reads the matrix once.
    pub(crate) project_four: ProjectFour,
    /// Adds the outer products of four vectors with themselves to a square matrix, on and above its diagonal; below it, anything.
    pub(crate) add_outer: fn(&mut [f32], [&[f32]; 4]),
    /// Appends what may reach the limit.
    pub(crate) scan: Scan,
    /// Appends what may reach the floor by two slabs.
    pub(crate) scan_deep: ScanDeep,
    /// Inner product of row-wise codes with weights.
    pub(crate) code_dot: fn(&RowCodes, &[i8; SLAB]) -> i32,
    /// Drops what one more slab rules out.
    pub(crate) sieve: Sieve,
}

/// An instruction set with kernels of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Portable code; the reference that the others are tested against.
    Scalar,
    /// 256-bit integer and float vectors.
    Avx2,
    /// 512-bit vectors with the byte dot product (VNNI).
    Avx512,
    /// 128-bit vectors of 64-bit ARM.
    Neon,
}

impl Isa {
    /// The name that `NEARHIT_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }
}

/// The kernels of an instruction set, if this machine has it.
pub(crate) fn kernels_of(isa: Isa) -> Option<&'static Kernels> {
    match isa {
        Isa::Scalar => Some(&scalar::KERNELS),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::kernels(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::kernels(),
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => None,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::kernels(),
        #[cfg(not(target_arch = "aarch64"))]
        Isa::Neon => None,
    }
}

/// The kernels of this process.
pub(crate) fn kernels() -> &'static Kernels {
    static CHOICE: LazyLock<&'static Kernels> = LazyLock::new(|| {
        let best = [Isa::Avx512, Isa::Avx2, Isa::Neon].into_iter().find_map(kernels_of).unwrap_or(&scalar::KERNELS);
        std::env::var("NEARHIT_ISA").map_or(best, |name| {
            [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon]
                .into_iter()
                .find(|isa| isa.name() == name)
                .and_then(kernels_of)
                .unwrap_or(best)
        })
    });
    *CHOICE
}

/// The instruction set in use.
pub fn isa() -> Isa {
    kernels().isa
}

#[cfg(test)]
mod tests;
