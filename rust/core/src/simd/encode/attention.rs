//! Self-attention of one text: softmax(Q K^T) V, head by head, without padding; in full precision, or for longer
//! texts with bfloat16 products where the processor has them.
//!
//! The query weights already carry 1 / sqrt(head width). Keys are transposed per head so that sixteen scores
//! are computed at once; values are copied to be contiguous (in place their rows lie 4.6 KB apart, which
//! maps them onto a few cache sets).

#![expect(unsafe_code, reason = "the call of a function that enables vector features")]

use super::lanes::Lanes;
use super::per_isa;
use crate::simd::Detected;

/// Queries at a time: 6 x 2 sums, 2 keys and a query fill half the registers of AVX-512 and all of AVX2.
const QUERIES: usize = 6;

/// Tokens from which bfloat16 is used: below, attention is too small a part of the work to gain anything.
#[cfg(target_arch = "x86_64")]
const BF16_TOKENS: usize = 32;

/// Working memory of [`attend`], kept between calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttentionArena {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    bf16: super::attention_bf16::Arena,
}

/// Attention of one text. `qkv` is `[tokens][3][heads][width]`, `out` is `[tokens][heads][width]`.
///
/// # Panics
/// If the lengths do not fit, or `width` is not a multiple of 32.
pub(crate) fn attend(
    isa: Detected,
    qkv: &[f32],
    heads: usize,
    width: usize,
    arena: &mut AttentionArena,
    out: &mut [f32],
) {
    let tokens = out.len() / (heads * width);
    assert!(width.is_multiple_of(32), "heads of {width} are not a multiple of 32 wide");
    assert!(out.len() == tokens * heads * width && qkv.len() == 3 * out.len(), "whole rows of query, key and value");
    #[cfg(target_arch = "x86_64")]
    if tokens >= BF16_TOKENS && isa.has_bf16() {
        // SAFETY: the processor has the features of `Isa::Avx512` and AVX512-BF16, which `has_bf16` says.
        return unsafe { super::attention_bf16::attend(qkv, heads, width, &mut arena.bf16, out) };
    }
    attend_exact(isa, qkv, heads, width, arena, out);
}

per_isa! {
    /// [`attend`] in full precision.
    pub(super) fn attend_exact(qkv: &[f32], heads: usize, width: usize, arena: &mut AttentionArena, out: &mut [f32]) = attend_all
}

#[inline(always)]
fn attend_all<L: Lanes>(qkv: &[f32], heads: usize, width: usize, arena: &mut AttentionArena, out: &mut [f32]) {
    let hidden = heads * width;
    let tokens = out.len() / hidden;
    let padded = tokens.next_multiple_of(16);
    arena.keys.resize(width * padded, 0.0);
    arena.values.resize(tokens * width, 0.0);
    arena.scores.resize(QUERIES * padded, 0.0);
    for row in arena.keys.chunks_exact_mut(padded) {
        row[tokens..].fill(0.0);
    }
    for head in 0..heads {
        let at = head * width;
        for (token, row) in qkv.chunks_exact(3 * hidden).enumerate() {
            let key = &row[hidden + at..hidden + at + width];
            for (slot, &key) in arena.keys[token..].iter_mut().step_by(padded).zip(key) {
                *slot = key;
            }
            arena.values[token * width..(token + 1) * width].copy_from_slice(&row[2 * hidden + at..][..width]);
        }
        let mut head = Head { qkv, out: &mut *out, hidden, at, width, tokens, padded };
        head.attend::<L>(&arena.keys, &arena.values, &mut arena.scores);
    }
}

/// One head of one text.
struct Head<'a> {
    qkv: &'a [f32],
    out: &'a mut [f32],
    hidden: usize,
    /// First column of the head.
    at: usize,
    width: usize,
    tokens: usize,
    padded: usize,
}

