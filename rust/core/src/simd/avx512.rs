//! AVX-512 with VNNI: 64 products of a code with a weight in one instruction.
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "dozens of intrinsics, told apart by their prefix"))]
#![expect(unsafe_code, reason = "intrinsics and the call into functions compiled for an instruction set")]

use super::avx2::{halves, reduce_eight, total, totals};
use super::prefetch::prefetch;
use super::scalar::{self, LANES, add_bytes, add_tail, reduce};
use super::{
    BLOCK, Blocks, Candidate, Columns, Cut, DeepPart, DeepQuery, FRACTION_BITS, HEAD, Head, Isa, Kernels, Piece, RUN,
    Reach, Rest, RowCodes, SLAB, ScanQuery, SieveQuery, Words,
};
use crate::codec::half;
use bytemuck::Pod;
use std::arch::x86_64::*;
use std::hint::black_box;

/// Blocks in one pass of a scan of two slabs: what they reach stays in the nearest cache.
const DEEP_CHUNK: usize = 64;

/// The table, if this machine has every feature that the functions below are compiled with.
pub(super) fn kernels() -> Option<&'static Kernels> {
    static KERNELS: Kernels = Kernels {
        isa: Isa::Avx512,
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
    let here = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("popcnt");
    here.then_some(&KERNELS)
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn dot_wide(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 2];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `x` and `y` are arrays of 32 floats, and `part` counts their two parts of 16.
            let (x, y) =
                unsafe { (_mm512_loadu_ps(x.as_ptr().add(16 * part)), _mm512_loadu_ps(y.as_ptr().add(16 * part))) };
            *sum = _mm512_add_ps(*sum, _mm512_mul_ps(x, y));
        }
    }
    finish(sums, a, b, |value| value)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn dot_half_wide(a: &[u16], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 2];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `x` is an array of 32 halves and `y` of 32 floats; `part` counts their two parts of 16.
            let (x, y) = unsafe {
                (_mm256_loadu_si256(x.as_ptr().add(16 * part).cast()), _mm512_loadu_ps(y.as_ptr().add(16 * part)))
            };
            *sum = _mm512_add_ps(*sum, _mm512_mul_ps(_mm512_cvtph_ps(x), y));
        }
    }
    finish(sums, a, b, half::to_f32)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn dot_bytes_wide(a: &[i8], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 2];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `x` is an array of 32 bytes and `y` of 32 floats; `part` counts their two parts of 16.
            let (x, y) = unsafe {
                (_mm_loadu_si128(x.as_ptr().add(16 * part).cast()), _mm512_loadu_ps(y.as_ptr().add(16 * part)))
            };
            *sum = _mm512_add_ps(*sum, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x)), y));
        }
    }
    finish(sums, a, b, f32::from)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn byte_dot_wide(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<64>(), b.as_chunks::<64>());
    // The instruction multiplies a byte from 0 to 255 with one from -128 to 127: the first is moved up by 128, and the
    // products with that are counted too.
    let middle = _mm512_set1_epi8(i8::MIN);
    let (mut sums, mut moved) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (a, b) in a.iter().zip(b) {
        // SAFETY: both are arrays of 64 bytes.
        let (a, b) = unsafe { (_mm512_loadu_si512(a.as_ptr().cast()), _mm512_loadu_si512(b.as_ptr().cast())) };
        sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(a, middle), b);
        moved = _mm512_dpbusd_epi32(moved, middle, b);
    }
    _mm512_reduce_add_epi32(_mm512_sub_epi32(sums, moved)) + add_bytes(a_tail, b_tail)
}

