//! AVX2: byte products added up in 16 bits first. A code is at most 15 and a weight at most 127 in
//! size, so the eight pairs of products of four lines stay below 30,480: no sum saturates.
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "dozens of intrinsics, told apart by their prefix"))]
#![expect(unsafe_code, reason = "intrinsics and the call into functions compiled for an instruction set")]

use super::scalar::{self, LANES, add_bytes, add_tail, reduce, scan_by, scan_deep_by};
use super::{
    BLOCK, Blocks, Candidate, Columns, DeepQuery, HEAD, Head, Isa, Kernels, Piece, Reach, Rest, RowCodes, SLAB,
    ScanQuery, SieveQuery, Words,
};
use crate::codec::half;
use std::arch::x86_64::*;

/// Lines that are added up in 16 bits.
const NARROW: usize = 4;

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

fn scan_deep(query: &DeepQuery, slabs: [&Blocks; 2], out: &mut Vec<Reach>) {
    // SAFETY: `kernels` hands this function out only after detecting the features of `scan_deep_wide`.
    unsafe { scan_deep_wide(query, slabs, out) }
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
    let (words, pieces) = (spread(&query.words.head), piece_words(&query.words));
    scan_by(query, blocks, out, |head| head_dots(head, &words), |rest| rest_dots(rest, pieces))
}

#[target_feature(enable = "avx2,f16c")]
fn scan_deep_wide(query: &DeepQuery, slabs: [&Blocks; 2], out: &mut Vec<Reach>) {
    let words = query.parts.each_ref().map(|part| (spread(&part.words.head), piece_words(&part.words)));
    let head = |slab: usize, head: &Head| head_dots(head, &words[slab].0);
    scan_deep_by(query, slabs, out, head, |slab, rest| rest_dots(rest, words[slab].1));
}

/// Each word in every lane.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn spread(words: &[[i32; 2]; HEAD / 8 + 1]) -> [[__m256i; 2]; HEAD / 8 + 1] {
    let mut lanes = [[_mm256_setzero_si256(); 2]; HEAD / 8 + 1];
    for (lanes, words) in lanes.iter_mut().zip(words) {
        for (lanes, word) in lanes.iter_mut().zip(words) {
            *lanes = _mm256_set1_epi32(*word);
        }
    }
    lanes
}

/// The weights of a piece's low and high halves.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn piece_words(words: &Words) -> [__m128i; 2] {
    let [low, high] = &words.rest;
    // SAFETY: either is 16 bytes.
    unsafe { [_mm_loadu_si128(low.as_ptr().cast()), _mm_loadu_si128(high.as_ptr().cast())] }
}

/// The dot products of a block's heads. The norms count for nothing: both of their halves have weights of 0.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn head_dots(head: &Head, words: &[[__m256i; 2]; HEAD / 8 + 1]) -> [i32; BLOCK] {
    let low_half = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    let mut dots = [0; BLOCK];
    for (half, dots) in dots.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let mut total = _mm256_setzero_si256();
        for (lines, words) in head.chunks(NARROW).zip(words.chunks(NARROW)) {
            let mut sums = _mm256_setzero_si256();
            for (line, words) in lines.iter().zip(words) {
                // SAFETY: a `Line` is 64 bytes, aligned to 64; `half` counts its two parts of 32.
                let codes = unsafe { _mm256_load_si256(line.0.as_ptr().add(32 * half).cast()) };
                let low = _mm256_and_si256(codes, low_half);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_half);
                sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(low, words[0]));
                sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(high, words[1]));
            }
            total = _mm256_add_epi32(total, _mm256_madd_epi16(sums, ones));
        }
        // SAFETY: `dots` is eight integers of 32 bits.
        unsafe { _mm256_storeu_si256(dots.as_mut_ptr().cast(), total) };
    }
    dots
}

/// The dot products of a block's pieces.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn rest_dots(rest: &Rest, words: [__m128i; 2]) -> [i32; BLOCK] {
    let mut dots = [0; BLOCK];
    for (at, dots) in dots.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let piece = |lane: usize| piece_dots(rest.of(4 * at + lane), words);
        let sums = _mm_hadd_epi32(_mm_hadd_epi32(piece(0), piece(1)), _mm_hadd_epi32(piece(2), piece(3)));
        // SAFETY: `dots` is four integers of 32 bits.
        unsafe { _mm_storeu_si128(dots.as_mut_ptr().cast(), sums) };
    }
    dots
}

/// Four sums that together are a piece's dot product.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn piece_dots(piece: &Piece, words: [__m128i; 2]) -> __m128i {
    let low_half = _mm_set1_epi8(15);
    // SAFETY: a `Piece` is 16 bytes.
    let codes = unsafe { _mm_loadu_si128(piece.0.as_ptr().cast()) };
    let low = _mm_maddubs_epi16(_mm_and_si128(codes, low_half), words[0]);
    let high = _mm_maddubs_epi16(_mm_and_si128(_mm_srli_epi16::<4>(codes), low_half), words[1]);
    _mm_madd_epi16(_mm_add_epi16(low, high), _mm_set1_epi16(1))
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
