//! Coding one vector.

use super::{Basis, float_error};
use crate::simd::{Kernels, SLAB};

/// What one unit of a stored residual norm stands for. A norm is at most 1 and a little; 255 units hold it.
pub(crate) const RESIDUAL_UNIT: f64 = 1.01 / 255.0;

/// What one unit of a stored coding error stands for. The nearest of 16 levels misses a coordinate by at
/// most its own size or half a step, so with steps of at most 0.1 the error stays below `sqrt(1 + 64 / 400)`.
pub(crate) const ERROR_UNIT: f64 = 1.1 / 255.0;

/// The code of one vector in one slab.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlabCode {
    /// Level of each dimension, 0..=15; level `c` stands for `(c - 7.5) * step`.
    pub(crate) levels: [u8; SLAB],
    /// Norm of what lies outside this slab and those before it, in [`RESIDUAL_UNIT`], rounded up.
    pub(crate) residual: u8,
    /// Norm of the coding error within this slab, in [`ERROR_UNIT`], rounded up.
    pub(crate) error: u8,
}

/// Codes a vector in the first `slabs` slabs. Its norm may differ from 1 by what half precision does to it, no more: the
/// units leave room for 0.1 %.
pub(crate) fn encode<'a>(
    basis: &'a Basis,
    kernels: &'a Kernels,
    slabs: usize,
    x: &'a [f32],
) -> impl Iterator<Item = SlabCode> + use<'a> {
    let rounding = basis.projection_error();
    let mut outside = f64::from((kernels.dot)(x, x)) * (1.0 + float_error(basis.dim())) * (1.0 + basis.stretch());
    (0..slabs.min(basis.slabs().len())).map(move |slab| {
        let y = basis.project(kernels, slab, x);
        let step = basis.slabs()[slab].step;
        let mut levels = [0; SLAB];
        let (mut inside, mut missed) = (0.0, 0.0);
        let (scale, step) = ((1.0 / step) as f32, step as f32);
        for (level, value) in levels.iter_mut().zip(y) {
            let code = (value * scale + 8.0).clamp(0.0, 15.0) as u8;
            *level = code;
            let error = value - (f32::from(code) - 7.5) * step;
            inside += value * value;
            missed += error * error;
        }
        let inside = f64::from(inside) * (1.0 - 1e-5);
        let missed = f64::from(missed) * (1.0 + 1e-5);
        outside -= (inside.sqrt() - rounding).max(0.0).powi(2);
        SlabCode {
            levels,
            residual: units(outside.max(0.0).sqrt(), RESIDUAL_UNIT),
            error: units(missed.sqrt() + rounding, ERROR_UNIT),
        }
    })
}

/// A norm in whole units, rounded up, with room for the rounding of its own computation.
fn units(norm: f64, unit: f64) -> u8 {
    ((norm * (1.0 + 1e-6) + 1e-6) / unit).ceil().min(255.0) as u8
}
