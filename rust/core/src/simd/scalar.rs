//! The reference kernels: portable code that says what every other set must return, bit by bit.
#![expect(clippy::inline_always, reason = "what is compiled for an instruction set must be inlined into its functions")]

use super::{
    BLOCK, Blocks, Candidate, Columns, Cut, DeepQuery, FRACTION_BITS, Head, HeadCut, Isa, Kernels, Reach, Rest,
    RowCodes, SLAB, ScanQuery, SieveQuery, Words,
};
use crate::codec::half;

pub(super) static KERNELS: Kernels = Kernels {
    isa: Isa::Scalar,
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

/// Lanes of the float sums.
pub(super) const LANES: usize = 32;

/// Adds up the lanes: halves onto each other until one is left.
#[inline(always)]
pub(super) fn reduce(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

/// The inner product: 32 lanes, a tail into the first of them, one reduction tree.
#[inline(always)]
fn dot_as<T: Copy>(a: &[T], b: &[f32], value: impl Fn(T) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for (x, y) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            lanes[lane] += value(x[lane]) * y[lane];
        }
    }
    add_tail(&mut lanes, a, b, value);
    reduce(lanes)
}

/// Adds the products of what is left over after the full parts of two slices.
#[inline(always)]
pub(super) fn add_tail<T: Copy>(lanes: &mut [f32; LANES], a: &[T], b: &[f32], value: impl Fn(T) -> f32) {
    let (tail, other_tail) = (a.as_chunks::<LANES>().1, b.as_chunks::<LANES>().1);
    for ((lane, x), y) in lanes.iter_mut().zip(tail).zip(other_tail) {
        *lane += value(*x) * y;
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_as(a, b, |value| value)
}

fn dot_half(a: &[u16], b: &[f32]) -> f32 {
    dot_as(a, b, half::to_f32)
}

fn dot_bytes(a: &[i8], b: &[f32]) -> f32 {
    dot_as(a, b, f32::from)
}

/// The inner product of bytes.
#[inline(always)]
pub(super) fn add_bytes(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

fn byte_dot(a: &[i8], b: &[i8]) -> i32 {
    add_bytes(a, b)
}

/// Shared by every set: the compiler turns it into the vectors of the set it is inlined into.
#[inline(always)]
pub(super) fn project(matrix: &[Columns], x: &[f32]) -> [f32; SLAB] {
    let mut sums = [0.0; SLAB];
    for (row, value) in matrix.iter().zip(x) {
        for (sum, column) in sums.iter_mut().zip(&row.0) {
            *sum += column * value;
        }
    }
    sums
}

fn project_four(matrix: &[Columns], x: [&[f32]; 4]) -> [[f32; SLAB]; 4] {
    x.map(|x| project(matrix, x))
}

/// Shared by every set, as [`project`] is.
#[inline(always)]
pub(super) fn add_outer(matrix: &mut [f32], [a, b, c, d]: [&[f32]; 4]) {
    for (number, row) in matrix.chunks_exact_mut(a.len()).enumerate() {
        // From a whole vector's start on, so that every row is in whole ones but for its end.
        let start = number / BLOCK * BLOCK;
        let [e, f, g, h] = [a, b, c, d].map(|x| x[number]);
        let columns = a[start..].iter().zip(&b[start..]).zip(c[start..].iter().zip(&d[start..]));
        for (sum, ((a, b), (c, d))) in row[start..].iter_mut().zip(columns) {
            *sum += (e * a + f * b) + (g * c + h * d);
        }
    }
}

/// One bit for each vector of a block that passes the test of the head.
#[inline(always)]
pub(super) fn passing(cut: HeadCut, dots: &[i32; BLOCK], head: &Head) -> u32 {
    let last = &head[head.len() - 1];
    let mut mask = 0;
    for (lane, dot) in dots.iter().enumerate() {
        let [residual, error] = last.terms(lane).map(i32::from);
        let sum = dot + i32::from(cut.residual) * residual + i32::from(cut.error) * error;
        mask |= u32::from(sum >= cut.limit) << lane;
    }
    mask
}

impl Cut {
    /// What a vector reaches but for the residual term, if it passes; `dot` is its integer dot product.
    #[inline(always)]
    pub(super) fn reached(self, dot: i32, [residual, error]: [u8; 2]) -> Option<i32> {
        let partial = (dot << FRACTION_BITS) + i32::from(self.error) * i32::from(error);
        (partial + i32::from(self.residual) * i32::from(residual) >= self.limit).then_some(partial)
    }
}

/// A scan, given the dot products of heads and of rests.
#[inline(always)]
pub(super) fn scan_by(
    query: &ScanQuery,
    blocks: &Blocks,
    out: &mut Vec<Candidate>,
    head_dots: impl Fn(&Head) -> [i32; BLOCK],
    rest_dots: impl Fn(&Rest) -> [i32; BLOCK],
) -> usize {
    let mut passed = 0;
    for (number, (head, rest)) in blocks.heads.iter().zip(blocks.rests.iter()).enumerate() {
        let dots = head_dots(head);
        let mut mask = passing(query.head, &dots, head);
        if mask != 0 {
            passed += mask.count_ones() as usize;
            let rest_dots = rest_dots(rest);
            while mask != 0 {
                let lane = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                if let Some(partial) = query.whole.reached(dots[lane] + rest_dots[lane], rest.of(lane).terms()) {
                    out.push(Candidate { row: (number * BLOCK + lane) as u32, partial });
                }
            }
        }
    }
    passed
}

fn head_dots(words: &Words, head: &Head) -> [i32; BLOCK] {
    let mut dots = [0; BLOCK];
    for (line, words) in head.iter().zip(&words.head) {
        let [low, high] = words.map(|word| word.to_le_bytes().map(|byte| i32::from(byte as i8)));
        for (dot, codes) in dots.iter_mut().zip(line.0.as_chunks::<4>().0) {
            for (byte, code) in codes.iter().enumerate() {
                *dot += low[byte] * i32::from(code & 15) + high[byte] * i32::from(code >> 4);
            }
        }
    }
    dots
}

fn rest_dots(words: &Words, rest: &Rest) -> [i32; BLOCK] {
    let [low, high] = words.rest;
    std::array::from_fn(|lane| {
        let products = rest.of(lane).0.iter().zip(low.iter().zip(high));
        products
            .map(|(code, (low, high))| i32::from(*low) * i32::from(code & 15) + i32::from(high) * i32::from(code >> 4))
            .sum()
    })
}

fn scan(query: &ScanQuery, blocks: &Blocks, out: &mut Vec<Candidate>) -> usize {
    let words = &query.words;
    scan_by(query, blocks, out, |head| head_dots(words, head), |rest| rest_dots(words, rest))
}

/// A scan of two slabs, given the dot products of a block in one of them, by their number.
#[inline(always)]
pub(super) fn scan_deep_by(
    query: &DeepQuery,
    slabs: [&Blocks; 2],
    out: &mut Vec<Reach>,
    head_dots: impl Fn(usize, &Head) -> [i32; BLOCK],
    rest_dots: impl Fn(usize, &Rest) -> [i32; BLOCK],
) {
    let [a, b] = slabs.map(|slab| slab.heads.iter().zip(slab.rests.iter()));
    for (block, ((head, rest), (second_head, second_rest))) in a.zip(b).enumerate() {
        let (dots, rests) =
            ([head_dots(0, head), head_dots(1, second_head)], [rest_dots(0, rest), rest_dots(1, second_rest)]);
        let mut reaches = [0.0_f32; BLOCK];
        let mut mask = 0_u32;
        for lane in 0..BLOCK {
            let in_slab = |slab: usize, error: u8| {
                let (part, dot) = (&query.parts[slab], dots[slab][lane] + rests[slab][lane]);
                part.unit * dot as f32 + part.error * f32::from(error)
            };
            let ([_, error], [residual, second_error]) = (rest.of(lane).terms(), second_rest.of(lane).terms());
            reaches[lane] = in_slab(0, error) + in_slab(1, second_error) + query.offset;
            mask |= u32::from(reaches[lane] + query.residual * f32::from(residual) >= query.floor) << lane;
        }
        while mask != 0 {
            let lane = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            out.push(Reach { row: (block * BLOCK + lane) as u32, reach: reaches[lane] });
        }
    }
}

fn scan_deep(query: &DeepQuery, slabs: [&Blocks; 2], out: &mut Vec<Reach>) {
    let words = |slab: usize| &query.parts[slab].words;
    scan_deep_by(
        query,
        slabs,
        out,
        |slab, head| head_dots(words(slab), head),
        |slab, rest| rest_dots(words(slab), rest),
    );
}

/// The sieve, sixteen rows a step, given the inner products of four rows' codes.
#[inline(always)]
pub(super) fn sieve_by(
    query: &SieveQuery,
    codes: &[RowCodes],
    terms: &[[u8; 2]],
    left: &mut Vec<Reach>,
    four: impl Fn([&RowCodes; 4]) -> [i32; 4],
) {
    let mut kept = 0;
    for start in (0..left.len()).step_by(BLOCK) {
        let mut group = [left[start]; BLOCK];
        let count = BLOCK.min(left.len() - start);
        group[..count].copy_from_slice(&left[start..start + count]);
        let mut dots = [0; BLOCK];
        for (dots, rows) in dots.as_chunks_mut::<4>().0.iter_mut().zip(group.as_chunks::<4>().0) {
            *dots = four(rows.map(|row| &codes[row.row as usize]));
        }
        let terms = group.map(|row| terms[row.row as usize]);
        let mut most = [0.0_f32; BLOCK];
        for lane in 0..BLOCK {
            let [residual, error] = terms[lane].map(f32::from);
            group[lane].reach += query.part.unit * dots[lane] as f32 + query.part.error * error + query.offset;
            most[lane] = group[lane].reach + query.residual * residual;
        }
        for (reach, most) in group.into_iter().zip(most).take(count) {
            left[kept] = reach;
            kept += usize::from(most >= query.floor);
        }
    }
    left.truncate(kept);
}

fn sieve(query: &SieveQuery, codes: &[RowCodes], terms: &[[u8; 2]], left: &mut Vec<Reach>) {
    sieve_by(query, codes, terms, left, |rows| rows.map(|row| code_dot(row, &query.part.weights)));
}

fn code_dot(codes: &RowCodes, weights: &[i8; SLAB]) -> i32 {
    let (low, high) = weights.split_at(SLAB / 2);
    codes
        .0
        .iter()
        .zip(low.iter().zip(high))
        .map(|(code, (low, high))| i32::from(*low) * i32::from(code & 15) + i32::from(*high) * i32::from(code >> 4))
        .sum()
}
