//! AVX2: byte products added up in 16 bits first. A code is at most 15 and a weight at most 127 in
//! size, so the eight pairs of products in half a slab stay below 30,480: no sum saturates.
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "dozens of intrinsics, told apart by their prefix"))]
#![expect(unsafe_code, reason = "intrinsics and the call into functions compiled for an instruction set")]

use super::left::{CHUNK, Left, Sums};
use super::scalar::{self, LANES, add_bytes, add_tail, collect, reduce};
use super::{
    Block, Blocks, Candidate, Columns, Cut, DeepQuery, FRACTION_BITS, HALF, Isa, Kernels, Reach, RowCodes, SLAB,
    ScanQuery, SecondBlocks, SieveQuery, Terms,
};
use crate::codec::half;
use std::arch::x86_64::*;

/// The table, if this machine has every feature that the functions below are compiled with.
pub(super) fn kernels() -> Option<&'static Kernels> {
    static KERNELS: Kernels = Kernels {
        isa: Isa::Avx2,
        dot,
        dot_half,
        dot_bytes,
        byte_dot,
        project,
        project_four,
        add_outer,
        scan,
        scan_deep,
        code_dot,
        sieve,
    };
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")).then_some(&KERNELS)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: `kernels` hands this function out only after detecting the features of `dot_wide`.
    unsafe { dot_wide(a, b) }
}

fn dot_half(a: &[u16], b: &[f32]) -> f32 {
    // SAFETY: `kernels` hands this function out only after detecting the features of `dot_half_wide`.
    unsafe { dot_half_wide(a, b) }
}

fn dot_bytes(a: &[i8], b: &[f32]) -> f32 {
    // SAFETY: `kernels` hands this function out only after detecting the features of `dot_bytes_wide`.
    unsafe { dot_bytes_wide(a, b) }
}

fn byte_dot(a: &[i8], b: &[i8]) -> i32 {
    // SAFETY: `kernels` hands this function out only after detecting the features of `byte_dot_wide`.
    unsafe { byte_dot_wide(a, b) }
}

fn project(matrix: &[Columns], x: &[f32]) -> [f32; SLAB] {
    // SAFETY: `kernels` hands this function out only after detecting the features of `project_wide`.
    unsafe { project_wide(matrix, x) }
}

fn project_four(matrix: &[Columns], x: [&[f32]; 4]) -> [[f32; SLAB]; 4] {
    // SAFETY: `kernels` hands this function out only after detecting the features of `project_four_wide`.
    unsafe { project_four_wide(matrix, x) }
}

fn add_outer(matrix: &mut [f32], x: [&[f32]; 4]) {
    // SAFETY: `kernels` hands this function out only after detecting the features of `add_outer_wide`.
    unsafe { add_outer_wide(matrix, x) }
}

fn scan(query: &ScanQuery, blocks: &Blocks, out: &mut Vec<Candidate>) -> usize {
    // SAFETY: `kernels` hands this function out only after detecting the features of `scan_wide`.
    unsafe { scan_wide(query, blocks, out) }
}

fn scan_deep(query: &DeepQuery, first: &Blocks, second: &SecondBlocks, out: &mut Vec<Reach>) {
    // SAFETY: `kernels` hands this function out only after detecting the features of `scan_deep_wide`.
    unsafe { scan_deep_wide(query, first, second, out) }
}

fn code_dot(codes: &RowCodes, weights: &[i8; SLAB]) -> i32 {
    // SAFETY: `kernels` hands this function out only after detecting the features of `code_dot_wide`.
    unsafe { code_dot_wide(codes, weights) }
}

fn sieve(query: &SieveQuery, codes: &[RowCodes], terms: &[[u8; 2]], left: &mut Vec<Reach>) {
    // SAFETY: `kernels` hands this function out only after detecting the features of `sieve_wide`.
    unsafe { sieve_wide(query, codes, terms, left) }
}

