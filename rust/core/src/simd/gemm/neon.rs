//! NEON: 6 rows x 16 outputs in registers with the dot-product instruction, 2 rows where there is none.
//!
//! Activations are unsigned and `sdot` takes signed bytes, so 128 is taken off each (one exclusive or), and the zero
//! point with it. The instruction is written out: its intrinsic is not in stable Rust. Without it, two 16-bit
//! products of signed bytes fit into one 16-bit sum (2 * 128 * 127 < 32,768), which is widened then.

#![expect(unsafe_code, reason = "vector loads and stores through pointers, and an instruction without an intrinsic")]

use std::arch::aarch64::{
    float32x4_t, int8x8_t, int8x16_t, int32x4_t, vaddq_f32, vcvtq_f32_s32, vdup_n_u8, vdupq_lane_s32, vdupq_n_f32,
    vdupq_n_s32, veor_u8, vfmaq_f32, vget_low_s8, vld1_u8, vld1q_f32, vld1q_s8, vld1q_s32, vmlal_high_s8, vmlal_s8,
    vmlaq_s32, vmull_high_s8, vmull_s8, vmulq_f32, vpadalq_s16, vpaddq_s32, vreinterpret_s8_u8, vreinterpret_s32_s8,
    vreinterpretq_s8_s32, vst1q_f32,
};
use std::arch::asm;

use super::rows::STEP;
use super::{Line, PANEL, PackedWeights, QuantisedRows};

/// Rows at a time with `sdot`: 6 x 4 sums, 4 weights and an activation fill 29 of 32 registers.
const DOT_ROWS: usize = 6;
/// Rows at a time without: 2 x 8 sums, 4 weights and what is on its way between them.
const WIDE_ROWS: usize = 2;
/// What is taken off each activation to make it signed.
const SHIFT: i32 = 128;

pub(super) fn multiply(rows: &QuantisedRows, weights: &PackedWeights, residual: Option<&[f32]>, out: &mut [f32]) {
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        // SAFETY: the processor has the dot product, as just seen, and NEON, without which there is no `Isa::Neon`.
        unsafe { multiply_dot(rows, weights, residual, out) }
    } else {
        // SAFETY: `Detected` with `Isa::Neon`, the only way here, exists only where the processor has it.
        unsafe { multiply_wide(rows, weights, residual, out) }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn multiply_dot(rows: &QuantisedRows, weights: &PackedWeights, residual: Option<&[f32]>, out: &mut [f32]) {
    for part in Part::all(rows, weights, residual) {
        for within in (0..part.count).step_by(DOT_ROWS) {
            match part.count - within {
                1 => dot_tile::<1>(&part, within, out),
                2 => dot_tile::<2>(&part, within, out),
                3 => dot_tile::<3>(&part, within, out),
                4 => dot_tile::<4>(&part, within, out),
                5 => dot_tile::<5>(&part, within, out),
                _ => dot_tile::<DOT_ROWS>(&part, within, out),
            }
        }
    }
}

#[target_feature(enable = "neon")]
pub(super) fn multiply_wide(rows: &QuantisedRows, weights: &PackedWeights, residual: Option<&[f32]>, out: &mut [f32]) {
    for part in Part::all(rows, weights, residual) {
        for within in (0..part.count).step_by(WIDE_ROWS) {
            match part.count - within {
                1 => wide_tile::<1>(&part, within, out),
                _ => wide_tile::<WIDE_ROWS>(&part, within, out),
            }
        }
    }
}

/// 16 outputs of the rows of one tile.
struct Part<'a> {
    rows: &'a QuantisedRows,
    weights: &'a PackedWeights,
    residual: Option<&'a [f32]>,
    lines: &'a [Line],
    words: &'a [u64],
    /// Which half of each pair of lines.
    half: usize,
    /// First output.
    first: usize,
    /// First row of the tile.
    start: usize,
    /// Rows of the tile.
    count: usize,
}

impl<'a> Part<'a> {
    fn all(
        rows: &'a QuantisedRows,
        weights: &'a PackedWeights,
        residual: Option<&'a [f32]>,
    ) -> impl Iterator<Item = Self> {
        let steps = weights.inputs / STEP;
        weights.lines.chunks_exact(4 * steps).enumerate().flat_map(move |(panel, lines)| {
            rows.tiles().flat_map(move |(start, count, words)| {
                assert!(words.len() == steps * count, "one tile of rows");
                (0..2).map(move |half| {
                    let first = panel * PANEL + half * 16;
                    Self { rows, weights, residual, lines, words, half, first, start, count }
                })
            })
        })
    }

    /// The quarters of this half's line of one group: 4 outputs x 4 inputs each.
    #[inline]
    #[target_feature(enable = "neon")]
    fn quarters(&self, group: usize) -> [int8x16_t; 4] {
        let line = &self.lines[2 * group + self.half].0;
        std::array::from_fn(|quarter| {
            // SAFETY: a line is 64 bytes, four quarters of 16.
            unsafe { vld1q_s8(line.as_ptr().add(16 * quarter)) }
        })
    }

