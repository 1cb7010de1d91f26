//! The query's side of the bound.

use super::basis::MAX_SLABS;
use super::encode::{ERROR_UNIT, RESIDUAL_UNIT};
use super::{Basis, float_error};
use crate::simd::{FRACTION_BITS, Kernels, SLAB, ScanQuery};
use std::cell::OnceCell;

/// Smallest value of one integer unit of the scan, so that its 16-bit weights hold any query's norms.
const MIN_UNIT: f64 = 1.25 * ERROR_UNIT / 32_000.0;

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
    /// What the sum misses because levels count from 0: to be added.
    offset: f64,
    /// Factor of a vector's coding error.
    error: f64,
    /// Factor of a vector's residual norm.
    residual: f64,
    /// Squared norm outside this slab and those before it, rounded up.
    outside: f64,
    /// Rounding of the weights, for a vector of norm 1.
    slack: f64,
}

impl SlabQuery {
    fn new(basis: &Basis, kernels: &Kernels, slab: usize, query: &[f32], outside: f64) -> Self {
        let rounding = basis.projection_error();
        let y = basis.project(kernels, slab, query).map(f64::from);
        let step = basis.slabs()[slab].step;
        let largest = y.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let fixed = f64::from(1_u32 << FRACTION_BITS);
        let scale = (127.0 / largest.max(1e-9)).min(step / (fixed * MIN_UNIT));
        let weights = y.map(|value| (value * scale).round() as i8);
        let (mut square, mut missed, mut total) = (0.0, 0.0, 0_i32);
        for (value, weight) in y.iter().zip(weights) {
            square += value * value;
            missed += (value - f64::from(weight) / scale).powi(2);
            total += i32::from(weight);
        }
        let (norm, missed) = (square.sqrt(), missed.sqrt() + rounding);
        let outside = (outside - (norm - rounding).max(0.0).powi(2)).max(0.0);
        Self {
            weights,
            unit: step / scale / fixed,
            offset: -7.5 * step / scale * f64::from(total),
            error: norm + rounding + missed,
            outside,
            residual: outside.sqrt() + 1e-6,
            slack: missed * (1.0 + 1e-3),
        }
    }

    pub(crate) fn weights(&self) -> &[i8; SLAB] {
        &self.weights
    }

    /// What this slab adds to the bound, from its dot product and the vector's coding error in it.
    pub(crate) fn part(&self, dot: i32, error: u8) -> f64 {
        self.unit * f64::from(dot << FRACTION_BITS)
            + self.error * ERROR_UNIT * f64::from(error)
            + self.offset
            + self.slack
    }

    /// What all later slabs and the rest can add at most.
    pub(crate) fn rest(&self, residual: u8) -> f64 {
        self.residual * RESIDUAL_UNIT * f64::from(residual)
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
        let slab = &self.first;
        let reach = f64::from(threshold) - self.float_error - slab.slack - slab.offset;
        ScanQuery {
            weights: slab.weights,
            residual: (slab.residual * RESIDUAL_UNIT / slab.unit).ceil() as i16,
            error: (slab.error * ERROR_UNIT / slab.unit).ceil() as i16,
            limit: (reach / slab.unit).floor() as i32 - 1,
        }
    }

    /// What the scan of the first slab left, as a similarity: an upper bound but for the residual.
    pub(crate) fn start(&self, partial: i32) -> f64 {
        self.first.unit * f64::from(partial) + (self.first.offset + self.first.slack + self.float_error + 1e-9)
    }

    /// The query in slab 1 or a later one, which the basis has.
    pub(crate) fn later(&self, slab: usize) -> &SlabQuery {
        self.later[slab - 1].get_or_init(|| {
            let before = if slab == 1 { &self.first } else { self.later(slab - 1) };
            SlabQuery::new(self.basis, self.kernels, slab, self.query, before.outside)
        })
    }

    /// Upper bound after the first slab alone, from its code: the reference for tests.
    #[cfg(test)]
    pub(crate) fn first_reach(&self, code: &super::encode::SlabCode) -> f64 {
        let slab = &self.first;
        let dot: i32 = slab.weights.iter().zip(code.levels).map(|(w, c)| i32::from(*w) * i32::from(c)).sum();
        slab.unit * f64::from(dot << FRACTION_BITS)
            + slab.error * ERROR_UNIT * f64::from(code.error)
            + slab.residual * RESIDUAL_UNIT * f64::from(code.residual)
            + slab.offset
            + slab.slack
            + self.float_error
    }
}