#[target_feature(enable = "avx2,f16c")]
fn dot_wide(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); LANES / 8];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `x` and `y` are arrays of 32 floats, and `part` counts their four parts of 8.
            let (x, y) =
                unsafe { (_mm256_loadu_ps(x.as_ptr().add(8 * part)), _mm256_loadu_ps(y.as_ptr().add(8 * part))) };
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(x, y));
        }
    }
    finish(sums, a, b, |value| value)
}

#[target_feature(enable = "avx2,f16c")]
fn dot_half_wide(a: &[u16], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); LANES / 8];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `x` is an array of 32 halves and `y` of 32 floats; `part` counts their four parts of 8.
            let (x, y) = unsafe {
                (_mm_loadu_si128(x.as_ptr().add(8 * part).cast()), _mm256_loadu_ps(y.as_ptr().add(8 * part)))
            };
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(_mm256_cvtph_ps(x), y));
        }
    }
    finish(sums, a, b, half::to_f32)
}

#[target_feature(enable = "avx2,f16c")]
fn dot_bytes_wide(a: &[i8], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); LANES / 8];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `x` is an array of 32 bytes and `y` of 32 floats; `part` counts their four parts of 8.
            let (x, y) = unsafe {
                (_mm_loadl_epi64(x.as_ptr().add(8 * part).cast()), _mm256_loadu_ps(y.as_ptr().add(8 * part)))
            };
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)), y));
        }
    }
    finish(sums, a, b, f32::from)
}

/// [`reduce`] of eight lanes, in registers: through memory, the full comparisons of 10-NN over int8 rows took 4 % longer.
#[target_feature(enable = "avx2")]
pub(super) fn reduce_eight(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

#[target_feature(enable = "avx2,f16c")]
fn byte_dot_wide(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = _mm256_setzero_si256();
    for (a, b) in a.iter().zip(b) {
        // SAFETY: both are arrays of 16 bytes.
        let (a, b) = unsafe { (_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast())) };
        let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(a), _mm256_cvtepi8_epi16(b));
        sums = _mm256_add_epi32(sums, products);
    }
    total(sums) + add_bytes(a_tail, b_tail)
}

/// The sums of the full parts and the tail, reduced.
#[target_feature(enable = "avx2,f16c")]
fn finish<T: Copy>(sums: [__m256; LANES / 8], a: &[T], b: &[f32], value: impl Fn(T) -> f32) -> f32 {
    if a.len().is_multiple_of(LANES) {
        let [first, second, third, fourth] = sums;
        return reduce_eight(_mm256_add_ps(_mm256_add_ps(first, third), _mm256_add_ps(second, fourth)));
    }
    let mut lanes = [0.0; LANES];
    for (part, sum) in sums.into_iter().enumerate() {
        // SAFETY: `lanes` has room for 32 floats, and `part` counts its four parts of 8.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr().add(8 * part), sum) };
    }
    add_tail(&mut lanes, a, b, value);
    reduce(lanes)
}

#[target_feature(enable = "avx2,f16c")]
fn project_wide(matrix: &[Columns], x: &[f32]) -> [f32; SLAB] {
    scalar::project(matrix, x)
}

