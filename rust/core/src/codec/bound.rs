//! The query's side of the bound.

use super::basis::MAX_SLABS;
use super::encode::{ERROR_UNIT, RESIDUAL_UNIT};
use super::{Basis, float_error};
use crate::simd::{Cut, DeepQuery, FRACTION_BITS, HALF, Kernels, SLAB, ScanQuery, SieveQuery, SlabPart};
use std::cell::OnceCell;

/// Smallest value of one integer unit of the scan, so that its 16-bit weights hold any query's norms.
const MIN_UNIT: f64 = 1.25 * ERROR_UNIT / 32_000.0;

/// What one slab's part of a bound may lose in single precision. Its largest term, the sum over levels that count from 0,
/// is at most 15 steps of 0.1 times the 1-norm of a unit vector in 64 dimensions, which is 8: 12 in all. It and
/// the offset are off by two and one units of 2^-24 of themselves, and so is each of three sums.
const SINGLE: f64 = 1e-5;

/// A unit query prepared for one basis.
#[derive(Debug)]
pub(crate) struct QueryBound<'a> {
    basis: &'a Basis,
    kernels: &'a Kernels,
    query: &'a [f32],
    first: SlabQuery,
    /// Made when they are first asked for.
    later: [OnceCell<SlabQuery>; MAX_SLABS - 1],
    float_error: f64,
}

/// The query in one slab: integer weights, and what they leave out.
#[derive(Debug)]
pub(crate) struct SlabQuery {
    weights: [i8; SLAB],
    /// Value of one unit of the fixed-point sum.
    unit: f64,
    /// The first half alone.
    head: Part,
    /// The whole slab.
    whole: Part,
}

/// What an integer sum over some dimensions does not say.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// What the sum misses because levels count from 0: to be added.
    offset: f64,
    /// Factor of a vector's coding error.
    error: f64,
    /// Factor of a vector's residual norm.
    residual: f64,
    /// Squared norm outside these dimensions and those before them, rounded up.
    outside: f64,
    /// Rounding of the weights, for a vector of norm 1.
    slack: f64,
}

impl SlabQuery {
    fn new(basis: &Basis, kernels: &Kernels, slab: usize, query: &[f32], outside: f64) -> Self {
        let rounding = basis.projection_error();
        let y = basis.project(kernels, slab, query);
        let steps = basis.slabs()[slab].steps;
        let largest =
            y.as_chunks::<HALF>().0.iter().zip(steps).map(|(half, step)| {
                f64::from(half.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()))) * step
            });
        let fixed = f64::from(1_u32 << FRACTION_BITS);
        // A weight is a coordinate times its step, so that the sums of both halves are in one unit.
        let scale = (127.0 / largest.fold(1e-12, f64::max)).min(1.0 / (fixed * MIN_UNIT));
        let mut weights = [0; SLAB];
        let mut parts = [Part::default(); 2];
        let (mut square, mut missed, mut total) = (0.0, 0.0, 0_i32);
        let halves = y.as_chunks::<HALF>().0.iter().zip(weights.as_chunks_mut::<HALF>().0).zip(steps);
        for (part, ((y, weights), step)) in parts.iter_mut().zip(halves) {
            let (forth, back) = (step * scale, (step * scale).recip());
            for (value, weight) in y.iter().zip(weights) {
                let value = f64::from(*value);
                // Half away from zero, without a call: what rounding leaves is measured below.
                *weight = (value * forth + 0.5_f64.copysign(value)) as i8;
                square += value * value;
                missed += (value - f64::from(*weight) * back).powi(2);
                total += i32::from(*weight);
            }
            let (norm, missed) = (square.sqrt(), missed.sqrt() + rounding);
            let outside = (outside - (norm - rounding).max(0.0).powi(2)).max(0.0);
            *part = Part {
                offset: -7.5 / scale * f64::from(total),
                error: norm + rounding + missed,
                residual: outside.sqrt() + 1e-6,
                outside,
                slack: missed * (1.0 + 1e-3),
            };
        }
        let [head, whole] = parts;
        Self { weights, unit: 1.0 / (scale * fixed), head, whole }
    }

    pub(crate) fn weights(&self) -> &[i8; SLAB] {
        &self.weights
    }

    /// What this slab adds to the bound, from its dot product and the vector's coding error in it.
    pub(crate) fn part(&self, dot: i32, error: u8) -> f64 {
        self.unit * f64::from(dot << FRACTION_BITS)
            + self.whole.error * ERROR_UNIT * f64::from(error)
            + self.whole.offset
            + self.whole.slack
    }

    /// What all later slabs and the rest can add at most.
    pub(crate) fn rest(&self, residual: u8) -> f64 {
        self.whole.residual * RESIDUAL_UNIT * f64::from(residual)
    }

    fn single(&self) -> SlabPart {
        SlabPart {
            weights: self.weights,
            unit: (self.unit * f64::from(1_u32 << FRACTION_BITS)) as f32,
            error: (self.whole.error * ERROR_UNIT) as f32,
        }
    }

    /// This slab as a sieve that keeps whatever may reach `threshold`.
    pub(crate) fn sieve(&self, threshold: f32) -> SieveQuery {
        SieveQuery {
            part: self.single(),
            residual: (self.whole.residual * RESIDUAL_UNIT) as f32,
            offset: (self.whole.offset + self.whole.slack + SINGLE) as f32,
            floor: threshold,
        }
    }

    /// The test that lets through whatever may reach `threshold`, by what is known of `part`.
    fn cut(&self, part: &Part, threshold: f64) -> Cut {
        Cut {
            residual: (part.residual * RESIDUAL_UNIT / self.unit).ceil() as i16,
            error: (part.error * ERROR_UNIT / self.unit).ceil() as i16,
            limit: ((threshold - part.slack - part.offset) / self.unit).floor() as i32 - 1,
        }
    }
}

