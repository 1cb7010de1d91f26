//! The reference kernels: portable code that says what every other set must return, bit by bit.
#![expect(clippy::inline_always, reason = "what is compiled for an instruction set must be inlined into its functions")]

use super::{
    BLOCK, Block, Blocks, Candidate, Columns, Cut, DeepQuery, FRACTION_BITS, HALF, Isa, Kernels, Reach, RowCodes, SLAB,
    ScanQuery, SecondBlocks, SieveQuery, Terms,
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

/// Four weights at a time, as one lane of an instruction takes them.
#[inline(always)]
pub(super) fn words(weights: &[i8; SLAB]) -> [i32; SLAB / 4] {
    std::array::from_fn(|word| i32::from_le_bytes(std::array::from_fn(|byte| weights[4 * word + byte] as u8)))
}

/// The survivors of one block, given the integer dot product of each vector.
#[inline(always)]
pub(super) fn collect(
    query: &ScanQuery,
    dots: &[i32; BLOCK],
    terms: &Terms,
    mut mask: u32,
    block: usize,
    out: &mut Vec<Candidate>,
) {
    while mask != 0 {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        let partial = (dots[lane] << FRACTION_BITS) + i32::from(query.whole.error) * i32::from(terms.0[2 * lane + 1]);
        out.push(Candidate { row: (block * BLOCK + lane) as u32, partial });
    }
}

/// One bit for each vector of a block that passes a test.
#[inline(always)]
pub(super) fn passing(cut: Cut, dots: &[i32; BLOCK], terms: &Terms) -> u32 {
    let mut mask = 0;
    for (lane, dot) in dots.iter().enumerate() {
        let bound = (dot << FRACTION_BITS)
            + i32::from(cut.residual) * i32::from(terms.0[2 * lane])
            + i32::from(cut.error) * i32::from(terms.0[2 * lane + 1]);
        mask |= u32::from(bound >= cut.limit) << lane;
    }
    mask
}

fn add_half(dots: &mut [i32; BLOCK], block: &Block, weights: &[i8]) {
    for (line, weights) in block.iter().zip(weights.as_chunks::<8>().0) {
        for (byte, code) in line.0.iter().enumerate() {
            let low = i32::from(weights[byte % 4]) * i32::from(code & 15);
            let high = i32::from(weights[4 + byte % 4]) * i32::from(code >> 4);
            dots[byte / 4] += low + high;
        }
    }
}

fn scan(query: &ScanQuery, blocks: &Blocks, out: &mut Vec<Candidate>) -> usize {
    let mut passed = 0;
    for (number, (head, terms)) in blocks.heads.iter().zip(blocks.head_terms.iter()).enumerate() {
        let mut dots = [0; BLOCK];
        add_half(&mut dots, head, &query.weights[..HALF]);
        if passing(query.head, &dots, terms) != 0 {
            passed += 1;
            let terms = &blocks.terms[number];
            add_half(&mut dots, &blocks.tails[number], &query.weights[HALF..]);
            // Where the first half lets one vector of a block pass, only the test of both halves decides for all.
            collect(query, &dots, terms, passing(query.whole, &dots, terms), number, out);
        }
    }
    passed
}

/// The survivors of one block by both slabs, given the integer dot products in either.
#[inline(always)]
pub(super) fn collect_deep(
    query: &DeepQuery,
    dots: [&[i32; BLOCK]; 2],
    terms: [&Terms; 2],
    block: usize,
    out: &mut Vec<Reach>,
) {
    let [first, second] = &query.parts;
    let mut reaches = [0.0_f32; BLOCK];
    let mut mask = 0_u32;
    for lane in 0..BLOCK {
        let [_, error] = [0, 1].map(|at| f32::from(terms[0].0[2 * lane + at]));
        let [residual, second_error] = [0, 1].map(|at| f32::from(terms[1].0[2 * lane + at]));
        let in_first = first.unit * dots[0][lane] as f32 + first.error * error;
        let in_second = second.unit * dots[1][lane] as f32 + second.error * second_error;
        reaches[lane] = in_first + in_second + query.offset;
        mask |= u32::from(reaches[lane] + query.residual * residual >= query.floor) << lane;
    }
    while mask != 0 {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        out.push(Reach { row: (block * BLOCK + lane) as u32, reach: reaches[lane] });
    }
}

fn scan_deep(query: &DeepQuery, first: &Blocks, second: &SecondBlocks, out: &mut Vec<Reach>) {
    for (number, (head, tail)) in first.heads.iter().zip(first.tails.iter()).enumerate() {
        let mut dots = [[0; BLOCK]; 2];
        for (dots, (block, part)) in
            dots.iter_mut().zip([[head, tail], second.codes[number].each_ref()].into_iter().zip(&query.parts))
        {
            for (block, weights) in block.into_iter().zip(part.weights.as_chunks::<HALF>().0) {
                add_half(dots, block, weights);
            }
        }
        collect_deep(query, dots.each_ref(), [&first.terms[number], &second.terms[number]], number, out);
    }
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