#[target_feature(enable = "avx2,f16c")]
fn project_four_wide(matrix: &[Columns], x: [&[f32]; 4]) -> [[f32; SLAB]; 4] {
    let mut out = [[0.0; SLAB]; 4];
    // Sixteen columns at a time: their sums for four vectors and what goes into them fit sixteen registers.
    for start in (0..SLAB).step_by(16) {
        let mut sums = [[_mm256_setzero_ps(); 2]; 4];
        let values = x[0].iter().zip(x[1]).zip(x[2].iter().zip(x[3]));
        for (row, ((a, b), (c, d))) in matrix.iter().zip(values) {
            for part in 0..2 {
                // SAFETY: `row` holds 64 floats; `start` is at most 48 and `part` counts two parts of 8.
                let columns = unsafe { _mm256_loadu_ps(row.0.as_ptr().add(start + 8 * part)) };
                for (sums, value) in sums.iter_mut().zip([a, b, c, d]) {
                    sums[part] = _mm256_add_ps(sums[part], _mm256_mul_ps(columns, _mm256_set1_ps(*value)));
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (part, sum) in sums.into_iter().enumerate() {
                // SAFETY: `out` has room for 64 floats; `start` is at most 48 and `part` counts two parts of 8.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(start + 8 * part), sum) };
            }
        }
    }
    out
}

#[target_feature(enable = "avx2,f16c")]
fn add_outer_wide(matrix: &mut [f32], x: [&[f32]; 4]) {
    scalar::add_outer(matrix, x);
}

#[target_feature(enable = "avx2,f16c")]
fn scan_wide(query: &ScanQuery, blocks: &Blocks, out: &mut Vec<Candidate>) -> usize {
    let words = scalar::words(&query.weights).map(|word| _mm256_set1_epi32(word));
    let (head_words, tail_words) = words.split_at(HALF / 4);
    let (tails, tail_terms) = (&blocks.tails[..], &blocks.terms[..]);
    if query.head.limit == i32::MIN {
        // Nothing to leave out: one pass, in the order of memory.
        let halves = blocks.heads.iter().zip(tails);
        for (number, ((head, tail), terms)) in halves.zip(tail_terms).enumerate() {
            let dots = slab_dots([head, tail], &words);
            let mask = passing(query.whole, dots, terms);
            if mask != 0 {
                collect(query, &stored(dots).0, terms, mask, number, out);
            }
        }
        return tails.len();
    }
    let (mut passed, mut left) = (0, Left::new());
    let chunks = blocks.heads.chunks(CHUNK).zip(blocks.head_terms.chunks(CHUNK));
    for (chunk, (heads, terms)) in chunks.enumerate() {
        left.clear();
        for (number, (head, terms)) in heads.iter().zip(terms).enumerate() {
            let dots = half_dots(head, head_words, [_mm256_setzero_si256(); 2]);
            let mask = passing(query.head, dots, terms);
            left.offer(chunk * CHUNK + number, stored(dots), mask != 0);
        }
        passed += left.len();
        for (sums, number) in left.iter() {
            // SAFETY: `Sums` is 64 bytes, aligned to 64, in two parts of 32.
            let start = unsafe {
                [_mm256_load_si256(sums.0.as_ptr().cast()), _mm256_load_si256(sums.0.as_ptr().add(8).cast())]
            };
            let (tail, terms) = (&tails[number], &tail_terms[number]);
            let dots = half_dots(tail, tail_words, start);
            let mask = passing(query.whole, dots, terms);
            if mask != 0 {
                collect(query, &stored(dots).0, terms, mask, number, out);
            }
        }
    }
    passed
}

#[target_feature(enable = "avx2,f16c")]
fn scan_deep_wide(query: &DeepQuery, first: &Blocks, second: &SecondBlocks, out: &mut Vec<Reach>) {
    let words = query.parts.each_ref().map(|part| scalar::words(&part.weights).map(|word| _mm256_set1_epi32(word)));
    let blocks = first.heads.iter().zip(first.tails.iter()).zip(second.codes.iter());
    let terms = first.terms.iter().zip(second.terms.iter());
    for (number, (((head, tail), [third, fourth]), terms)) in blocks.zip(terms).enumerate() {
        let dots = [slab_dots([head, tail], &words[0]), slab_dots([third, fourth], &words[1])].map(stored);
        scalar::collect_deep(query, dots.each_ref().map(|sums| &sums.0), [terms.0, terms.1], number, out);
    }
}

/// The dot products of a whole slab.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn slab_dots([first, second]: [&Block; 2], words: &[__m256i; SLAB / 4]) -> [__m256i; 2] {
    let (first_words, second_words) = words.split_at(HALF / 4);
    half_dots(second, second_words, half_dots(first, first_words, [_mm256_setzero_si256(); 2]))
}

/// Adds the dot products of half a slab, eight vectors in each part.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn half_dots(block: &Block, words: &[__m256i], mut dots: [__m256i; 2]) -> [__m256i; 2] {
    let low_half = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    for (part, dots) in dots.iter_mut().enumerate() {
        let mut sums = _mm256_setzero_si256();
        for (line, words) in block.iter().zip(words.as_chunks::<2>().0) {
            // SAFETY: a `Line` is 64 bytes, aligned to 64; `part` counts its two parts of 32.
            let codes = unsafe { _mm256_load_si256(line.0.as_ptr().add(32 * part).cast()) };
            let low = _mm256_and_si256(codes, low_half);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_half);
            sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(low, words[0]));
            sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(high, words[1]));
        }
        *dots = _mm256_add_epi32(*dots, _mm256_madd_epi16(sums, ones));
    }
    dots
}

