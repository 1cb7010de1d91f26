//! AVX-512 with VNNI: 64 products of a code with a weight in one instruction.
#![cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "dozens of intrinsics, told apart by their prefix"))]
#![expect(unsafe_code, reason = "intrinsics and the call into functions compiled for an instruction set")]

use super::avx2::{halves, reduce_eight, total, totals};
use super::left::{CHUNK, Left, Sums};
use super::prefetch::prefetch;
use super::scalar::{self, LANES, add_bytes, add_tail, collect, reduce};
use super::{
    BLOCK, Block, Blocks, Candidate, Columns, Cut, DeepQuery, FRACTION_BITS, HALF, Isa, Kernels, Reach, RowCodes, SLAB,
    ScanQuery, SecondBlocks, SieveQuery, SlabPart, Terms,
};
use crate::codec::half;
use std::arch::x86_64::*;

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
        && is_x86_feature_detected!("avx512vnni");
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn project_wide(matrix: &[Columns], x: &[f32]) -> [f32; SLAB] {
    scalar::project(matrix, x)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn add_outer_wide(matrix: &mut [f32], x: [&[f32]; 4]) {
    scalar::add_outer(matrix, x);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn scan_wide(query: &ScanQuery, blocks: &Blocks, out: &mut Vec<Candidate>) -> usize {
    let words = scalar::words(&query.weights).map(|word| _mm512_set1_epi32(word));
    let (head_words, tail_words) = words.split_at(HALF / 4);
    let (head_pair, pair) = (_mm512_set1_epi32(query.head.pair()), _mm512_set1_epi32(query.whole.pair()));
    let (tails, tail_terms) = (&blocks.tails[..], &blocks.terms[..]);
    if query.head.limit == i32::MIN {
        // Nothing to leave out: one pass, in the order of memory.
        let halves = blocks.heads.iter().zip(tails);
        for (number, ((head, tail), terms)) in halves.zip(tail_terms).enumerate() {
            let dots = slab_dots([head, tail], &words);
            let mask = passing(query.whole, pair, dots, terms);
            if mask != 0 {
                collect(query, &stored(dots).0, terms, u32::from(mask), number, out);
            }
        }
        return tails.len();
    }
    let (mut passed, mut left) = (0, Left::new());
    let chunks = blocks.heads.chunks(CHUNK).zip(blocks.head_terms.chunks(CHUNK));
    for (chunk, (heads, terms)) in chunks.enumerate() {
        left.clear();
        for (number, (head, terms)) in heads.iter().zip(terms).enumerate() {
            let dots = half_dots(head, head_words, _mm512_setzero_si512());
            let mask = passing(query.head, head_pair, dots, terms);
            left.offer(chunk * CHUNK + number, stored(dots), mask != 0);
        }
        passed += left.len();
        for (sums, number) in left.iter() {
            // SAFETY: `Sums` is 64 bytes, aligned to 64.
            let start = unsafe { _mm512_load_si512(sums.0.as_ptr().cast()) };
            let (tail, terms) = (&tails[number], &tail_terms[number]);
            let dots = half_dots(tail, tail_words, start);
            let mask = passing(query.whole, pair, dots, terms);
            if mask != 0 {
                collect(query, &stored(dots).0, terms, u32::from(mask), number, out);
            }
        }
    }
    passed
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn scan_deep_wide(query: &DeepQuery, first: &Blocks, second: &SecondBlocks, out: &mut Vec<Reach>) {
    let words = query.parts.each_ref().map(|part| scalar::words(&part.weights).map(|word| _mm512_set1_epi32(word)));
    let blocks = first.heads.iter().zip(first.tails.iter()).zip(second.codes.iter());
    let terms = first.terms.iter().zip(second.terms.iter());
    let [first_part, second_part] = &query.parts;
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (number, (((head, tail), [third, fourth]), terms)) in blocks.zip(terms).enumerate() {
        let (_, error) = residual_and_error(terms.0);
        let in_first = part_of(first_part, slab_dots([head, tail], &words[0]), error);
        let (residual, error) = residual_and_error(terms.1);
        let in_second = part_of(second_part, slab_dots([third, fourth], &words[1]), error);
        let reach = _mm512_add_ps(_mm512_add_ps(in_first, in_second), _mm512_set1_ps(query.offset));
        let mask = reaching(reach, residual, query.residual, query.floor);
        if mask != 0 {
            let rows = _mm512_add_epi32(lanes, _mm512_set1_epi32((number * BLOCK) as i32));
            append(out, rows, reach, mask);
        }
    }
}

/// Residual norms and coding errors of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn residual_and_error(terms: &Terms) -> (__m512, __m512) {
    // SAFETY: `Terms` is 32 bytes, aligned to 32.
    split(unsafe { _mm256_load_si256(terms.0.as_ptr().cast()) })
}

/// The first and the second bytes of sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn split(pairs: __m256i) -> (__m512, __m512) {
    let pairs = _mm512_cvtepu16_epi32(pairs);
    let first = _mm512_and_si512(pairs, _mm512_set1_epi32(255));
    (_mm512_cvtepi32_ps(first), _mm512_cvtepi32_ps(_mm512_srli_epi32::<8>(pairs)))
}

/// What a slab adds to sixteen bounds but for the offset.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn part_of(part: &SlabPart, dots: __m512i, error: __m512) -> __m512 {
    let inner = _mm512_mul_ps(_mm512_set1_ps(part.unit), _mm512_cvtepi32_ps(dots));
    _mm512_add_ps(inner, _mm512_mul_ps(_mm512_set1_ps(part.error), error))
}

