//! NEON, which every 64-bit ARM has: byte products added up in 16 bits first, as on AVX2. The dot-product
//! instructions are not in stable Rust yet (`vdotq_s32`); they would halve the work of a scan.
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "dozens of intrinsics, told apart by their prefix"))]
#![expect(unsafe_code, reason = "loads and stores of vectors")]

use super::scalar::{self, LANES, add_bytes, add_tail, reduce, scan_by, scan_deep_by};
use super::{
    BLOCK, Blocks, Candidate, Columns, DeepQuery, HEAD, Head, Isa, Kernels, Reach, Rest, RowCodes, SLAB, ScanQuery,
    SieveQuery, Words,
};
use crate::codec::half;
use std::arch::aarch64::*;

/// Lines that are added up in 16 bits: eight sums of at most 3,810 fit.
const NARROW: usize = 4;

/// The table, if this machine has NEON.
pub(super) fn kernels() -> Option<&'static Kernels> {
    static KERNELS: Kernels = Kernels {
        isa: Isa::Neon,
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
    std::arch::is_aarch64_feature_detected!("neon").then_some(&KERNELS)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: `kernels` hands this function out only after detecting NEON.
    unsafe { dot_wide(a, b) }
}

/// Conversion from half precision has no stable intrinsic; by its bits it is left to the compiler.
fn dot_half(a: &[u16], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            lanes[lane] += half::to_f32(x[lane]) * y[lane];
        }
    }
    add_tail(&mut lanes, a, b, half::to_f32);
    reduce(lanes)
}

fn dot_bytes(a: &[i8], b: &[f32]) -> f32 {
    // SAFETY: `kernels` hands this function out only after detecting NEON.
    unsafe { dot_bytes_wide(a, b) }
}

fn byte_dot(a: &[i8], b: &[i8]) -> i32 {
    // SAFETY: `kernels` hands this function out only after detecting the features of `byte_dot_wide`.
    unsafe { byte_dot_wide(a, b) }
}

fn project(matrix: &[Columns], x: &[f32]) -> [f32; SLAB] {
    scalar::project(matrix, x)
}

fn project_four(matrix: &[Columns], x: [&[f32]; 4]) -> [[f32; SLAB]; 4] {
    x.map(|x| scalar::project(matrix, x))
}

fn add_outer(matrix: &mut [f32], x: [&[f32]; 4]) {
    // SAFETY: `kernels` hands this function out only after detecting the features of `add_outer_wide`.
    unsafe { add_outer_wide(matrix, x) }
}

fn scan(query: &ScanQuery, blocks: &Blocks, out: &mut Vec<Candidate>) -> usize {
    // SAFETY: `kernels` hands this function out only after detecting NEON.
    unsafe { scan_wide(query, blocks, out) }
}

fn scan_deep(query: &DeepQuery, slabs: [&Blocks; 2], out: &mut Vec<Reach>) {
    // SAFETY: `kernels` hands this function out only after detecting NEON.
    unsafe { scan_deep_wide(query, slabs, out) }
}

fn code_dot(codes: &RowCodes, weights: &[i8; SLAB]) -> i32 {
    // SAFETY: `kernels` hands this function out only after detecting NEON.
    unsafe { code_dot_wide(codes, weights) }
}

fn sieve(query: &SieveQuery, codes: &[RowCodes], terms: &[[u8; 2]], left: &mut Vec<Reach>) {
    // SAFETY: `kernels` hands this function out only after detecting the features of `sieve_wide`.
    unsafe { sieve_wide(query, codes, terms, left) }
}

#[target_feature(enable = "neon")]
fn dot_wide(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [vdupq_n_f32(0.0); LANES / 4];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `x` and `y` are arrays of 32 floats, and `part` counts their eight parts of 4.
            let (x, y) = unsafe { (vld1q_f32(x.as_ptr().add(4 * part)), vld1q_f32(y.as_ptr().add(4 * part))) };
            *sum = vaddq_f32(*sum, vmulq_f32(x, y));
        }
    }
    finish(sums, a, b, |value| value)
}

#[target_feature(enable = "neon")]
fn dot_bytes_wide(a: &[i8], b: &[f32]) -> f32 {
    let mut sums = [vdupq_n_f32(0.0); LANES / 4];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for (part, pair) in sums.chunks_exact_mut(2).enumerate() {
            // SAFETY: `x` is an array of 32 bytes and `y` of 32 floats; `part` counts their four parts of 8.
            let (x, low, high) = unsafe {
                let y = y.as_ptr().add(8 * part);
                (vmovl_s8(vld1_s8(x.as_ptr().add(8 * part))), vld1q_f32(y), vld1q_f32(y.add(4)))
            };
            let first = vcvtq_f32_s32(vmovl_s16(vget_low_s16(x)));
            let second = vcvtq_f32_s32(vmovl_high_s16(x));
            pair[0] = vaddq_f32(pair[0], vmulq_f32(first, low));
            pair[1] = vaddq_f32(pair[1], vmulq_f32(second, high));
        }
    }
    finish(sums, a, b, f32::from)
}