impl Head<'_> {
    #[inline(always)]
    fn attend<L: Lanes>(&mut self, keys: &[f32], values: &[f32], scores: &mut [f32]) {
        // A row's sums do not depend on how many rows are taken at once.
        let blocks = self.tokens.div_ceil(QUERIES);
        for block in 0..blocks {
            let first = block * self.tokens / blocks;
            match (block + 1) * self.tokens / blocks - first {
                1 => self.block::<L, 1>(first, keys, values, scores),
                2 => self.block::<L, 2>(first, keys, values, scores),
                3 => self.block::<L, 3>(first, keys, values, scores),
                4 => self.block::<L, 4>(first, keys, values, scores),
                5 => self.block::<L, 5>(first, keys, values, scores),
                _ => self.block::<L, QUERIES>(first, keys, values, scores),
            }
        }
    }

    #[inline(always)]
    fn block<L: Lanes, const R: usize>(&mut self, first: usize, keys: &[f32], values: &[f32], scores: &mut [f32]) {
        let (width, padded) = (self.width, self.padded);
        let queries: [&[f32]; R] =
            std::array::from_fn(|r| &self.qkv[(first + r) * 3 * self.hidden + self.at..][..width]);
        let mut column = 0;
        while column + 32 <= padded {
            score::<L, R, 2>(&queries, keys, padded, column, scores);
            column += 32;
        }
        if column < padded {
            score::<L, R, 1>(&queries, keys, padded, column, scores);
        }
        let mut inverse = [0.0; R];
        for (inverse, scores) in inverse.iter_mut().zip(scores.chunks_exact_mut(padded)) {
            *inverse = 1.0 / softmax_numerators::<L>(scores, self.tokens);
        }
        for column in (0..width).step_by(32) {
            let mut sums = [[L::splat(0.0); 2]; R];
            for (token, values) in values.chunks_exact(width).enumerate() {
                let values = load::<L, 2>(&values[column..]);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let share = L::splat(scores[r * padded + token]);
                    *sum = [share.mul_add(values[0], sum[0]), share.mul_add(values[1], sum[1])];
                }
            }
            for (r, sum) in sums.into_iter().enumerate() {
                let factor = L::splat(inverse[r]);
                let slot = &mut self.out[(first + r) * self.hidden + self.at + column..];
                store([sum[0].mul(factor), sum[1].mul(factor)], slot);
            }
        }
    }
}

/// Scores of `R` queries with `16 * V` keys from `column` on.
#[inline(always)]
fn score<L: Lanes, const R: usize, const V: usize>(
    queries: &[&[f32]; R],
    keys: &[f32],
    padded: usize,
    column: usize,
    scores: &mut [f32],
) {
    let mut sums = [[L::splat(0.0); V]; R];
    for (dim, keys) in keys.chunks_exact(padded).enumerate() {
        let keys = load::<L, V>(&keys[column..]);
        for (sum, query) in sums.iter_mut().zip(queries) {
            let query = L::splat(query[dim]);
            for (sum, key) in sum.iter_mut().zip(keys) {
                *sum = query.mul_add(key, *sum);
            }
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        store(sum, &mut scores[r * padded + column..]);
    }
}

/// Replaces the first `tokens` scores by exp(score - largest) and the padding by zero; returns their sum.
#[inline(always)]
fn softmax_numerators<L: Lanes>(scores: &mut [f32], tokens: usize) -> f32 {
    scores[tokens..].fill(f32::NEG_INFINITY);
    let (chunks, _) = scores.as_chunks_mut::<16>();
    let mut largest = L::splat(f32::NEG_INFINITY);
    for chunk in chunks.iter() {
        largest = largest.max(L::load(chunk));
    }
    let shift = L::splat(-largest.largest());
    let mut sum = L::splat(0.0);
    for chunk in chunks.iter_mut() {
        // The padding gives exp(-87) instead of exp(-inf): 1e-38, which no sum from 1 on notices.
        let numerator = L::load(chunk).add(shift).exp();
        numerator.store(chunk);
        sum = sum.add(numerator);
    }
    sum.sum()
}

#[inline(always)]
fn load<L: Lanes, const V: usize>(values: &[f32]) -> [L; V] {
    let (chunks, _) = values[..16 * V].as_chunks::<16>();
    std::array::from_fn(|v| L::load(&chunks[v]))
}

#[inline(always)]
fn store<L: Lanes, const V: usize>(values: [L; V], to: &mut [f32]) {
    for (value, chunk) in values.into_iter().zip(to[..16 * V].as_chunks_mut::<16>().0) {
        value.store(chunk);
    }
}
