//! Self-attention with `vdpbf16ps`, which multiplies 32 pairs of bfloat16 where the float unit multiplies 16.
//!
//! Scores and outputs are summed in full precision; what is rounded to 8 bits of significand is the input of
//! the products, and queries, keys and values come out of 8-bit matrix products anyway: over 2,000 prompts the
//! mean cosine with float32 stays at .9990. Attention takes a third of the time of a text of 256 tokens in
//! full precision, and half of that here.

#![expect(unsafe_code, reason = "vector loads and stores through pointers")]

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, _mm256_storeu_si256, _mm512_add_epi32, _mm512_add_ps,
    _mm512_and_si512, _mm512_castps_si512, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_blend_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_reduce_add_ps,
    _mm512_reduce_max_ps, _mm512_reduce_ps, _mm512_scalef_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_srli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};

/// Queries at a time.
const QUERIES: usize = 6;

/// Working memory, kept between calls. Two bfloat16 make a word, the one with the lower index in its lower half.
#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    /// `[tokens][width / 2]`, pairs of dimensions.
    queries: Vec<u32>,
    /// `[width / 2][padded tokens]`, pairs of dimensions.
    keys: Vec<u32>,
    /// `[padded tokens / 2][width]`, pairs of tokens.
    values: Vec<u32>,
    /// `[QUERIES][padded tokens]`.
    scores: Vec<f32>,
    /// `[QUERIES][padded tokens / 2]`, pairs of tokens.
    shares: Vec<u32>,
}

/// As [`super::attend`]; the caller has checked the lengths and the features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn attend(qkv: &[f32], heads: usize, width: usize, arena: &mut Arena, out: &mut [f32]) {
    let hidden = heads * width;
    let tokens = out.len() / hidden;
    let padded = tokens.next_multiple_of(16);
    let Arena { queries, keys, values, scores, shares } = arena;
    queries.resize(tokens * width / 2, 0);
    keys.resize(width / 2 * padded, 0);
    values.resize(padded / 2 * width, 0);
    scores.resize(QUERIES * padded, 0.0);
    shares.resize(QUERIES * padded / 2, 0);
    // What pads the last tokens is multiplied by shares of zero, and must be finite for that.
    keys.chunks_exact_mut(padded).for_each(|row| row[tokens..].fill(0));
    values[tokens / 2 * width..].fill(0);
    for head in 0..heads {
        let at = head * width;
        for (token, row) in qkv.chunks_exact(3 * hidden).enumerate() {
            let query = &mut queries[token * width / 2..(token + 1) * width / 2];
            round_into(&row[at..at + width], query);
            let mut key = [0; 16];
            for (pairs, chunk) in row[hidden + at..hidden + at + width].chunks_exact(32).enumerate() {
                round_into(chunk, &mut key);
                for (pair, &word) in key.iter().enumerate() {
                    keys[(16 * pairs + pair) * padded + token] = word;
                }
            }
        }
        for (pair, slot) in values.chunks_exact_mut(width).take(tokens.div_ceil(2)).enumerate() {
            let value = |token: usize| &qkv[token * 3 * hidden + 2 * hidden + at..][..width];
            interleave(value(2 * pair), (2 * pair + 1 < tokens).then(|| value(2 * pair + 1)), slot);
        }
        let blocks = tokens.div_ceil(QUERIES);
        let mut head = Head { queries, keys, values, scores, shares, hidden, at, width, tokens, padded };
        for block in 0..blocks {
            let first = block * tokens / blocks;
            let out = &mut out[first * hidden..];
            match (block + 1) * tokens / blocks - first {
                1 => head.block::<1>(first, out),
                2 => head.block::<2>(first, out),
                3 => head.block::<3>(first, out),
                4 => head.block::<4>(first, out),
                5 => head.block::<5>(first, out),
                _ => head.block::<QUERIES>(first, out),
            }
        }
    }
}

/// One head of one text.
struct Head<'a> {
    queries: &'a [u32],
    keys: &'a [u32],
    values: &'a [u32],
    scores: &'a mut [f32],
    shares: &'a mut [u32],
    hidden: usize,
    /// First column of the head.
    at: usize,
    width: usize,
    tokens: usize,
    padded: usize,
}

impl Head<'_> {
    /// Queries `first..first + R`; `out` starts at the first one's row.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    fn block<const R: usize>(&mut self, first: usize, out: &mut [f32]) {
        let (padded, pairs) = (self.padded, self.width / 2);
        let queries = &self.queries[first * pairs..(first + R) * pairs];
        let mut largest = [_mm512_set1_ps(f32::NEG_INFINITY); R];
        let mut column = 0;
        while column + 32 <= padded {
            let sums = products::<R, 2>(queries, pairs, &self.keys[column..], padded);
            self.keep_scores(column, sums, &mut largest);
            column += 32;
        }
        if column < padded {
            let sums = products::<R, 1>(queries, pairs, &self.keys[column..], padded);
            self.keep_scores(column, sums, &mut largest);
        }
        let mut inverse = [0.0; R];
        for (r, inverse) in inverse.iter_mut().enumerate() {
            let scores = &self.scores[r * padded..(r + 1) * padded];
            let shares = &mut self.shares[r * padded / 2..(r + 1) * padded / 2];
            *inverse = 1.0 / exponentials(scores, _mm512_reduce_max_ps(largest[r]), shares);
        }
        for column in (0..self.width).step_by(32) {
            let sums = products::<R, 2>(&self.shares[..R * padded / 2], padded / 2, &self.values[column..], self.width);
            for (r, sum) in sums.into_iter().enumerate() {
                let factor = _mm512_set1_ps(inverse[r]);
                let slot = &mut out[r * self.hidden + self.at + column..][..32];
                store(_mm512_mul_ps(sum[0], factor), &mut slot[..16]);
                store(_mm512_mul_ps(sum[1], factor), &mut slot[16..]);
            }
        }
    }

    /// Stores scores from `column` on, minus infinity for the padding, and follows the largest.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    fn keep_scores<const R: usize, const V: usize>(
        &mut self,
        column: usize,
        sums: [[__m512; V]; R],
        largest: &mut [__m512; R],
    ) {
        for (r, sum) in sums.into_iter().enumerate() {
            for (v, sum) in sum.into_iter().enumerate() {
                let at = column + 16 * v;
                let real = self.tokens.saturating_sub(at).min(16);
                let mask = ((1_u32 << real) - 1) as u16;
                let kept = _mm512_mask_blend_ps(mask, _mm512_set1_ps(f32::NEG_INFINITY), sum);
                largest[r] = _mm512_max_ps(largest[r], kept);
                store(kept, &mut self.scores[r * self.padded + at..][..16]);
            }
        }
    }
}