    /// The two groups of a row in one step, made signed.
    #[inline]
    #[target_feature(enable = "neon")]
    fn activations(&self, step: usize, within: usize) -> int8x8_t {
        let word = &self.words[step * self.count + within];
        // SAFETY: a word is 8 bytes.
        let bytes = unsafe { vld1_u8(std::ptr::from_ref(word).cast()) };
        vreinterpret_s8_u8(veor_u8(bytes, vdup_n_u8(0x80)))
    }

    /// Turns the sums of one row into floats.
    #[inline]
    #[target_feature(enable = "neon")]
    fn finish(&self, within: usize, sums: [int32x4_t; 4], out: &mut [f32]) {
        let row = self.start + within;
        let at = row * self.weights.outputs + self.first;
        let zero = vdupq_n_s32(SHIFT - self.rows.zeros()[row]);
        let row_scale = vdupq_n_f32(self.rows.scales()[row]);
        for (quarter, sum) in sums.into_iter().enumerate() {
            let output = self.first + 4 * quarter;
            let column_sums = load_i32(&self.weights.column_sums[output..output + 4]);
            let exact = vcvtq_f32_s32(vmlaq_s32(sum, zero, column_sums));
            let scale = vmulq_f32(row_scale, load_f32(&self.weights.scales[output..output + 4]));
            let bias = load_f32(&self.weights.bias[output..output + 4]);
            let at = at + 4 * quarter;
            let base = match self.residual {
                Some(residual) => vaddq_f32(bias, load_f32(&residual[at..at + 4])),
                None => bias,
            };
            let slot = &mut out[at..at + 4];
            // SAFETY: `slot` is 4 floats long.
            unsafe { vst1q_f32(slot.as_mut_ptr(), vfmaq_f32(base, exact, scale)) };
        }
    }
}

/// Rows `within..within + R` of the tile.
#[inline(never)]
#[target_feature(enable = "neon,dotprod")]
fn dot_tile<const R: usize>(part: &Part<'_>, within: usize, out: &mut [f32]) {
    let mut sums = [[vdupq_n_s32(0); 4]; R];
    for step in 0..part.lines.len() / 4 {
        let (first, second) = (part.quarters(2 * step), part.quarters(2 * step + 1));
        for (row, sums) in sums.iter_mut().enumerate() {
            let activations = part.activations(step, within + row);
            for (sum, (first, second)) in sums.iter_mut().zip(first.into_iter().zip(second)) {
                *sum = dot::<0>(*sum, first, activations);
                *sum = dot::<1>(*sum, second, activations);
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        part.finish(within + row, sums, out);
    }
}

/// Adds to each lane the product of its four weights with the four activations of one group.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const GROUP: i32>(mut sum: int32x4_t, weights: int8x16_t, activations: int8x8_t) -> int32x4_t {
    // SAFETY: an instruction on registers alone, of a feature that this function enables.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {activations:v}.4b[{group}]",
            sum = inout(vreg) sum,
            weights = in(vreg) weights,
            activations = in(vreg) activations,
            group = const GROUP,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Rows `within..within + R` of the tile.
#[inline(never)]
#[target_feature(enable = "neon")]
fn wide_tile<const R: usize>(part: &Part<'_>, within: usize, out: &mut [f32]) {
    // Two registers for four outputs, each sum of an output in two halves.
    let mut sums = [[[vdupq_n_s32(0); 2]; 4]; R];
    for step in 0..part.lines.len() / 4 {
        let (first, second) = (part.quarters(2 * step), part.quarters(2 * step + 1));
        for (row, sums) in sums.iter_mut().enumerate() {
            let activations = part.activations(step, within + row);
            let (one, two) = (group::<0>(activations), group::<1>(activations));
            for (sums, (first, second)) in sums.iter_mut().zip(first.into_iter().zip(second)) {
                let low = vmull_s8(vget_low_s8(first), vget_low_s8(one));
                let high = vmull_high_s8(first, one);
                let low = vmlal_s8(low, vget_low_s8(second), vget_low_s8(two));
                let high = vmlal_high_s8(high, second, two);
                *sums = [vpadalq_s16(sums[0], low), vpadalq_s16(sums[1], high)];
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        part.finish(within + row, sums.map(|[low, high]| vpaddq_s32(low, high)), out);
    }
}

/// The four activations of one group, four times over.
#[inline]
#[target_feature(enable = "neon")]
fn group<const GROUP: i32>(activations: int8x8_t) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_lane_s32::<GROUP>(vreinterpret_s32_s8(activations)))
}

#[inline]
#[target_feature(enable = "neon")]
fn load_f32(values: &[f32]) -> float32x4_t {
    assert_eq!(values.len(), 4);
    // SAFETY: 4 floats, checked above.
    unsafe { vld1q_f32(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_i32(values: &[i32]) -> int32x4_t {
    assert_eq!(values.len(), 4);
    // SAFETY: 4 integers, checked above.
    unsafe { vld1q_s32(values.as_ptr()) }
}