impl<'a> QueryBound<'a> {
    /// Prepares a unit vector.
    pub(crate) fn new(basis: &'a Basis, kernels: &'a Kernels, query: &'a [f32]) -> Self {
        let float_error = float_error(basis.dim());
        let outside = (1.0 + float_error) * (1.0 + basis.stretch());
        let first = SlabQuery::new(basis, kernels, 0, query, outside);
        Self { basis, kernels, query, first, later: Default::default(), float_error }
    }

    /// The first slab as a scan that keeps whatever may reach `threshold`.
    pub(crate) fn scan(&self, threshold: f32) -> ScanQuery {
        let (slab, threshold) = (&self.first, f64::from(threshold) - self.float_error);
        ScanQuery {
            weights: slab.weights,
            head: slab.cut(&slab.head, threshold),
            whole: slab.cut(&slab.whole, threshold),
        }
    }

    /// The first two slabs, which the basis has, as a scan that keeps whatever may reach `threshold`.
    pub(crate) fn scan_deep(&self, threshold: f32) -> DeepQuery {
        let (first, second) = (&self.first, self.later(1));
        let offsets = [&first.whole, &second.whole].map(|part| part.offset + part.slack + SINGLE);
        DeepQuery {
            parts: [first.single(), second.single()],
            residual: (second.whole.residual * RESIDUAL_UNIT) as f32,
            offset: (offsets.iter().sum::<f64>() + self.float_error) as f32,
            floor: threshold,
        }
    }

    /// What the scan of the first slab left, as a similarity: an upper bound but for the residual.
    pub(crate) fn start(&self) -> impl Fn(i32) -> f32 + use<> {
        let whole = &self.first.whole;
        let unit = self.first.unit as f32;
        let offset = (whole.offset + whole.slack + self.float_error + SINGLE) as f32;
        // Less than 2^24, so that it is exact in single precision.
        move |partial| unit * partial as f32 + offset
    }

    /// The query in slab 1 or a later one, which the basis has.
    pub(crate) fn later(&self, slab: usize) -> &SlabQuery {
        self.later[slab - 1].get_or_init(|| {
            let before = if slab == 1 { &self.first } else { self.later(slab - 1) };
            SlabQuery::new(self.basis, self.kernels, slab, self.query, before.whole.outside)
        })
    }

    /// Upper bounds after the first half of the first slab, and after all of it, from its code: the reference for tests.
    #[cfg(test)]
    pub(crate) fn first_reach(&self, code: &super::encode::SlabCode) -> [f64; 2] {
        let slab = &self.first;
        let products: Vec<i32> =
            slab.weights.iter().zip(code.levels).map(|(w, c)| i32::from(*w) * i32::from(c)).collect();
        [(&products[..HALF], &slab.head, code.head), (&products[..], &slab.whole, code.whole)].map(
            |(products, part, norms)| {
                slab.unit * f64::from(products.iter().sum::<i32>() << FRACTION_BITS)
                    + part.error * ERROR_UNIT * f64::from(norms.error)
                    + part.residual * RESIDUAL_UNIT * f64::from(norms.residual)
                    + part.offset
                    + part.slack
                    + self.float_error
            },
        )
    }
}
