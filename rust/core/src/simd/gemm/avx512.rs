//! AVX-512 VNNI: up to 12 rows x 32 outputs in registers. `vpdpbusd` sums four u8 x i8 products into 32 bits without
//! saturating, so the integers equal the reference's. Prefetching weights by hand, 1 to 8 KB ahead, gained nothing
//! while they are in the cache and cost up to a quarter when they are not.

#![expect(unsafe_code, reason = "vector loads and stores through pointers")]

use std::arch::x86_64::{
    __m512i, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_load_si512,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_mullo_epi32, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_storeu_ps, _mm512_sub_epi32,
};

use super::rows::{STEP, TILE};
use super::{Line, PANEL, PackedWeights, QuantisedRows};

pub(super) fn multiply(rows: &QuantisedRows, weights: &PackedWeights, residual: Option<&[f32]>, out: &mut [f32]) {
    // SAFETY: `Detected` with `Isa::Avx512`, the only way here, exists only where the processor has these features.
    unsafe { multiply_all(rows, weights, residual, out) }
}

/// Everything a tile needs that does not change from tile to tile.
struct Problem<'a> {
    rows: &'a QuantisedRows,
    weights: &'a PackedWeights,
    residual: Option<&'a [f32]>,
    steps: usize,
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn multiply_all(rows: &QuantisedRows, weights: &PackedWeights, residual: Option<&[f32]>, out: &mut [f32]) {
    let steps = weights.inputs / STEP;
    let problem = Problem { rows, weights, residual, steps };
    for (panel, lines) in weights.lines.chunks_exact(4 * steps).enumerate() {
        for (start, count, words) in rows.tiles() {
            match count {
                1 => tile::<1>(&problem, lines, panel, start, words, out),
                2 => tile::<2>(&problem, lines, panel, start, words, out),
                3 => tile::<3>(&problem, lines, panel, start, words, out),
                4 => tile::<4>(&problem, lines, panel, start, words, out),
                5 => tile::<5>(&problem, lines, panel, start, words, out),
                6 => tile::<6>(&problem, lines, panel, start, words, out),
                7 => tile::<7>(&problem, lines, panel, start, words, out),
                8 => tile::<8>(&problem, lines, panel, start, words, out),
                9 => tile::<9>(&problem, lines, panel, start, words, out),
                10 => tile::<10>(&problem, lines, panel, start, words, out),
                11 => tile::<11>(&problem, lines, panel, start, words, out),
                _ => tile::<TILE>(&problem, lines, panel, start, words, out),
            }
        }
    }
}

/// One panel for rows `start..start + R`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile<const R: usize>(
    problem: &Problem<'_>,
    lines: &[Line],
    panel: usize,
    start: usize,
    words: &[u64],
    out: &mut [f32],
) {
    let steps = problem.steps;
    assert!(words.len() == steps * R && lines.len() == 4 * steps, "one tile of rows and one panel of weights");
    // Two arrays, not one of pairs: the compiler then keeps all sums in registers from the start.
    let (mut low, mut high) = ([_mm512_setzero_si512(); R], [_mm512_setzero_si512(); R]);
    for step in 0..steps {
        for group in 0..2 {
            let index = 4 * step + 2 * group;
            // SAFETY: index + 1 < 4 * steps, the number of lines, checked above.
            let (first, second) = unsafe { (line(lines, index), line(lines, index + 1)) };
            for row in 0..R {
                // SAFETY: step * R + row < steps * R, the number of words, checked above; each is two groups.
                let word = unsafe { words.as_ptr().add(step * R + row).cast::<i32>().add(group).read() };
                let activation = _mm512_set1_epi32(word);
                low[row] = _mm512_dpbusd_epi32(low[row], activation, first);
                high[row] = _mm512_dpbusd_epi32(high[row], activation, second);
            }
        }
    }
    finish(problem, &low, panel * PANEL, start, out);
    finish(problem, &high, panel * PANEL + 16, start, out);
}

/// Turns the sums of `R` rows and 16 outputs into floats.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn finish<const R: usize>(problem: &Problem<'_>, sums: &[__m512i; R], first: usize, start: usize, out: &mut [f32]) {
    let weights = problem.weights;
    let scales = load_f32(&weights.scales[first..first + 16]);
    let bias = load_f32(&weights.bias[first..first + 16]);
    let column_sums = load_i32(&weights.column_sums[first..first + 16]);
    for (row, &sum) in sums.iter().enumerate() {
        let at = (start + row) * weights.outputs + first;
        let zero = _mm512_set1_epi32(problem.rows.zeros()[start + row]);
        let scale = _mm512_mul_ps(_mm512_set1_ps(problem.rows.scales()[start + row]), scales);
        let exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_mullo_epi32(zero, column_sums)));
        let base = match problem.residual {
            Some(residual) => _mm512_add_ps(bias, load_f32(&residual[at..at + 16])),
            None => bias,
        };
        let slot = &mut out[at..at + 16];
        // SAFETY: `slot` is 16 floats long.
        unsafe { _mm512_storeu_ps(slot.as_mut_ptr(), _mm512_fmadd_ps(exact, scale, base)) };
    }
}

/// # Safety
/// `index` must be below `lines.len()`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn line(lines: &[Line], index: usize) -> __m512i {
    // SAFETY: the caller keeps `index` in range; a `Line` is 64 bytes at a 64-byte boundary.
    unsafe { _mm512_load_si512(lines.as_ptr().add(index).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(values: &[f32]) -> std::arch::x86_64::__m512 {
    assert_eq!(values.len(), 16);
    // SAFETY: 16 floats, checked above.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_i32(values: &[i32]) -> __m512i {
    assert_eq!(values.len(), 16);
    // SAFETY: 16 integers, checked above.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}