/// The sums of the full parts and the tail, reduced.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn finish<T: Copy>(sums: [__m512; 2], a: &[T], b: &[f32], value: impl Fn(T) -> f32) -> f32 {
    if a.len().is_multiple_of(LANES) {
        let sixteen = _mm512_add_ps(sums[0], sums[1]);
        let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sixteen)));
        return reduce_eight(_mm256_add_ps(_mm512_castps512_ps256(sixteen), upper));
    }
    let mut lanes = [0.0; LANES];
    for (part, sum) in sums.into_iter().enumerate() {
        // SAFETY: `lanes` has room for 32 floats, and `part` counts its two parts of 16.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr().add(16 * part), sum) };
    }
    add_tail(&mut lanes, a, b, value);
    reduce(lanes)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn project_wide(matrix: &[Columns], x: &[f32]) -> [f32; SLAB] {
    scalar::project(matrix, x)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn project_four_wide(matrix: &[Columns], x: [&[f32]; 4]) -> [[f32; SLAB]; 4] {
    let mut sums = [[_mm512_setzero_ps(); SLAB / 16]; 4];
    let values = x[0].iter().zip(x[1]).zip(x[2].iter().zip(x[3]));
    for (row, ((a, b), (c, d))) in matrix.iter().zip(values) {
        for part in 0..SLAB / 16 {
            // SAFETY: `row` holds 64 floats, and `part` counts its four parts of 16.
            let columns = unsafe { _mm512_loadu_ps(row.0.as_ptr().add(16 * part)) };
            for (sums, value) in sums.iter_mut().zip([a, b, c, d]) {
                sums[part] = _mm512_add_ps(sums[part], _mm512_mul_ps(columns, _mm512_set1_ps(*value)));
            }
        }
    }
    sums.map(|sums| {
        let mut out = [0.0; SLAB];
        for (part, sum) in sums.into_iter().enumerate() {
            // SAFETY: `out` has room for 64 floats, and `part` counts its four parts of 16.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(16 * part), sum) };
        }
        out
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn add_outer_wide(matrix: &mut [f32], x: [&[f32]; 4]) {
    scalar::add_outer(matrix, x);
}

// The loops over blocks write down what they find at the block's own place and call nothing: a call keeps the weights out of
// registers, and a place that depends on how much was found before makes a block wait for the last. Such a loop alone
// took 5.8 ns a block with 32 dimensions in four lines and the norms elsewhere, this 3.7 with 36 in five.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn scan_wide(query: &ScanQuery, blocks: &Blocks, out: &mut Vec<Candidate>) -> usize {
    let (first, mut masks) = (out.len(), [0; RUN]);
    let found = &mut masks[..blocks.heads.len()];
    if query.head.limit == i32::MIN {
        // Nothing to leave out: one pass, in the order of memory.
        test_all(query, blocks, found);
        each(found, |number, mask| append_left(query, blocks, number, mask as u16, out));
        return blocks.heads.len() * BLOCK;
    }
    test_heads(query, blocks, found);
    each(found, |number, mut mask| {
        let dots = stored(dots_of(&query.words, &blocks.heads[number]));
        while mask != 0 {
            let lane = mask.trailing_zeros();
            mask &= mask - 1;
            let row = (number * BLOCK) as u32 + lane;
            prefetch(std::slice::from_ref(blocks.piece(row)));
            out.push(Candidate { row, partial: dots[lane as usize] });
        }
    });
    let passed = out.len() - first;
    test_rows(query, blocks, first, out);
    passed
}

/// One bit for each vector that passes the test of its head.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn test_heads(query: &ScanQuery, blocks: &Blocks, masks: &mut [u16]) {
    let mut words = spread(&query.words.head);
    words[HEAD / 8][0] = _mm512_or_si512(words[HEAD / 8][0], _mm512_set1_epi32(query.head.terms()));
    let (low_halves, limit) = (low_halves(), _mm512_set1_epi32(query.head.limit));
    for (mask, head) in masks.iter_mut().zip(&blocks.heads[..]) {
        *mask = _mm512_cmpge_epi32_mask(head_dots(head, &words, low_halves), limit);
    }
}

/// One bit for each vector that passes the test of the whole.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn test_all(query: &ScanQuery, blocks: &Blocks, masks: &mut [u16]) {
    let words = WideWords::new(&query.words);
    for (mask, (head, rest)) in masks.iter_mut().zip(blocks.heads.iter().zip(&blocks.rests[..])) {
        let (dots, terms) = words.dots(head, rest);
        *mask = reached(query.whole, dots, terms).1;
    }
}

/// Appends the vectors of a block that the mask names.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn append_left(query: &ScanQuery, blocks: &Blocks, number: usize, mask: u16, out: &mut Vec<Candidate>) {
    let (dots, terms) = WideWords::new(&query.words).dots(&blocks.heads[number], &blocks.rests[number]);
    append(out, rows_of(number), reached(query.whole, dots, terms).0, mask);
}

