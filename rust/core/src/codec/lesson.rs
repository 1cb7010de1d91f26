//! Learning the basis from data, a little at a time: block power iteration on a sample, then Rayleigh-Ritz
//! (Halko, Martinsson & Tropp, 2011). The uncentred second moment is what the bound is about.

use super::Basis;
use super::basis::MAX_SLABS;
use super::eigen::Jacobi;
use crate::simd::{Kernels, SLAB};
use crate::values::Values;

/// Passes over the sample. The start is made of rows of the sample itself, so one brings the subspace close: a
/// second one left lookups on 100,000 MiniLM vectors as they were and took a third as long again.
const PASSES: usize = 1;
/// Leading directions that are put in order of their energy; behind them the order in which the power
/// iteration found them is good enough.
const ORDERED: usize = 2 * SLAB;
/// Sweeps of the eigensolver: only the order of the directions matters.
const EIGEN_SWEEPS: usize = 4;

/// A basis in the making. What it works on comes from the system and goes back to it.
#[derive(Debug)]
pub(crate) struct Lesson {
    dim: usize,
    /// `sample.len() / dim` unit vectors, end to end.
    sample: Values<f32>,
    /// The directions so far, `width x dim`.
    rows: Values<f32>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Gram-Schmidt on row `at`, after so many passes.
    Orthogonalise { passes: usize, at: usize, axis: usize },
    /// Multiplication by the second moment, one sample row at a time.
    Multiply { passes: usize, at: usize, sums: Values<f32> },
    /// The second moment within the leading directions, and along each of the others.
    Moment { at: usize, moment: Vec<f64>, energies: Vec<f64> },
    /// Its eigenvectors.
    Diagonalise(Box<Jacobi>, Vec<f64>),
    /// One direction of the result at a time, orthogonalised in double precision.
    Finish { vectors: Vec<f64>, energies: Vec<f64>, done: Values<f64> },
}

impl Lesson {
    /// A lesson from unit vectors of length `dim` that lie end to end.
    pub(crate) fn new(dim: usize, sample: Values<f32>) -> Self {
        let width = dim.min(MAX_SLABS * SLAB);
        let stride = (sample.len() / dim / width).max(1);
        let mut rows = Values::with_capacity(width * dim);
        for row in sample.chunks_exact(dim).step_by(stride).take(width) {
            rows.extend_from_slice(row);
        }
        rows.extend_with(width * dim - rows.len(), 0.0);
        Self { dim, sample, rows, stage: Stage::Orthogonalise { passes: 0, at: 0, axis: 0 } }
    }

    /// Bytes held while it lasts.
    pub(crate) fn nbytes(&self) -> usize {
        4 * (self.sample.len() + 2 * self.rows.len())
    }

    /// Steps that together take some 100 µs for 384 dimensions: the last stage counts in double precision.
    pub(crate) fn steps_at_once(&self) -> usize {
        if matches!(self.stage, Stage::Finish { .. }) { 1 } else { 8 }
    }

