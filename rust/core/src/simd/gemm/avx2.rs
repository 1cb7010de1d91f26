//! AVX2: 3 rows x 16 outputs in registers, with 16-bit multiply-adds.
//!
//! `vpmaddubsw` would do twice the work per instruction but saturates at 16 bits (255 * 127 * 2 is
//! twice what fits), so bytes are widened to 16 bits first and `vpmaddwd` sums pairs exactly into 32.

#![expect(unsafe_code, reason = "vector loads and stores through pointers")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_cvtepu8_epi16, _mm_cvtsi32_si128, _mm_loadu_si128, _mm256_add_epi32, _mm256_add_ps,
    _mm256_broadcastq_epi64, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_hadd_epi32,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mul_ps, _mm256_mullo_epi32,
    _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_ps,
    _mm256_sub_epi32,
};

use super::rows::STEP;
use super::{Line, PANEL, PackedWeights, QuantisedRows};

/// Rows at a time: 3 x 4 sums, one weight, one product and one activation each fill 16 registers.
const SUBTILE: usize = 3;

pub(super) fn multiply(rows: &QuantisedRows, weights: &PackedWeights, residual: Option<&[f32]>, out: &mut [f32]) {
    // SAFETY: `Detected` with `Isa::Avx2`, the only way here, exists only where the processor has these features.
    unsafe { multiply_all(rows, weights, residual, out) }
}

#[target_feature(enable = "avx2,fma")]
fn multiply_all(rows: &QuantisedRows, weights: &PackedWeights, residual: Option<&[f32]>, out: &mut [f32]) {
    let steps = weights.inputs / STEP;
    for (panel, lines) in weights.lines.chunks_exact(4 * steps).enumerate() {
        for (start, count, words) in rows.tiles() {
            for half in 0..2 {
                let part =
                    Part { rows, weights, residual, lines, words, half, first: panel * PANEL + half * 16, count };
                for row in (0..count).step_by(SUBTILE) {
                    match count - row {
                        1 => tile::<1>(&part, start, row, out),
                        2 => tile::<2>(&part, start, row, out),
                        _ => tile::<SUBTILE>(&part, start, row, out),
                    }
                }
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
    /// Rows of the tile.
    count: usize,
}

/// Rows `within..within + R` of the tile that starts at row `tile`.
#[target_feature(enable = "avx2,fma")]
fn tile<const R: usize>(part: &Part<'_>, tile: usize, within: usize, out: &mut [f32]) {
    let &Part { rows, weights, residual, lines, words, half, first, count } = part;
    let start = tile + within;
    // Register q of a row holds outputs 4q..4q+4, each as two sums of one pair of inputs.
    let mut sums = [[_mm256_setzero_si256(); 4]; R];
    for group in 0..lines.len() / 2 {
        let line = &lines[2 * group + half];
        let mut activations = [_mm256_setzero_si256(); R];
        for (row, activation) in activations.iter_mut().enumerate() {
            let word = (words[group / 2 * count + within + row] >> (group % 2 * 32)) as i32;
            *activation = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(word)));
        }
        for quarter in 0..4 {
            let bytes = &line.0[quarter * 16..quarter * 16 + 16];
            // SAFETY: `bytes` is 16 bytes long.
            let weight = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
            for (sum, &activation) in sums.iter_mut().zip(&activations) {
                sum[quarter] = _mm256_add_epi32(sum[quarter], _mm256_madd_epi16(activation, weight));
            }
        }
    }
    for eight in 0..2 {
        let output = first + eight * 8;
        let scales = load_f32(&weights.scales[output..output + 8]);
        let bias = load_f32(&weights.bias[output..output + 8]);
        let column_sums = load_i32(&weights.column_sums[output..output + 8]);
        for (row, sum) in sums.iter().enumerate() {
            let at = (start + row) * weights.outputs + output;
            // hadd works within 128-bit halves, which leaves the middle two quarters exchanged.
            let paired = _mm256_hadd_epi32(sum[2 * eight], sum[2 * eight + 1]);
            let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(paired);
            let zero = _mm256_set1_epi32(rows.zeros()[start + row]);
            let scale = _mm256_mul_ps(_mm256_set1_ps(rows.scales()[start + row]), scales);
            let exact = _mm256_cvtepi32_ps(_mm256_sub_epi32(ordered, _mm256_mullo_epi32(zero, column_sums)));
            let base = match residual {
                Some(residual) => _mm256_add_ps(bias, load_f32(&residual[at..at + 8])),
                None => bias,
            };
            let slot = &mut out[at..at + 8];
            // SAFETY: `slot` is 8 floats long.
            unsafe { _mm256_storeu_ps(slot.as_mut_ptr(), _mm256_fmadd_ps(exact, scale, base)) };
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_f32(values: &[f32]) -> __m256 {
    assert_eq!(values.len(), 8);
    // SAFETY: 8 floats, checked above.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_i32(values: &[i32]) -> __m256i {
    assert_eq!(values.len(), 8);
    // SAFETY: 8 integers, checked above.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}