/// One bit for each vector that passes a test.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn passing(cut: Cut, dots: [__m256i; 2], terms: &Terms) -> u32 {
    let pair = _mm256_set1_epi32(cut.pair());
    let limit = _mm256_set1_epi32(cut.limit);
    let mut mask = 0;
    for (part, dots) in dots.into_iter().enumerate() {
        // SAFETY: `Terms` is 32 bytes; `part` counts its two parts of 16.
        let bytes = unsafe { _mm_loadu_si128(terms.0.as_ptr().add(16 * part).cast()) };
        let extra = _mm256_madd_epi16(_mm256_cvtepu8_epi16(bytes), pair);
        let bound = _mm256_add_epi32(_mm256_slli_epi32::<{ FRACTION_BITS as i32 }>(dots), extra);
        // AVX2 only compares with "greater": what is not below passes.
        let below = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, bound)));
        mask |= (!below as u32 & 0xff) << (8 * part);
    }
    mask
}

#[inline]
fn stored(sums: [__m256i; 2]) -> Sums {
    // SAFETY: both are sixteen integers of 32 bits, in the same order.
    unsafe { std::mem::transmute::<[__m256i; 2], Sums>(sums) }
}

/// Both halves of a row's weights.
#[target_feature(enable = "avx2")]
pub(super) fn halves(weights: &[i8; SLAB]) -> [__m256i; 2] {
    // SAFETY: `weights` is 64 bytes, read as two halves of 32.
    unsafe { [_mm256_loadu_si256(weights.as_ptr().cast()), _mm256_loadu_si256(weights.as_ptr().add(SLAB / 2).cast())] }
}

/// The total of eight sums.
#[target_feature(enable = "avx2")]
pub(super) fn total(sums: __m256i) -> i32 {
    let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b00_00_11_10>(sums));
    let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b00_00_00_01>(sums));
    _mm_cvtsi128_si32(sums)
}

/// The totals of four times eight sums.
#[target_feature(enable = "avx2")]
pub(super) fn totals(sums: [__m256i; 4]) -> __m128i {
    let sums = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
}

/// Eight sums that together are the inner product.
#[target_feature(enable = "avx2,f16c")]
fn code_sums(codes: &RowCodes, [first, second]: [__m256i; 2]) -> __m256i {
    let low_half = _mm256_set1_epi8(15);
    // SAFETY: `RowCodes` is 32 bytes, aligned to 32.
    let bytes = unsafe { _mm256_load_si256(codes.0.as_ptr().cast()) };
    let low = _mm256_maddubs_epi16(_mm256_and_si256(bytes, low_half), first);
    let high = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low_half), second);
    _mm256_madd_epi16(_mm256_add_epi16(low, high), _mm256_set1_epi16(1))
}

#[target_feature(enable = "avx2,f16c")]
fn code_dot_wide(codes: &RowCodes, weights: &[i8; SLAB]) -> i32 {
    total(code_sums(codes, halves(weights)))
}

#[target_feature(enable = "avx2,f16c")]
fn sieve_wide(query: &SieveQuery, codes: &[RowCodes], terms: &[[u8; 2]], left: &mut Vec<Reach>) {
    let weights = halves(&query.part.weights);
    scalar::sieve_by(query, codes, terms, left, |rows| {
        let mut dots = [0; 4];
        // SAFETY: `dots` is four integers of 32 bits.
        unsafe { _mm_storeu_si128(dots.as_mut_ptr().cast(), totals(rows.map(|row| code_sums(row, weights)))) };
        dots
    });
}