    /// Works for one step, of about `2 x width x dim` multiplications; the basis after the last.
    pub(crate) fn step(&mut self, kernels: &Kernels) -> Option<Basis> {
        let (dim, width) = (self.dim, self.rows.len() / self.dim);
        match &mut self.stage {
            Stage::Orthogonalise { passes, at, axis } => {
                *at += usize::from(orthogonalise(&mut self.rows, dim, *at, axis, kernels));
                if *at == width {
                    self.stage = if *passes == PASSES {
                        let ordered = width.min(ORDERED);
                        Stage::Moment { at: 0, moment: vec![0.0; ordered * ordered], energies: vec![0.0; width] }
                    } else {
                        let mut sums = Values::with_capacity(width * dim);
                        sums.extend_with(width * dim, 0.0);
                        Stage::Multiply { passes: *passes + 1, at: 0, sums }
                    };
                }
            }
            Stage::Multiply { passes, at, sums } => {
                let x = &self.sample[*at * dim..][..dim];
                for (row, sum) in self.rows.chunks_exact(dim).zip(sums.chunks_exact_mut(dim)) {
                    let along = (kernels.dot)(row, x);
                    sum.iter_mut().zip(x).for_each(|(sum, element)| *sum += along * element);
                }
                *at += 1;
                if *at * dim == self.sample.len() {
                    self.rows = std::mem::take(sums);
                    self.stage = Stage::Orthogonalise { passes: *passes, at: 0, axis: 0 };
                }
            }
            Stage::Moment { at, moment, energies } => {
                let x = &self.sample[*at * dim..][..dim];
                let along: Vec<f32> = self.rows.chunks_exact(dim).map(|row| (kernels.dot)(row, x)).collect();
                let ordered = width.min(ORDERED);
                for (line, left) in moment.chunks_exact_mut(ordered).zip(&along) {
                    line.iter_mut().zip(&along).for_each(|(sum, right)| *sum += f64::from(left * right));
                }
                energies.iter_mut().zip(&along).for_each(|(sum, value)| *sum += f64::from(value * value));
                *at += 1;
                if *at * dim == self.sample.len() {
                    let jacobi = Jacobi::new(std::mem::take(moment), ordered, EIGEN_SWEEPS);
                    self.stage = Stage::Diagonalise(Box::new(jacobi), std::mem::take(energies));
                }
            }
            Stage::Diagonalise(jacobi, energies) => {
                if jacobi.step() {
                    let (values, vectors) = jacobi.sorted();
                    let count = (self.sample.len() / dim) as f64;
                    energies.iter_mut().zip(values).for_each(|(energy, value)| *energy = value.max(0.0));
                    let energies = energies.iter().map(|energy| energy / count).collect();
                    self.stage = Stage::Finish { vectors, energies, done: Values::with_capacity(width * dim) };
                }
            }
            Stage::Finish { vectors, energies, done } => {
                let (at, ordered) = (done.len() / dim, width.min(ORDERED));
                let next = match vectors.get(at * ordered..(at + 1) * ordered) {
                    Some(vector) => direction(vector, &self.rows, dim, done),
                    None => direction(&[1.0], &self.rows[at * dim..], dim, done),
                };
                done.extend_from_slice(&next);
                if done.len() == width * dim {
                    return Some(Basis::from_orthonormal(dim, done, energies));
                }
            }
        }
        None
    }
}

/// Gram-Schmidt on one row against those before it, twice, which is enough (Giraud et al., 2005). A row that
/// depends on them is replaced by an axis, to be tried in the next step: then the answer is `false`.
fn orthogonalise(rows: &mut [f32], dim: usize, at: usize, axis: &mut usize, kernels: &Kernels) -> bool {
    let (before, rest) = rows.split_at_mut(at * dim);
    let row = &mut rest[..dim];
    let start = (kernels.dot)(row, row).sqrt();
    for _ in 0..2 {
        for other in before.chunks_exact(dim) {
            let along = (kernels.dot)(other, row);
            row.iter_mut().zip(other).for_each(|(value, element)| *value -= along * element);
        }
    }
    let norm = (kernels.dot)(row, row).sqrt();
    if norm > 1e-3 * start && norm > 1e-30 {
        for value in row {
            *value /= norm;
        }
        return true;
    }
    row.fill(0.0);
    row[*axis % dim] = 1.0;
    *axis += 1;
    false
}

/// The combination of `rows` that `vector` names, made orthonormal to what is done in double precision.
fn direction(vector: &[f64], rows: &[f32], dim: usize, done: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0_f64; dim];
    for (factor, row) in vector.iter().zip(rows.chunks_exact(dim)) {
        sum.iter_mut().zip(row).for_each(|(sum, element)| *sum += factor * f64::from(*element));
    }
    for _ in 0..2 {
        for other in done.chunks_exact(dim) {
            let along: f64 = other.iter().zip(&sum).map(|(x, y)| x * y).sum();
            sum.iter_mut().zip(other).for_each(|(value, element)| *value -= along * element);
        }
    }
    let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    for value in &mut sum {
        *value /= norm;
    }
    sum
}
