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
#[cfg(target_arch = "x86_64")]
mod left;
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
/// Dimensions of half a slab. The first half, where most of the energy is, rules out most blocks by itself.
pub(crate) const HALF: usize = SLAB / 2;
/// Cache lines of codes in one block: 16 vectors x 32 dimensions x 4 bits.
pub(crate) const LINES: usize = BLOCK * HALF / 2 / 64;
/// Fixed-point fraction bits of the bound's float terms beside the integer dot product.
pub(crate) const FRACTION_BITS: u32 = 6;

/// One cache line of codes. Line `j` of a block holds for each of its 16 vectors four bytes; byte
/// `b` holds dimension `8j + b` of its half of the slab in its low and `8j + 4 + b` in its high half.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

/// The codes of 16 vectors in half a slab, transposed.
pub(crate) type Block = [Line; LINES];

/// The codes of 16 vectors in both halves of a slab.
pub(crate) type WholeBlock = [Block; 2];

/// The codes of a run of vectors in their second slab, block by block: read where the first leaves most of them.
#[derive(Debug, Default)]
pub(crate) struct SecondBlocks {
    pub(crate) codes: Values<WholeBlock>,
    /// What belongs to both slabs together: norms outside them, coding errors in the second.
    pub(crate) terms: Values<Terms>,
}

/// The codes of a run of vectors in their first slab, block by block.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// First halves of the slab: all that a scan reads of most blocks.
    pub(crate) heads: Values<Block>,
    /// What belongs to the first halves: norms outside them, coding errors within.
    pub(crate) head_terms: Values<Terms>,
    /// Second halves.
    pub(crate) tails: Values<Block>,
    /// What belongs to both halves together.
    pub(crate) terms: Values<Terms>,
}

/// Per-vector terms of the bound for one block: residual norm and coding error, interleaved.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Terms(pub(crate) [u8; 2 * BLOCK]);

/// One row of a projection: what one coordinate of a vector adds to each of a slab's columns.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Columns(pub(crate) [f32; SLAB]);

/// The codes of one vector in one slab, row by row: byte `b` holds dimension `b` in its low and
/// dimension `32 + b` in its high half.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct RowCodes(pub(crate) [u8; SLAB / 2]);

/// A query prepared for [`Kernels::scan`]. Where no vector of a block passes the test of the first half, the block is
/// passed over; of the others, those vectors survive that pass the test of the whole.
#[derive(Debug, Clone)]
pub(crate) struct ScanQuery {
    /// Weight of each dimension, in -127..=127.
    pub(crate) weights: [i8; SLAB],
    /// The test of the first half alone; with a limit of `i32::MIN` it is left out.
    pub(crate) head: Cut,
    /// The test of the whole slab.
    pub(crate) whole: Cut,
}

/// One test: `(sum of weight * code << FRACTION_BITS) + residual * t + error * e >= limit`.
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

/// A query prepared for [`Kernels::scan_deep`]: both slabs are tested together, the first alone is not.
#[derive(Debug, Clone)]
pub(crate) struct DeepQuery {
    pub(crate) parts: [SlabPart; 2],
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

/// Appends the vectors that survive; returns the number of blocks whose second half had to be looked at.
type Scan = fn(&ScanQuery, &Blocks, &mut Vec<Candidate>) -> usize;

/// Appends the vectors that survive the test of the first two slabs.
type ScanDeep = fn(&DeepQuery, &Blocks, &SecondBlocks, &mut Vec<Reach>);

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
