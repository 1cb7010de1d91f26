//! Vectors in the form they are kept in.

use crate::codec::{float_error, half, scaled};
use crate::simd::{Kernels, prefetch};
use crate::values::Values;
use crate::{Error, Result};
use std::borrow::Cow;

/// How precisely vectors are kept. Similarities are those of the kept vectors, and searches are exact with
/// respect to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// Single precision: similarities equal brute force to 1e-6.
    #[default]
    F32,
    /// Half precision: each value is off by at most 2^-11 of itself, so a similarity by at most 4.9e-4.
    F16,
    /// One byte a value: for 384 dimensions a similarity is off by less than 6e-4 on average and, by the norm of
    /// what rounding removes and scaling back to norm 1, by at most `sqrt(dim) / 127` of the largest value.
    Int8,
}

impl Storage {
    /// Every mode, in the order of its tag in files.
    pub(crate) const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Int8];

    /// The mode of a name: `f32`, `f16` or `int8`.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| Error::InvalidOption {
            name: "storage",
            value: name.into(),
            expected: "\"f32\", \"f16\" or \"int8\"".into(),
        })
    }

    /// Slabs after the first that are worth coding row by row: comparing bytes reads little more than one slab.
    pub(crate) fn later_slabs(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 3,
            Self::Int8 => 0,
        }
    }

    /// Bytes of one vector in a file.
    pub(crate) fn row_bytes(self, dim: usize) -> usize {
        match self {
            Self::F32 => 4 * dim,
            Self::F16 => 2 * dim,
            Self::Int8 => 4 + dim,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

/// Codes whose squares' sum fits 32 bits.
const SQUARES: usize = 1 << 16;

fn squares(codes: &[i8]) -> i32 {
    codes.iter().map(|code| i32::from(*code) * i32::from(*code)).sum()
}

/// The largest size of a value.
fn largest(vector: &[f32]) -> f32 {
    let (full, tail) = vector.as_chunks::<16>();
    let mut most = [0.0_f32; 16];
    for part in full {
        for (most, value) in most.iter_mut().zip(part) {
            *most = if value.abs() > *most { value.abs() } else { *most };
        }
    }
    most.iter().chain(tail).fold(0.0, |most, value| most.max(value.abs()))
}

/// The nearest integer of a value from -127 to 127, the even one of two. Added to 1.5 x 2^23, it is the lowest byte of the
/// sum: `f32::round` took an insertion 1.1 us more for 384 values.
fn nearest(value: f32) -> i8 {
    (value + 12_582_912.0).to_bits() as i8
}

/// A unit query in bytes: a comparison with a vector in bytes is then one of integers, which says nearly all.
#[derive(Debug)]
pub(crate) struct ByteQuery {
    bytes: Vec<i8>,
    /// What one of them is worth.
    unit: f64,
    /// What a similarity may have more than the integers say.
    missed: f64,
}

impl ByteQuery {
    pub(crate) fn new(query: &[f32]) -> Self {
        let unit = f64::from(largest(query)) / 127.0;
        let bytes: Vec<i8> = scaled(query, 1.0 / unit).map(nearest).collect();
        let missed =
            query.iter().zip(&bytes).map(|(value, byte)| (f64::from(*value) - unit * f64::from(*byte)).powi(2));
        // By Cauchy-Schwarz, for a vector whose norm is off by its scale's rounding, and a sum that is off by its own.
        let missed = missed.sum::<f64>().sqrt() * (1.0 + 1e-6) + 2.0 * float_error(query.len());
        Self { bytes, unit, missed }
    }
}

/// Vectors of one length, end to end.
#[derive(Debug)]
pub(crate) enum Rows {
    F32(Values<f32>),
    F16(Values<u16>),
    /// A vector is its bytes times its scale, which makes its norm 1.
    Int8(Values<i8>, Vec<f32>),
}

impl Rows {
    /// Room for `count` vectors.
    pub(crate) fn with_capacity(storage: Storage, dim: usize, count: usize) -> Self {
        match storage {
            Storage::F32 => Self::F32(Values::with_capacity(dim * count)),
            Storage::F16 => Self::F16(Values::with_capacity(dim * count)),
            Storage::Int8 => Self::Int8(Values::with_capacity(dim * count), Vec::with_capacity(count)),
        }
    }

    /// One vector times `scale`, which makes its norm 1.
    pub(crate) fn one(storage: Storage, vector: &[f32], scale: f64) -> Self {
        let mut row = match storage {
            Storage::F32 => Self::F32(Vec::with_capacity(vector.len()).into()),
            Storage::F16 => Self::F16(Vec::with_capacity(vector.len()).into()),
            Storage::Int8 => Self::Int8(Vec::with_capacity(vector.len()).into(), Vec::with_capacity(1)),
        };
        row.set(vector, scale);
        row
    }

    /// Makes this one vector times `scale`, in the memory it has.
    pub(crate) fn set(&mut self, vector: &[f32], scale: f64) {
        match self {
            Self::F32(rows) => rows.refill(scaled(vector, scale)),
            Self::F16(rows) => rows.refill(scaled(vector, scale).map(half::from_f32)),
            Self::Int8(rows, scales) => {
                let factor = 127.0 / f64::from(largest(vector));
                rows.refill(scaled(vector, factor).map(nearest));
                let square: i64 = rows.chunks(SQUARES).map(|codes| i64::from(squares(codes))).sum();
                scales.clear();
                scales.push((square as f64).sqrt().recip() as f32);
            }
        }
    }

    /// Appends a vector of `other`, which is kept in the same form.
    pub(crate) fn push_from(&mut self, other: &Self, dim: usize, slot: usize) {
        let range = slot * dim..(slot + 1) * dim;
        match (self, other) {
            (Self::F32(to), Self::F32(from)) => to.extend_from_slice(&from[range]),
            (Self::F16(to), Self::F16(from)) => to.extend_from_slice(&from[range]),
            (Self::Int8(to, scales), Self::Int8(from, other_scales)) => {
                to.extend_from_slice(&from[range]);
                scales.push(other_scales[slot]);
            }
            _ => debug_assert!(false, "one index keeps all its vectors in one form"),
        }
    }

    /// Similarity of one vector with a query.
    #[inline]
    pub(crate) fn score(&self, kernels: &Kernels, query: &[f32], slot: usize) -> f32 {
        self.score_at(kernels, query, slot, slot * query.len())
    }

    /// What the start of the first vector adds to its similarity with a query, of which this is the start.
    #[inline]
    pub(crate) fn score_start(&self, kernels: &Kernels, start: &[f32]) -> f32 {
        self.score_at(kernels, start, 0, 0)
    }

    #[inline]
    fn score_at(&self, kernels: &Kernels, query: &[f32], slot: usize, first: usize) -> f32 {
        let range = first..first + query.len();
        match self {
            Self::F32(rows) => (kernels.dot)(&rows[range], query),
            Self::F16(rows) => (kernels.dot_half)(&rows[range], query),
            Self::Int8(rows, scales) => scales[slot] * (kernels.dot_bytes)(&rows[range], query),
        }
    }

    /// Whether they are bytes, and so few to a vector that their products' sum fits 32 bits.
    #[inline]
    pub(crate) fn are_bytes(&self, dim: usize) -> bool {
        matches!(self, Self::Int8(..)) && dim <= SQUARES
    }

    /// Whether the similarity of one vector may reach `floor`, as far as a query in bytes can tell.
    #[inline]
    pub(crate) fn may_reach(&self, kernels: &Kernels, query: &ByteQuery, slot: usize, floor: f32) -> bool {
        let Self::Int8(rows, scales) = self else { return true };
        let dim = query.bytes.len();
        let dot = (kernels.byte_dot)(&rows[slot * dim..(slot + 1) * dim], &query.bytes);
        f64::from(scales[slot]) * query.unit * f64::from(dot) + query.missed >= f64::from(floor)
    }

    /// Asks for a vector that will be compared soon.
    #[inline]
    pub(crate) fn fetch(&self, dim: usize, slot: usize) {
        let range = slot * dim..(slot + 1) * dim;
        match self {
            Self::F32(rows) => prefetch(&rows[range]),
            Self::F16(rows) => prefetch(&rows[range]),
            Self::Int8(rows, scales) => {
                prefetch(&rows[range]);
                prefetch(&scales[slot..=slot]);
            }
        }
    }

    /// One vector in single precision.
    pub(crate) fn decode(&self, dim: usize, slot: usize) -> Cow<'_, [f32]> {
        let range = slot * dim..(slot + 1) * dim;
        match self {
            Self::F32(rows) => Cow::Borrowed(&rows[range]),
            Self::F16(rows) => rows[range].iter().map(|value| half::to_f32(*value)).collect(),
            Self::Int8(rows, scales) => rows[range].iter().map(|code| f32::from(*code) * scales[slot]).collect(),
        }
    }

    /// Appends one vector's bytes.
    pub(crate) fn write(&self, dim: usize, slot: usize, out: &mut Vec<u8>) {
        let range = slot * dim..(slot + 1) * dim;
        match self {
            Self::F32(rows) => out.extend(rows[range].iter().flat_map(|value| value.to_le_bytes())),
            Self::F16(rows) => out.extend(rows[range].iter().flat_map(|value| value.to_le_bytes())),
            Self::Int8(rows, scales) => {
                out.extend_from_slice(&scales[slot].to_le_bytes());
                out.extend(rows[range].iter().map(|value| *value as u8));
            }
        }
    }

    /// Appends a vector from its bytes, if they are those of a vector of norm 1.
    pub(crate) fn read(&mut self, dim: usize, bytes: &[u8]) -> Option<()> {
        let norm = match self {
            Self::F32(rows) => {
                let row: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
                rows.extend_from_slice(&row);
                row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>()
            }
            Self::F16(rows) => {
                let row: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|value| u16::from_le_bytes(*value)).collect();
                rows.extend_from_slice(&row);
                row.iter().map(|value| f64::from(half::to_f32(*value)).powi(2)).sum()
            }
            Self::Int8(rows, scales) => {
                let (scale, codes) = bytes.split_first_chunk::<4>()?;
                let scale = f32::from_le_bytes(*scale);
                scales.push(scale);
                rows.extend_from_slice(bytemuck::cast_slice(codes));
                let square: f64 = codes.iter().map(|code| f64::from(*code as i8).powi(2)).sum();
                square * f64::from(scale).powi(2)
            }
        };
        (bytes.len() >= dim && (norm - 1.0).abs() < 1.5e-3).then_some(())
    }

    pub(crate) fn nbytes(&self) -> usize {
        match self {
            Self::F32(rows) => rows.nbytes(),
            Self::F16(rows) => rows.nbytes(),
            Self::Int8(rows, scales) => rows.nbytes() + 4 * scales.capacity(),
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::{ByteQuery, Rows, SQUARES, Storage, largest, nearest, squares};
    use crate::codec::{unit, unit_scale};
    use crate::simd::kernels;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_rule_out_nothing_that_reaches_the_floor(
            pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 1..300), share in 0.0_f32..1.0,
        ) {
            let (query, mut row): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            row.iter_mut().zip(&query).for_each(|(row, query)| *row = share * query + (1.0 - share) * *row);
            let (Ok(query), Ok(scale)) = (unit(&query, query.len()), unit_scale(&row, row.len())) else { return Ok(()) };
            let rows = Rows::one(Storage::Int8, &row, scale);
            let (bytes, score) = (ByteQuery::new(&query), rows.score(kernels(), &query, 0));
            prop_assert!(rows.may_reach(kernels(), &bytes, 0, score));
            // What the query's bytes miss is at most half a unit in each of its values, and as much again the other way.
            let missed = 0.5 * largest(&query) / 127.0 * (query.len() as f32).sqrt();
            prop_assert!(!rows.may_reach(kernels(), &bytes, 0, score + 2.1 * missed + 1e-3));
        }
    }

    #[test]
    fn codes_are_the_nearest_integers() {
        for step in -127 * 64..=127 * 64_i16 {
            let value = f32::from(step) / 64.0;
            assert_eq!(i32::from(nearest(value)), value.round_ties_even() as i32, "{value}");
        }
    }

    #[test]
    fn the_largest_is_found_wherever_it_is() {
        for length in [1, 15, 16, 17, 100] {
            for at in 0..length {
                let mut vector = vec![0.25_f32; length];
                vector[at] = -3.0;
                assert_eq!(largest(&vector).to_bits(), 3.0_f32.to_bits());
            }
        }
    }

    #[test]
    fn sums_of_squares_do_not_overflow() {
        assert_eq!(squares(&vec![-127; SQUARES]), 16_129 << 16);
    }
}
