//! Self-attention of one text in full precision: softmax(Q K^T) V, head by head, without padding.
//!
//! The query weights already carry 1 / sqrt(head width). Keys are transposed per head so that sixteen scores
//! are computed at once; values are copied to be contiguous (in place their rows lie 4.6 KB apart, which
//! maps them onto a few cache sets).

use super::lanes::Lanes;
use super::per_isa;

/// Queries at a time: 6 x 2 sums, 2 keys and a query fill half the registers of AVX-512 and all of AVX2.
const QUERIES: usize = 6;

/// Working memory of [`attend`], kept between calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttentionArena {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
}

per_isa! {
    /// Attention of one text. `qkv` is `[tokens][3][heads][width]`, `out` is `[tokens][heads][width]`.
    ///
    /// # Panics
    /// If the lengths do not fit, or `width` is not a multiple of 32.
    pub(crate) fn attend(qkv: &[f32], heads: usize, width: usize, arena: &mut AttentionArena, out: &mut [f32]) = attend_all
}

#[inline(always)]
fn attend_all<L: Lanes>(qkv: &[f32], heads: usize, width: usize, arena: &mut AttentionArena, out: &mut [f32]) {
    let hidden = heads * width;
    let tokens = out.len() / hidden;
    assert!(width.is_multiple_of(32), "heads of {width} are not a multiple of 32 wide");
    assert!(out.len() == tokens * hidden && qkv.len() == 3 * out.len(), "whole rows of query, key and value");
    let padded = tokens.next_multiple_of(32);
    arena.keys.clear();
    arena.keys.resize(width * padded, 0.0);
    arena.values.resize(tokens * width, 0.0);
    arena.scores.resize(QUERIES * padded, 0.0);
    for head in 0..heads {
        let at = head * width;
        for (token, row) in qkv.chunks_exact(3 * hidden).enumerate() {
            for (dim, &key) in row[hidden + at..hidden + at + width].iter().enumerate() {
                arena.keys[dim * padded + token] = key;
            }
            arena.values[token * width..(token + 1) * width].copy_from_slice(&row[2 * hidden + at..][..width]);
        }
        let head = Head { qkv, out: &mut *out, hidden, at, width, tokens, padded };
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
    fn attend<L: Lanes>(mut self, keys: &[f32], values: &[f32], scores: &mut [f32]) {
        let mut first = 0;
        while first < self.tokens {
            let left = self.tokens - first;
            // Few left: single queries. A row's sums do not depend on how many rows are taken at once.
            if left >= QUERIES {
                self.block::<L, QUERIES>(first, keys, values, scores);
                first += QUERIES;
            } else if left >= 3 {
                self.block::<L, 3>(first, keys, values, scores);
                first += 3;
            } else {
                self.block::<L, 1>(first, keys, values, scores);
                first += 1;
            }
        }
    }

    #[inline(always)]
    fn block<L: Lanes, const R: usize>(&mut self, first: usize, keys: &[f32], values: &[f32], scores: &mut [f32]) {
        let (width, padded) = (self.width, self.padded);
        let queries: [&[f32]; R] =
            std::array::from_fn(|r| &self.qkv[(first + r) * 3 * self.hidden + self.at..][..width]);
        for column in (0..padded).step_by(32) {
            let mut sums = [[L::splat(0.0); 2]; R];
            for (dim, keys) in keys.chunks_exact(padded).enumerate() {
                let (low, high) = pair::<L>(&keys[column..column + 32]);
                for (sum, query) in sums.iter_mut().zip(&queries) {
                    let q = L::splat(query[dim]);
                    *sum = [q.mul_add(low, sum[0]), q.mul_add(high, sum[1])];
                }
            }
            for (r, sum) in sums.into_iter().enumerate() {
                store_pair(sum, &mut scores[r * padded + column..][..32]);
            }
        }
        let mut inverse = [0.0; R];
        for (inverse, scores) in inverse.iter_mut().zip(scores.chunks_exact_mut(padded)) {
            *inverse = 1.0 / softmax_numerators::<L>(scores, self.tokens);
        }
        for column in (0..width).step_by(32) {
            let mut sums = [[L::splat(0.0); 2]; R];
            for (token, values) in values.chunks_exact(width).enumerate() {
                let (low, high) = pair::<L>(&values[column..column + 32]);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let p = L::splat(scores[r * padded + token]);
                    *sum = [p.mul_add(low, sum[0]), p.mul_add(high, sum[1])];
                }
            }
            for (r, sum) in sums.into_iter().enumerate() {
                let factor = L::splat(inverse[r]);
                let slot = &mut self.out[(first + r) * self.hidden + self.at + column..][..32];
                store_pair([sum[0].mul(factor), sum[1].mul(factor)], slot);
            }
        }
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
        let e = L::load(chunk).add(shift).exp();
        e.store(chunk);
        sum = sum.add(e);
    }
    // exp(-87) instead of exp(-inf) for the padding: less than 1e-37, gone in the sum; cleared all the same.
    scores[tokens..].fill(0.0);
    sum.sum()
}

#[inline(always)]
fn pair<L: Lanes>(values: &[f32]) -> (L, L) {
    let (chunks, _) = values.as_chunks::<16>();
    (L::load(&chunks[0]), L::load(&chunks[1]))
}

#[inline(always)]
fn store_pair<L: Lanes>(pair: [L; 2], to: &mut [f32]) {
    let (chunks, _) = to.as_chunks_mut::<16>();
    pair[0].store(&mut chunks[0]);
    pair[1].store(&mut chunks[1]);
}