#[target_feature(enable = "neon")]
fn byte_dot_wide(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = vdupq_n_s32(0);
    for (a, b) in a.iter().zip(b) {
        // SAFETY: both are arrays of 16 bytes.
        let (a, b) = unsafe { (vld1q_s8(a.as_ptr()), vld1q_s8(b.as_ptr())) };
        sums = vpadalq_s16(sums, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        sums = vpadalq_s16(sums, vmull_high_s8(a, b));
    }
    vaddvq_s32(sums) + add_bytes(a_tail, b_tail)
}

/// The sums of the full parts and the tail, reduced.
#[target_feature(enable = "neon")]
fn finish<T: Copy>(sums: [float32x4_t; LANES / 4], a: &[T], b: &[f32], value: impl Fn(T) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for (part, sum) in sums.into_iter().enumerate() {
        // SAFETY: `lanes` has room for 32 floats, and `part` counts its eight parts of 4.
        unsafe { vst1q_f32(lanes.as_mut_ptr().add(4 * part), sum) };
    }
    add_tail(&mut lanes, a, b, value);
    reduce(lanes)
}

/// Products of sixteen codes with weights, neighbours added: below 3,810 in size.
#[target_feature(enable = "neon")]
fn pairs(codes: int8x16_t, weights: int8x16_t) -> int16x8_t {
    vpaddq_s16(vmull_s8(vget_low_s8(codes), vget_low_s8(weights)), vmull_high_s8(codes, weights))
}

#[target_feature(enable = "neon")]
fn add_outer_wide(matrix: &mut [f32], x: [&[f32]; 4]) {
    scalar::add_outer(matrix, x);
}

#[target_feature(enable = "neon")]
fn scan_wide(query: &ScanQuery, blocks: &Blocks, out: &mut Vec<Candidate>) -> usize {
    let words = spread(&query.words.head);
    scan_by(query, blocks, out, |head| head_dots(head, &words), |rest| rest_dots(rest, &query.words))
}

#[target_feature(enable = "neon")]
fn scan_deep_wide(query: &DeepQuery, slabs: [&Blocks; 2], out: &mut Vec<Reach>) {
    let words = query.parts.each_ref().map(|part| spread(&part.words.head));
    let head = |slab: usize, head: &Head| head_dots(head, &words[slab]);
    scan_deep_by(query, slabs, out, head, |slab, rest| rest_dots(rest, &query.parts[slab].words));
}

/// Each word in every lane.
#[inline]
#[target_feature(enable = "neon")]
fn spread<const LINES: usize>(words: &[[i32; 2]; LINES]) -> [[int8x16_t; 2]; LINES] {
    words.map(|line| line.map(|word| vreinterpretq_s8_s32(vdupq_n_s32(word))))
}

/// The dot products of a block's heads. The norms count for nothing: both of their halves have weights of 0.
#[inline]
#[target_feature(enable = "neon")]
fn head_dots(head: &Head, words: &[[int8x16_t; 2]; HEAD / 8 + 1]) -> [i32; BLOCK] {
    let mut dots = [0; BLOCK];
    for (quarter, dots) in dots.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut total = vdupq_n_s32(0);
        for (lines, words) in head.chunks(NARROW).zip(words.chunks(NARROW)) {
            let mut sums = vdupq_n_s16(0);
            for (line, words) in lines.iter().zip(words) {
                // SAFETY: a `Line` is 64 bytes, and `quarter` counts its four parts of 16.
                let codes = unsafe { vld1q_u8(line.0.as_ptr().add(16 * quarter)) };
                let low = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15)));
                let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(codes));
                sums = vaddq_s16(sums, vaddq_s16(pairs(low, words[0]), pairs(high, words[1])));
            }
            total = vpadalq_s16(total, sums);
        }
        // SAFETY: `dots` is an array of 4 integers.
        unsafe { vst1q_s32(dots.as_mut_ptr(), total) };
    }
    dots
}

/// The dot products of a block's pieces.
#[inline]
#[target_feature(enable = "neon")]
fn rest_dots(rest: &Rest, words: &Words) -> [i32; BLOCK] {
    let [low_words, high_words] = &words.rest;
    // SAFETY: either is 16 bytes.
    let (first, second) = unsafe { (vld1q_s8(low_words.as_ptr()), vld1q_s8(high_words.as_ptr())) };
    let mut dots = [0; BLOCK];
    for (lane, dot) in dots.iter_mut().enumerate() {
        // SAFETY: a `Piece` is 16 bytes.
        let codes = unsafe { vld1q_u8(rest.of(lane).0.as_ptr()) };
        let low = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15)));
        let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(codes));
        *dot = vaddlvq_s16(vaddq_s16(pairs(low, first), pairs(high, second)));
    }
    dots
}

#[target_feature(enable = "neon")]
fn sieve_wide(query: &SieveQuery, codes: &[RowCodes], terms: &[[u8; 2]], left: &mut Vec<Reach>) {
    scalar::sieve_by(query, codes, terms, left, |rows| rows.map(|row| code_dot_wide(row, &query.part.weights)));
}

#[target_feature(enable = "neon")]
fn code_dot_wide(codes: &RowCodes, weights: &[i8; SLAB]) -> i32 {
    let mut sums = vdupq_n_s32(0);
    for half in 0..2 {
        // SAFETY: `RowCodes` is 32 bytes and `weights` 64; `half` counts the two parts of 16 of either half.
        let (bytes, first, second) = unsafe {
            let weights = weights.as_ptr().add(16 * half);
            (vld1q_u8(codes.0.as_ptr().add(16 * half)), vld1q_s8(weights), vld1q_s8(weights.add(SLAB / 2)))
        };
        let low = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
        let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes));
        sums = vaddq_s32(sums, vpaddlq_s16(vaddq_s16(pairs(low, first), pairs(high, second))));
    }
    vaddvq_s32(sums)
}