/// One bit for each of sixteen bounds that reaches the floor with its residual.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn reaching(reach: __m512, residual: __m512, weight: f32, floor: f32) -> __mmask16 {
    let most = _mm512_add_ps(reach, _mm512_mul_ps(_mm512_set1_ps(weight), residual));
    _mm512_cmp_ps_mask::<_CMP_GE_OQ>(most, _mm512_set1_ps(floor))
}

/// Appends those of sixteen rows that the mask names.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn append(out: &mut Vec<Reach>, rows: __m512i, reach: __m512, mask: __mmask16) {
    out.reserve(BLOCK);
    // SAFETY: there is room for sixteen more, and all that the length then counts has been written.
    unsafe {
        write(out.as_mut_ptr().add(out.len()), rows, reach, mask);
        out.set_len(out.len() + mask.count_ones() as usize);
    }
}

/// Writes those of sixteen rows that the mask names, and anything behind them up to sixteen.
///
/// # Safety
/// `to` must have room for sixteen.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn write(to: *mut Reach, rows: __m512i, reach: __m512, mask: __mmask16) {
    let rows = _mm512_maskz_compress_epi32(mask, rows);
    let reach = _mm512_maskz_compress_epi32(mask, _mm512_castps_si512(reach));
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    // SAFETY: a `Reach` is two words of 32 bits, the row first, and `to` has room for sixteen.
    unsafe {
        _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi32(rows, low, reach));
        _mm512_storeu_si512(to.add(8).cast(), _mm512_permutex2var_epi32(rows, high, reach));
    }
}

/// The dot products of a whole slab.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn slab_dots([first, second]: [&Block; 2], words: &[__m512i; SLAB / 4]) -> __m512i {
    let (first_words, second_words) = words.split_at(HALF / 4);
    half_dots(second, second_words, half_dots(first, first_words, _mm512_setzero_si512()))
}

/// Adds the dot products of half a slab.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn half_dots(block: &Block, words: &[__m512i], start: __m512i) -> __m512i {
    let low_half = _mm512_set1_epi8(15);
    let (mut even, mut odd) = (start, _mm512_setzero_si512());
    for (line, words) in block.iter().zip(words.as_chunks::<2>().0) {
        // SAFETY: a `Line` is 64 bytes, aligned to 64.
        let codes = unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
        let low = _mm512_and_si512(codes, low_half);
        // The high halves stay where they are, sixteen times too large: one shift at the end undoes it for all lines.
        let high = _mm512_andnot_si512(low_half, codes);
        even = _mm512_dpbusd_epi32(even, low, words[0]);
        odd = _mm512_dpbusd_epi32(odd, high, words[1]);
    }
    _mm512_add_epi32(even, _mm512_srai_epi32::<4>(odd))
}

/// One bit for each vector that passes a test; `pair` holds the test's weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn passing(cut: Cut, pair: __m512i, dots: __m512i, terms: &Terms) -> __mmask16 {
    // SAFETY: `Terms` is 32 bytes, aligned to 32.
    let bytes = unsafe { _mm256_load_si256(terms.0.as_ptr().cast()) };
    let extra = _mm512_madd_epi16(_mm512_cvtepu8_epi16(bytes), pair);
    let bound = _mm512_add_epi32(_mm512_slli_epi32::<FRACTION_BITS>(dots), extra);
    _mm512_cmpge_epi32_mask(bound, _mm512_set1_epi32(cut.limit))
}

#[inline]
fn stored(sums: __m512i) -> Sums {
    // SAFETY: both are sixteen integers of 32 bits, in the same order.
    unsafe { std::mem::transmute::<__m512i, Sums>(sums) }
}

/// Eight sums that together are the inner product.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn code_sums(codes: &RowCodes, [first, second]: [__m256i; 2]) -> __m256i {
    let low_half = _mm256_set1_epi8(15);
    // SAFETY: `RowCodes` is 32 bytes, aligned to 32.
    let bytes = unsafe { _mm256_load_si256(codes.0.as_ptr().cast()) };
    let low = _mm256_and_si256(bytes, low_half);
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low_half);
    _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(_mm256_setzero_si256(), low, first), high, second)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn code_dot_wide(codes: &RowCodes, weights: &[i8; SLAB]) -> i32 {
    total(code_sums(codes, halves(weights)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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
        unsafe { write(left.as_mut_ptr().add(kept), rows, reach, mask) };
        kept += mask.count_ones() as usize;
    }
    let tail = left.as_chunks::<BLOCK>().1;
    let mut group = [Reach { row: 0, reach: 0.0 }; BLOCK];
    group[..tail.len()].copy_from_slice(tail);
    let asked = (1_u16 << tail.len()) - 1;
    left.truncate(kept);
    if asked != 0 {
        let (rows, reach, mask) = sift(query, weights, codes, terms, &group);
        append(left, rows, reach, mask & asked);
    }
}

/// Sixteen rows with what they reach now, and one bit for each that is left.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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
    let added = _mm512_add_ps(part_of(&query.part, dots, error), _mm512_set1_ps(query.offset));
    let reach = _mm512_add_ps(before, added);
    (rows, reach, reaching(reach, residual, query.residual, query.floor))
}

/// Rows and what they reach, apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn read(group: &[Reach; BLOCK]) -> (__m512i, __m512) {
    // SAFETY: a `Reach` is two words of 32 bits, the row first, and there are sixteen.
    let (low, high) = unsafe {
        let from = group.as_ptr();
        (_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(8).cast()))
    };
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    let reach = _mm512_permutex2var_epi32(low, odd, high);
    (_mm512_permutex2var_epi32(low, even, high), _mm512_castsi512_ps(reach))
}
