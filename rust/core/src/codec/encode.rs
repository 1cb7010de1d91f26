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

/// Codes up to four vectors in the first `slabs` slabs and hands over each code with the number of its vector,
/// slab by slab. Their norms may differ from 1 by what half precision does to them, no more: the units leave
/// room for 0.1 %.
pub(crate) fn encode(
    basis: &Basis,
    kernels: &Kernels,
    slabs: usize,
    rows: &[&[f32]],
    mut take: impl FnMut(usize, SlabCode),
) {
    let rounding = basis.projection_error();
    let excess = (1.0 + float_error(basis.dim())) * (1.0 + basis.stretch());
    let mut outside = [0.0; 4];
    for (outside, row) in outside.iter_mut().zip(rows) {
        *outside = f64::from((kernels.dot)(row, row)) * excess;
    }
    for slab in basis.slabs().iter().take(slabs) {
        let step = slab.step as f32;
        let mut finish = |number: usize, y: &[f32; SLAB]| {
            let (levels, missed) = quantise(y, step);
            let inside = f64::from(y.iter().map(|value| value * value).sum::<f32>()) * (1.0 - 1e-5);
            outside[number] -= (inside.sqrt() - rounding).max(0.0).powi(2);
            let residual = units(outside[number].max(0.0).sqrt(), RESIDUAL_UNIT);
            let error = units((f64::from(missed) * (1.0 + 1e-5)).sqrt() + rounding, ERROR_UNIT);
            take(number, SlabCode { levels, residual, error });
        };
        if let [a, b, c, d] = rows {
            let projected = (kernels.project_four)(&slab.matrix, [a, b, c, d]);
            projected.iter().enumerate().for_each(|(number, y)| finish(number, y));
        } else {
            rows.iter().enumerate().for_each(|(number, row)| finish(number, &(kernels.project)(&slab.matrix, row)));
        }
    }
}

/// Level of each coordinate, and the squared norm of what they miss.
fn quantise(y: &[f32; SLAB], step: f32) -> ([u8; SLAB], f32) {
    let mut levels = [0; SLAB];
    let mut missed = 0.0;
    let scale = 1.0 / step;
    for (level, value) in levels.iter_mut().zip(y) {
        let code = (value * scale + 8.0).clamp(0.0, 15.0) as u8;
        let error = value - (f32::from(code) - 7.5) * step;
        *level = code;
        missed += error * error;
    }
    (levels, missed)
}

/// A norm in whole units, rounded up, with room for the rounding of its own computation.
fn units(norm: f64, unit: f64) -> u8 {
    ((norm * (1.0 + 1e-6) + 1e-6) / unit).ceil().min(255.0) as u8
}