/// `R` rows of `depth` pairs times a matrix of `depth` rows, `stride` words apart, of which `16 * V` columns are used.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn products<const R: usize, const V: usize>(
    rows: &[u32],
    depth: usize,
    matrix: &[u32],
    stride: usize,
) -> [[__m512; V]; R] {
    assert!(rows.len() == R * depth && matrix.len() >= (depth - 1) * stride + 16 * V, "whole rows and columns");
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for step in 0..depth {
        let mut columns = [_mm512_set1_epi32(0); V];
        for (v, column) in columns.iter_mut().enumerate() {
            // SAFETY: step * stride + 16 * v + 16 <= matrix.len(), checked above.
            *column = unsafe { _mm512_loadu_si512(matrix.as_ptr().add(step * stride + 16 * v).cast()) };
        }
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: r * depth + step < R * depth, the number of words, checked above.
            let word = _mm512_set1_epi32(unsafe { rows.as_ptr().add(r * depth + step).cast::<i32>().read() });
            for (sum, &column) in sum.iter_mut().zip(&columns) {
                *sum = _mm512_dpbf16_ps(*sum, pairs(word), pairs(column));
            }
        }
    }
    sums
}

/// Writes exp(score - largest) as bfloat16 and returns the sum. 2^x by a polynomial of degree 3 (within 8e-5,
/// where rounding to bfloat16 takes 2e-3).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn exponentials(scores: &[f32], largest: f32, shares: &mut [u32]) -> f32 {
    const TO_NEAREST: i32 = 0;
    let log2 = _mm512_set1_ps(std::f32::consts::LOG2_E);
    let shift = _mm512_set1_ps(-largest * std::f32::consts::LOG2_E);
    let least = _mm512_set1_ps(-126.0);
    let mut sum = _mm512_setzero_ps();
    for (chunk, slot) in scores.as_chunks::<16>().0.iter().zip(shares.as_chunks_mut::<8>().0) {
        let exponent = _mm512_max_ps(_mm512_fmadd_ps(load(chunk), log2, shift), least);
        let fraction = _mm512_reduce_ps::<TO_NEAREST>(exponent);
        let mut power = _mm512_set1_ps(5.517_163e-2);
        for coefficient in [0.242_611_14, 0.693_261, 0.999_928_07] {
            power = _mm512_fmadd_ps(power, fraction, _mm512_set1_ps(coefficient));
        }
        let power = _mm512_scalef_ps(power, _mm512_sub_ps(exponent, fraction));
        sum = _mm512_add_ps(sum, power);
        round_sixteen(power, slot);
    }
    _mm512_reduce_add_ps(sum)
}

/// Rounds floats to bfloat16, two neighbours to a word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn round_into(values: &[f32], words: &mut [u32]) {
    for (chunk, slot) in values.as_chunks::<16>().0.iter().zip(words.as_chunks_mut::<8>().0) {
        round_sixteen(load(chunk), slot);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn round_sixteen(values: __m512, words: &mut [u32; 8]) {
    // SAFETY: both types are 256 bits without padding or invalid values.
    let rounded = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) };
    // SAFETY: the array is 256 bits.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), rounded) };
}

/// Rounds two rows to bfloat16 (half up) and puts the first into the lower halves, the second into the upper ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn interleave(low: &[f32], high: Option<&[f32]>, words: &mut [u32]) {
    let (half, upper) = (_mm512_set1_epi32(0x8000), _mm512_set1_epi32(0xFFFF_0000_u32 as i32));
    let rounded = |row: &[f32], at: usize| _mm512_add_epi32(_mm512_castps_si512(load(&row.as_chunks().0[at])), half);
    for (at, slot) in words.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = _mm512_srli_epi32::<16>(rounded(low, at));
        let both = match high {
            Some(high) => _mm512_or_si512(low, _mm512_and_si512(rounded(high, at), upper)),
            None => low,
        };
        // SAFETY: the array is 512 bits.
        unsafe { _mm512_storeu_si512(slot.as_mut_ptr().cast(), both) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits without padding or invalid values.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32; 16]) -> __m512 {
    // SAFETY: the array is 512 bits.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(value: __m512, to: &mut [f32]) {
    assert_eq!(to.len(), 16);
    // SAFETY: 16 floats, checked above.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) };
}
