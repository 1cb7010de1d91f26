//! The query's side of the bound.

use super::encode::{ERROR_UNIT, RESIDUAL_UNIT};
use super::{Basis, float_error};
use crate::simd::{FRACTION_BITS, Kernels, SLAB, ScanQuery};

/// Smallest value of one integer unit of the scan, so that its 16-bit weights hold any query's norms.
const MIN_UNIT: f64 = 1.25 * ERROR_UNIT / 32_000.0;

/// A query prepared for one basis.
#[derive(Debug)]
pub(crate) struct QueryBound {
    slabs: Vec<SlabQuery>,
    float_error: f64,
}

/// The query in one slab: integer weights, and what they leave out.
#[derive(Debug)]
struct SlabQuery {
    weights: [i8; SLAB],
    /// Value of one unit of the fixed-point sum.
    unit: f64,
    /// What the sum misses because levels count from 0: to be added.
    offset: f64,
    /// Factor of a vector's coding error.
    error: f64,
    /// Factor of a vector's residual norm.
    residual: f64,
    /// Rounding of the weights, for a vector of norm 1.
    slack: f64,
}

impl QueryBound {
    /// Prepares a unit vector.
    pub(crate) fn new(basis: &Basis, kernels: &Kernels, query: &[f32]) -> Self {
        let rounding = basis.projection_error();
        let float_error = float_error(basis.dim());
        let mut outside = (1.0 + float_error) * (1.0 + basis.stretch());
        let slabs = (0..basis.slabs().len())
            .map(|slab| {
                let y = basis.project(kernels, slab, query).map(f64::from);
                let step = basis.slabs()[slab].step;
                let largest = y.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
                let fixed = f64::from(1_u32 << FRACTION_BITS);
                let scale = (127.0 / largest.max(1e-9)).min(step / (fixed * MIN_UNIT));
                let weights = y.map(|value| (value * scale).round() as i8);
                let missed =
                    y.iter().zip(weights).map(|(value, w)| (value - f64::from(w) / scale).powi(2)).sum::<f64>();
                let missed = missed.sqrt() + rounding;
                let norm = y.iter().map(|value| value * value).sum::<f64>().sqrt();
                outside -= (norm - rounding).max(0.0).powi(2);
                SlabQuery {
                    weights,
                    unit: step / scale / fixed,
                    offset: -7.5 * step / scale * weights.iter().map(|w| f64::from(*w)).sum::<f64>(),
                    error: norm + rounding + missed,
                    residual: outside.max(0.0).sqrt() + 1e-6,
                    slack: missed * (1.0 + 1e-3),
                }
            })
            .collect();
        Self { slabs, float_error }
    }

    /// The first slab as a scan that keeps whatever may reach `threshold`.
    pub(crate) fn scan(&self, threshold: f32) -> ScanQuery {
        let slab = &self.slabs[0];
        let reach = f64::from(threshold) - self.float_error - slab.slack - slab.offset;
        ScanQuery {
            weights: slab.weights,
            residual: (slab.residual * RESIDUAL_UNIT / slab.unit).ceil() as i16,
            error: (slab.error * ERROR_UNIT / slab.unit).ceil() as i16,
            limit: (reach / slab.unit).floor() as i32 - 1,
        }
    }

    /// Weights of the second slab, if there is one.
    pub(crate) fn second_weights(&self) -> Option<&[i8; SLAB]> {
        self.slabs.get(1).map(|slab| &slab.weights)
    }

    /// Upper bound of the similarity, as a hit would compute it, after two slabs: from what the scan of the
    /// first left (`partial`), and the second's dot product and terms.
    pub(crate) fn second(&self, partial: i32, dot: i32, code_error: u8, residual: u8) -> f64 {
        let (first, second) = (&self.slabs[0], &self.slabs[1]);
        first.unit * f64::from(partial)
            + second.unit * f64::from(dot << FRACTION_BITS)
            + second.error * ERROR_UNIT * f64::from(code_error)
            + second.residual * RESIDUAL_UNIT * f64::from(residual)
            + (first.offset + second.offset + first.slack + second.slack + self.float_error + 1e-9)
    }

    /// Upper bound after the first slab alone, from its code: the reference for tests.
    #[cfg(test)]
    pub(crate) fn first(&self, code: &super::encode::SlabCode) -> f64 {
        let slab = &self.slabs[0];
        let dot: i32 = slab.weights.iter().zip(code.levels).map(|(w, c)| i32::from(*w) * i32::from(c)).sum();
        slab.unit * f64::from(dot << FRACTION_BITS)
            + slab.error * ERROR_UNIT * f64::from(code.error)
            + slab.residual * RESIDUAL_UNIT * f64::from(code.residual)
            + slab.offset
            + slab.slack
            + self.float_error
    }
}
