//! Coding one vector.

use super::{Basis, float_error};
use crate::simd::{HEAD, Kernels, SLAB};

/// What one unit of a stored residual norm stands for. A norm is at most 1 and a little; 255 units hold it.
pub(crate) const RESIDUAL_UNIT: f64 = 1.01 / 255.0;

/// What one unit of a stored coding error stands for. The nearest of 16 levels misses a coordinate by at
/// most its own size or half a step, so with steps of at most 0.1 the error stays below `sqrt(1 + 64 / 400)`.
pub(crate) const ERROR_UNIT: f64 = 1.1 / 255.0;

/// The code of one vector in one slab.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlabCode {
    /// Level of each dimension, 0..=15; level `c` stands for `(c - 7.5)` steps of its part, the head or the rest.
    pub(crate) levels: [u8; SLAB],
    /// For the head alone.
    pub(crate) head: Norms,
    /// For the whole slab.
    pub(crate) whole: Norms,
}

/// What a code leaves out, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Norms {
    /// Norm of what lies outside what is coded so far, in [`RESIDUAL_UNIT`].
    pub(crate) residual: u8,
    /// Norm of the coding error within the head or the slab, in [`ERROR_UNIT`].
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
        let mut finish = |number: usize, y: &[f32; SLAB]| {
            let (levels, missed) = quantise(y, slab.steps);
            let (head, rest) = y.split_at(HEAD);
            let energies = [head, rest].map(|part| part.iter().map(|value| value * value).sum::<f32>());
            let (mut inside, mut error, mut rest) = (0.0, 0.0, 0.0);
            let mut norms = [Norms { residual: u8::MAX, error: u8::MAX }; 2];
            for (norms, (energy, missed)) in norms.iter_mut().zip(energies.into_iter().zip(missed)) {
                inside += f64::from(energy) * (1.0 - 1e-5);
                error += f64::from(missed) * (1.0 + 1e-5);
                rest = (outside[number] - (inside.sqrt() - rounding).max(0.0).powi(2)).max(0.0);
                norms.residual = units(rest.sqrt(), RESIDUAL_UNIT);
                norms.error = units(error.sqrt() + rounding, ERROR_UNIT);
            }
            let [head, whole] = norms;
            outside[number] = rest;
            take(number, SlabCode { levels, head, whole });
        };
        if let [a, b, c, d] = rows {
            let projected = (kernels.project_four)(&slab.matrix, [a, b, c, d]);
            projected.iter().enumerate().for_each(|(number, y)| finish(number, y));
        } else {
            rows.iter().enumerate().for_each(|(number, row)| finish(number, &(kernels.project)(&slab.matrix, row)));
        }
    }
}

/// Level of each coordinate, and the squared norm of what they miss in the head and in the rest.
fn quantise(y: &[f32; SLAB], steps: [f64; 2]) -> ([u8; SLAB], [f32; 2]) {
    let mut levels = [0; SLAB];
    let (head_levels, rest_levels) = levels.split_at_mut(HEAD);
    let (head, rest) = y.split_at(HEAD);
    let missed = [quantise_part(head, steps[0], head_levels), quantise_part(rest, steps[1], rest_levels)];
    (levels, missed)
}

fn quantise_part(y: &[f32], step: f64, levels: &mut [u8]) -> f32 {
    let (step, mut missed) = (step as f32, 0.0);
    let scale = 1.0 / step;
    for (level, value) in levels.iter_mut().zip(y) {
        let code = (value * scale + 8.0).clamp(0.0, 15.0) as u8;
        let error = value - (f32::from(code) - 7.5) * step;
        *level = code;
        missed += error * error;
    }
    missed
}

/// A norm in whole units, rounded up, with room for the rounding of its own computation.
fn units(norm: f64, unit: f64) -> u8 {
    ((norm * (1.0 + 1e-6) + 1e-6) / unit).ceil().min(255.0) as u8
}