/// Adds the rests to the sums of what the heads left, from `first` on, and drops what the test of the whole rules out.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn test_rows(query: &ScanQuery, blocks: &Blocks, first: usize, out: &mut Vec<Candidate>) {
    let (weights, len, mut kept) = (piece_words(&query.words), out.len(), first);
    out.reserve(BLOCK);
    for start in (first..len).step_by(BLOCK) {
        let count = BLOCK.min(len - start);
        let mut group = [Candidate { row: 0, partial: 0 }; BLOCK];
        let words = u32::MAX >> (32 - 2 * count);
        // SAFETY: a `Candidate` is two words of 32 bits: `count` of them are in `out` from `start` on, sixteen in `group`.
        unsafe {
            let from = out.as_ptr().add(start).cast::<i32>();
            _mm512_storeu_si512(group.as_mut_ptr().cast(), _mm512_maskz_loadu_epi32(words as u16, from));
            let high = _mm512_maskz_loadu_epi32((words >> 16) as u16, from.add(16));
            _mm512_storeu_si512(group.as_mut_ptr().add(8).cast(), high);
        }
        let piece = |lane: usize| blocks.piece(group[lane].row);
        let pieces = [
            gathered([piece(0), piece(4), piece(8), piece(12)]),
            gathered([piece(1), piece(5), piece(9), piece(13)]),
            gathered([piece(2), piece(6), piece(10), piece(14)]),
            gathered([piece(3), piece(7), piece(11), piece(15)]),
        ];
        let (sums, terms) = rest_dots(pieces, weights);
        let (rows, before) = read(&group);
        let (partial, mask) = reached(query.whole, _mm512_add_epi32(before, sums), terms);
        let there = u16::MAX >> (BLOCK - count);
        // SAFETY: `kept` is at most `start`, from where on there is room for sixteen more than `out` holds.
        unsafe { write(out.as_mut_ptr().add(kept), rows, partial, mask & there) };
        kept += (mask & there).count_ones() as usize;
    }
    out.truncate(kept);
}

/// The dot products of one head.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn dots_of(words: &Words, head: &Head) -> __m512i {
    head_dots(head, &spread(&words.head), low_halves())
}

/// The numbers of a block's vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn rows_of(block: usize) -> __m512i {
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_add_epi32(lanes, _mm512_set1_epi32((block * BLOCK) as i32))
}

/// Calls for each mask that is not empty.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn each(masks: &[u16], mut take: impl FnMut(usize, u32)) {
    for (group, masks) in masks.chunks(32).enumerate() {
        let mut some = any(masks);
        while some != 0 {
            let at = some.trailing_zeros() as usize;
            some &= some - 1;
            take(group * 32 + at, u32::from(masks[at]));
        }
    }
}

/// One bit for each of up to 32 masks that is not empty.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn any(masks: &[u16]) -> u32 {
    let there = u32::MAX >> (32 - masks.len().clamp(1, 32));
    // SAFETY: as many are loaded as `masks` has, at most 32.
    let masks = unsafe { _mm512_maskz_loadu_epi16(there, masks.as_ptr().cast()) };
    _mm512_test_epi16_mask(masks, masks)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn scan_deep_wide(query: &DeepQuery, [first, second]: [&Blocks; 2], out: &mut Vec<Reach>) {
    let mut reaches = [_mm512_setzero_ps(); DEEP_CHUNK];
    let mut masks = [0; DEEP_CHUNK];
    let [a, b] = [first, second].map(|slab| slab.heads.chunks(DEEP_CHUNK).zip(slab.rests.chunks(DEEP_CHUNK)));
    for (chunk, (first, second)) in a.zip(b).enumerate() {
        // A slab at a time: the weights of both do not fit the registers.
        reach_in_first(&query.parts[0], first, &mut reaches);
        reach_in_both(query, second, &mut reaches, &mut masks);
        each(&masks[..first.0.len()], |at, mask| {
            append(out, rows_of(chunk * DEEP_CHUNK + at), _mm512_castps_si512(reaches[at]), mask as u16);
        });
    }
}

/// What vectors reach by the first slab.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn reach_in_first(part: &DeepPart, (heads, rests): (&[Head], &[Rest]), reaches: &mut [__m512; DEEP_CHUNK]) {
    let words = WideWords::new(&part.words);
    for (reach, (head, rest)) in reaches.iter_mut().zip(heads.iter().zip(rests)) {
        let (dots, terms) = words.dots(head, rest);
        *reach = part_of([part.unit, part.error], dots, _mm512_cvtepi32_ps(_mm512_srli_epi32::<16>(terms)));
    }
}

