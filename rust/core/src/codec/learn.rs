//! Learning the basis from data: block power iteration on the sample, then Rayleigh-Ritz
//! (Halko, Martinsson & Tropp, 2011). The uncentred second moment is what the bound is about.

use super::basis::MAX_SLABS;
use super::{Basis, eigen};
use crate::Result;
use crate::simd::{Kernels, SLAB};

/// Passes over the sample: from rows of the sample itself, two bring the subspace close enough.
const SWEEPS: usize = 2;

/// The basis for a sample of unit vectors of length `dim`.
pub(crate) fn learn(dim: usize, sample: &[&[f32]], kernels: &Kernels) -> Result<Basis> {
    let width = dim.min(MAX_SLABS * SLAB);
    let stride = (sample.len() / width).max(1);
    let mut rows: Vec<f32> = sample.iter().step_by(stride).take(width).flat_map(|row| row.iter().copied()).collect();
    rows.resize(width * dim, 0.0);
    orthonormalise(&mut rows, dim, kernels);
    for _ in 0..SWEEPS {
        rows = sweep(&rows, dim, sample, kernels);
        orthonormalise(&mut rows, dim, kernels);
    }
    let mut moment = vec![0.0_f64; width * width];
    for x in sample {
        let along: Vec<f32> = rows.chunks_exact(dim).map(|row| (kernels.dot)(row, x)).collect();
        for (line, left) in moment.chunks_exact_mut(width).zip(&along) {
            for (sum, right) in line.iter_mut().zip(&along) {
                *sum += f64::from(left * right);
            }
        }
    }
    let (values, vectors) = eigen::symmetric(&moment, width);
    let mut ritz = vec![0.0_f32; width * dim];
    for (out, vector) in ritz.chunks_exact_mut(dim).zip(vectors.chunks_exact(width)) {
        for (factor, row) in vector.iter().zip(rows.chunks_exact(dim)) {
            out.iter_mut().zip(row).for_each(|(sum, element)| *sum += *factor as f32 * element);
        }
    }
    orthonormalise(&mut ritz, dim, kernels);
    let energies: Vec<f64> = values.iter().map(|value| value.max(0.0) / sample.len() as f64).collect();
    Basis::from_rows(dim, &ritz, &energies)
}

/// One step of the power iteration: the rows times the sample's second moment.
fn sweep(rows: &[f32], dim: usize, sample: &[&[f32]], kernels: &Kernels) -> Vec<f32> {
    let mut next = vec![0.0_f32; rows.len()];
    for x in sample {
        for (row, sum) in rows.chunks_exact(dim).zip(next.chunks_exact_mut(dim)) {
            let along = (kernels.dot)(row, x);
            sum.iter_mut().zip(*x).for_each(|(sum, element)| *sum += along * element);
        }
    }
    next
}

/// Gram-Schmidt, each row twice, which is enough (Giraud et al., 2005). A row that depends on those before
/// it is replaced by the first axis that does not.
fn orthonormalise(rows: &mut [f32], dim: usize, kernels: &Kernels) {
    let mut axis = 0;
    let mut done = 0;
    while done * dim < rows.len() {
        let (before, rest) = rows.split_at_mut(done * dim);
        let row = &mut rest[..dim];
        let start = (kernels.dot)(row, row).sqrt();
        for _ in 0..2 {
            for other in before.chunks_exact(dim) {
                let along = (kernels.dot)(other, row);
                row.iter_mut().zip(other).for_each(|(value, element)| *value -= along * element);
            }
        }
        let norm = (kernels.dot)(row, row).sqrt();
        if norm > 1e-4 * start && norm > 1e-30 {
            for value in row {
                *value /= norm;
            }
            done += 1;
        } else {
            row.fill(0.0);
            row[axis % dim] = 1.0;
            axis += 1;
        }
    }
}