/// What they reach by the second as well, and one bit for each whose reach is enough.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn reach_in_both(
    query: &DeepQuery,
    (heads, rests): (&[Head], &[Rest]),
    reaches: &mut [__m512; DEEP_CHUNK],
    masks: &mut [u16; DEEP_CHUNK],
) {
    let part = &query.parts[1];
    let words = WideWords::new(&part.words);
    for ((reach, mask), (head, rest)) in reaches.iter_mut().zip(masks).zip(heads.iter().zip(rests)) {
        let (dots, terms) = words.dots(head, rest);
        let in_second = part_of([part.unit, part.error], dots, _mm512_cvtepi32_ps(_mm512_srli_epi32::<16>(terms)));
        *reach = _mm512_add_ps(_mm512_add_ps(*reach, in_second), _mm512_set1_ps(query.offset));
        let residual = _mm512_cvtepi32_ps(_mm512_and_si512(terms, _mm512_set1_epi32(0xffff)));
        *mask = reaching(*reach, residual, query.residual, query.floor);
    }
}

/// A slab's weights in registers.
struct WideWords {
    head: [[__m512i; 2]; HEAD / 8 + 1],
    rest: [__m512i; 2],
    low_halves: [__m512i; 2],
}

impl WideWords {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
    fn new(words: &Words) -> Self {
        Self { head: spread(&words.head), rest: piece_words(words), low_halves: low_halves() }
    }

    /// The dot products of a block, and the norms of its rests as pairs of 16 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
    fn dots(&self, head: &Head, rest: &Rest) -> (__m512i, __m512i) {
        let (sums, terms) = rest_dots(load_rest(rest), self.rest);
        (_mm512_add_epi32(sums, head_dots(head, &self.head, self.low_halves)), terms)
    }
}

/// Each word in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn spread(words: &[[i32; 2]; HEAD / 8 + 1]) -> [[__m512i; 2]; HEAD / 8 + 1] {
    let mut lanes = [[_mm512_setzero_si512(); 2]; HEAD / 8 + 1];
    // By loops: closures handed to `map` are not always inlined.
    for (lanes, words) in lanes.iter_mut().zip(words) {
        for (lanes, word) in lanes.iter_mut().zip(words) {
            *lanes = _mm512_set1_epi32(*word);
        }
    }
    lanes
}

/// The low halves of bytes: of all in most lines, and with the norms, which are whole bytes, in last ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn low_halves() -> [__m512i; 2] {
    // Constants would be read from memory each time they are used.
    [_mm512_set1_epi32(black_box(0x0f0f_0f0f)), _mm512_set1_epi32(black_box(0xffff_0f0f_u32 as i32))]
}

/// The weights of the low and the high halves of four pieces.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn piece_words(words: &Words) -> [__m512i; 2] {
    let [low, high] = &words.rest;
    // SAFETY: either is 16 bytes.
    let (low, high) = unsafe { (_mm_loadu_si128(low.as_ptr().cast()), _mm_loadu_si128(high.as_ptr().cast())) };
    [_mm512_broadcast_i32x4(low), _mm512_broadcast_i32x4(high)]
}

/// A block's pieces as they lie, four to a register.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn load_rest(rest: &Rest) -> [__m512i; 4] {
    let from = std::ptr::from_ref(rest).cast::<u8>();
    // SAFETY: a `Rest` is 256 bytes, aligned to 64, in four parts of 64.
    unsafe {
        [
            _mm512_load_si512(from.cast()),
            _mm512_load_si512(from.add(64).cast()),
            _mm512_load_si512(from.add(128).cast()),
            _mm512_load_si512(from.add(192).cast()),
        ]
    }
}

/// Four pieces from where they are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn gathered([a, b, c, d]: [&Piece; 4]) -> __m512i {
    // SAFETY: a `Piece` is 16 bytes.
    unsafe {
        let (a, b) = (_mm_loadu_si128(a.0.as_ptr().cast()), _mm_loadu_si128(b.0.as_ptr().cast()));
        let (c, d) = (_mm_loadu_si128(c.0.as_ptr().cast()), _mm_loadu_si128(d.0.as_ptr().cast()));
        let two = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
        _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(two, c), d)
    }
}

/// The sums of products of a block's heads: of codes, and of norms as far as they have weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn head_dots(head: &Head, words: &[[__m512i; 2]; HEAD / 8 + 1], low_halves: [__m512i; 2]) -> __m512i {
    let [mut even, mut odd] = [_mm512_setzero_si512(); 2];
    for (number, (line, words)) in head.iter().zip(words).enumerate() {
        // SAFETY: a `Line` is 64 bytes, aligned to 64.
        let codes = unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
        // Norms are whole bytes, which count among the low halves.
        let low_half = low_halves[usize::from(number == HEAD / 8)];
        let low = _mm512_and_si512(codes, low_half);
        // The high halves stay where they are, sixteen times too large: one shift at the end undoes it for all lines.
        let high = _mm512_andnot_si512(low_half, codes);
        even = _mm512_dpbusd_epi32(even, low, words[0]);
        odd = _mm512_dpbusd_epi32(odd, high, words[1]);
    }
    _mm512_add_epi32(even, _mm512_srai_epi32::<4>(odd))
}

/// The dot products of sixteen pieces, and their norms as pairs of 16 bits: those of part `p` of register `r` in lane `4p + r`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn rest_dots([a, b, c, d]: [__m512i; 4], words: [__m512i; 2]) -> (__m512i, __m512i) {
    let ends = _mm512_unpackhi_epi64(_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    let apart = _mm512_broadcast_i32x4(_mm_setr_epi8(2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1));
    let (a, b, c, d) = (piece_dots(a, words), piece_dots(b, words), piece_dots(c, words), piece_dots(d, words));
    let first = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let second = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let sums = _mm512_add_epi32(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
    (sums, _mm512_shuffle_epi8(ends, apart))
}

/// Four sums for each of four pieces that together are its dot product.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn piece_dots(codes: __m512i, words: [__m512i; 2]) -> __m512i {
    let low_half = _mm512_set1_epi8(15);
    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_half);
    let low = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(codes, low_half), words[0]);
    _mm512_dpbusd_epi32(low, high, words[1])
}

/// What vectors reach but for the residual term, and one bit for each that passes the test of the whole.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn reached(cut: Cut, dots: __m512i, terms: __m512i) -> (__m512i, __mmask16) {
    let dots = _mm512_slli_epi32::<FRACTION_BITS>(dots);
    let bound = _mm512_add_epi32(dots, _mm512_madd_epi16(terms, _mm512_set1_epi32(cut.pair())));
    let partial = _mm512_add_epi32(dots, _mm512_madd_epi16(terms, _mm512_set1_epi32(i32::from(cut.error) << 16)));
    (partial, _mm512_cmpge_epi32_mask(bound, _mm512_set1_epi32(cut.limit)))
}

/// The first and the second bytes of sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn split(pairs: __m256i) -> (__m512, __m512) {
    let pairs = _mm512_cvtepu16_epi32(pairs);
    let first = _mm512_and_si512(pairs, _mm512_set1_epi32(255));
    (_mm512_cvtepi32_ps(first), _mm512_cvtepi32_ps(_mm512_srli_epi32::<8>(pairs)))
}

/// What a slab adds to sixteen bounds but for the offset.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn part_of([unit, error_unit]: [f32; 2], dots: __m512i, error: __m512) -> __m512 {
    let inner = _mm512_mul_ps(_mm512_set1_ps(unit), _mm512_cvtepi32_ps(dots));
    _mm512_add_ps(inner, _mm512_mul_ps(_mm512_set1_ps(error_unit), error))
}

/// One bit for each of sixteen bounds that reaches the floor with its residual.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn reaching(reach: __m512, residual: __m512, weight: f32, floor: f32) -> __mmask16 {
    let most = _mm512_add_ps(reach, _mm512_mul_ps(_mm512_set1_ps(weight), residual));
    _mm512_cmp_ps_mask::<_CMP_GE_OQ>(most, _mm512_set1_ps(floor))
}

/// Appends those of sixteen rows that the mask names.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn append<T: Pod>(out: &mut Vec<T>, rows: __m512i, reached: __m512i, mask: __mmask16) {
    out.reserve(BLOCK);
    // SAFETY: there is room for sixteen more, and all that the length then counts has been written.
    unsafe {
        write(out.as_mut_ptr().add(out.len()), rows, reached, mask);
        out.set_len(out.len() + mask.count_ones() as usize);
    }
}

/// Writes those of sixteen rows that the mask names, and anything behind them up to sixteen.
///
/// # Safety
/// `to` must have room for sixteen.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
unsafe fn write<T: Pod>(to: *mut T, rows: __m512i, reached: __m512i, mask: __mmask16) {
    const { assert!(size_of::<T>() == 8) };
    let rows = _mm512_maskz_compress_epi32(mask, rows);
    let reached = _mm512_maskz_compress_epi32(mask, reached);
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    // SAFETY: a `T` is two words of 32 bits (asserted above), the row first, and `to` has room for sixteen.
    unsafe {
        _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi32(rows, low, reached));
        _mm512_storeu_si512(to.add(8).cast(), _mm512_permutex2var_epi32(rows, high, reached));
    }
}

#[inline]
fn stored(sums: __m512i) -> [i32; BLOCK] {
    // SAFETY: both are sixteen integers of 32 bits, in the same order.
    unsafe { std::mem::transmute::<__m512i, [i32; BLOCK]>(sums) }
}

/// Eight sums that together are the inner product.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn code_sums(codes: &RowCodes, [first, second]: [__m256i; 2]) -> __m256i {
    let low_half = _mm256_set1_epi8(15);
    // SAFETY: `RowCodes` is 32 bytes, aligned to 32.
    let bytes = unsafe { _mm256_load_si256(codes.0.as_ptr().cast()) };
    let low = _mm256_and_si256(bytes, low_half);
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low_half);
    _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(_mm256_setzero_si256(), low, first), high, second)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn code_dot_wide(codes: &RowCodes, weights: &[i8; SLAB]) -> i32 {
    total(code_sums(codes, halves(weights)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn sieve_wide(query: &SieveQuery, codes: &[RowCodes], terms: &[[u8; 2]], left: &mut Vec<Reach>) {
    let weights = halves(&query.part.weights);
    let mut kept = 0;
    for number in 0..left.len() / BLOCK {
        let groups = left.as_chunks::<BLOCK>().0;
        let group = groups[number];
        for coming in groups.get(number + 2).into_iter().flatten() {
            prefetch(std::slice::from_ref(&codes[coming.row as usize]));
        }
        let (rows, reach, mask) = sift(query, weights, codes, terms, &group);
        // SAFETY: what is kept so far is of the groups before this one, which has been read: sixteen fit behind it.
        unsafe { write(left.as_mut_ptr().add(kept), rows, _mm512_castps_si512(reach), mask) };
        kept += mask.count_ones() as usize;
    }
    let tail = left.as_chunks::<BLOCK>().1;
    let mut group = [Reach { row: 0, reach: 0.0 }; BLOCK];
    group[..tail.len()].copy_from_slice(tail);
    let asked = (1_u16 << tail.len()) - 1;
    left.truncate(kept);
    if asked != 0 {
        let (rows, reach, mask) = sift(query, weights, codes, terms, &group);
        append(left, rows, _mm512_castps_si512(reach), mask & asked);
    }
}

/// Sixteen rows with what they reach now, and one bit for each that is left.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn sift(
    query: &SieveQuery,
    weights: [__m256i; 2],
    codes: &[RowCodes],
    terms: &[[u8; 2]],
    group: &[Reach; BLOCK],
) -> (__m512i, __m512, __mmask16) {
    let four = |at: usize| totals([0, 1, 2, 3].map(|row| code_sums(&codes[group[at + row].row as usize], weights)));
    let dots = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(four(0)), four(4));
    let dots = _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(dots, four(8)), four(12));
    let pair = |at: usize| i16::from_le_bytes(terms[group[at].row as usize]);
    let eight = |at: usize| {
        let pairs = [0, 1, 2, 3, 4, 5, 6, 7].map(|lane| pair(at + lane));
        let [a, b, c, d, e, f, g, h] = pairs;
        _mm_setr_epi16(a, b, c, d, e, f, g, h)
    };
    let (residual, error) = split(_mm256_set_m128i(eight(8), eight(0)));
    let (rows, before) = read(group);
    let added = _mm512_add_ps(part_of([query.part.unit, query.part.error], dots, error), _mm512_set1_ps(query.offset));
    let reach = _mm512_add_ps(_mm512_castsi512_ps(before), added);
    (rows, reach, reaching(reach, residual, query.residual, query.floor))
}

/// Rows and what they reach, apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,popcnt")]
fn read<T: Pod>(group: &[T; BLOCK]) -> (__m512i, __m512i) {
    const { assert!(size_of::<T>() == 8) };
    // SAFETY: a `T` is two words of 32 bits (asserted above), the row first, and there are sixteen.
    let (low, high) = unsafe {
        let from = group.as_ptr();
        (_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(8).cast()))
    };
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    (_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high))
}
