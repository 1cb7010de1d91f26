//! Learning the basis from data, a little at a time: block power iteration on a sample, then Rayleigh-Ritz
//! (Halko, Martinsson & Tropp, 2011). The uncentred second moment is what the bound is about.

use super::Basis;
use super::basis::MAX_SLABS;
use super::eigen::Jacobi;
use crate::simd::{Kernels, SLAB};
use crate::values::Values;

/// Longest vectors whose second moment is kept as a matrix: 4 MB. A pass over that costs the same whatever the sample.
const DENSE_DIM: usize = 1024;
/// Vectors that a matrix is made of, at most. Of 100,000 MiniLM vectors the first slab keeps .492 of the energy with so
/// many, .484 with 4,096, .461 with 1,024 and .500 with all; the first two slabs .720, .713, .680 and .729.
const DENSE_SAMPLE: usize = 8192;
/// Longer vectors that are kept and passed over one by one, at most.
const SAMPLE: usize = 1024;
/// Vectors that one step multiplies a row with, of those that are passed over one by one.
const SEEN_AT_ONCE: usize = 128;
/// Passes, over a matrix and over a sample. The start is made of rows of the sample, so each brings the subspace close.
const DENSE_PASSES: usize = 3;
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
    sample: Sample,
    /// Vectors taken so far, and of which every how many-th one is a start.
    taken: usize,
    stride: usize,
    /// The directions so far, `width x dim`.
    rows: Values<f32>,
    stage: Stage,
}

/// What is known of the data.
#[derive(Debug)]
enum Sample {
    /// The sum of the outer products of its vectors with themselves, `dim x dim`; until all are taken above the diagonal only.
    Moment(Values<f32>),
    /// Its vectors, end to end.
    Vectors(Values<f32>),
}

#[derive(Debug)]
enum Stage {
    /// What lies below a matrix' diagonal, row by row.
    Complete { at: usize },
    /// Gram-Schmidt on row `at`, after so many passes.
    Orthogonalise { passes: usize, at: usize, axis: usize },
    /// Multiplication of row `at` by the second moment.
    Multiply { passes: usize, at: usize, image: Image },
    /// The second moment within the leading directions, and along each of the others.
    Moment { at: usize, image: Image, moment: Vec<f64>, energies: Vec<f64> },
    /// Its eigenvectors.
    Diagonalise(Box<Jacobi>, Vec<f64>),
    /// One direction of the result at a time, orthogonalised in double precision.
    Finish { vectors: Vec<f64>, energies: Vec<f64>, done: Values<f64> },
}

/// A row times the second moment, in the making.
#[derive(Debug, Default)]
struct Image {
    sum: Vec<f32>,
    /// Vectors of the sample that are in it.
    seen: usize,
}

impl Lesson {
    /// Vectors of length `dim` that a lesson is worth, at most.
    pub(crate) fn sample_size(dim: usize) -> usize {
        if dim <= DENSE_DIM { DENSE_SAMPLE } else { SAMPLE }
    }

    /// A lesson from `count` unit vectors of length `dim`, which [`Self::take`] is to be given.
    pub(crate) fn new(dim: usize, count: usize) -> Self {
        let width = dim.min(MAX_SLABS * SLAB);
        let sample = if dim <= DENSE_DIM {
            let mut moment = Values::with_capacity(dim * dim);
            moment.extend_with(dim * dim, 0.0);
            Sample::Moment(moment)
        } else {
            Sample::Vectors(Values::with_capacity(count * dim))
        };
        let stage = Stage::Complete { at: 0 };
        let rows = Values::with_capacity(width * dim);
        Self { dim, sample, taken: 0, stride: (count / width).max(1), rows, stage }
    }

    /// Takes up to four vectors, before the first step.
    pub(crate) fn take(&mut self, vectors: &[&[f32]], kernels: &Kernels) {
        for vector in vectors {
            if self.taken.is_multiple_of(self.stride) && self.rows.len() < self.width() * self.dim {
                self.rows.extend_from_slice(vector);
            }
            self.taken += 1;
        }
        match &mut self.sample {
            Sample::Vectors(sample) => vectors.iter().for_each(|vector| sample.extend_from_slice(vector)),
            Sample::Moment(moment) => {
                let nothing = vec![0.0; self.dim];
                let four = [0, 1, 2, 3].map(|at| vectors.get(at).copied().unwrap_or(&nothing));
                (kernels.add_outer)(moment, four);
            }
        }
    }

    fn width(&self) -> usize {
        self.dim.min(MAX_SLABS * SLAB)
    }

    /// Bytes held while it lasts.
    pub(crate) fn nbytes(&self) -> usize {
        let sample = match &self.sample {
            Sample::Moment(moment) => moment.nbytes(),
            Sample::Vectors(sample) => sample.nbytes(),
        };
        sample + self.rows.nbytes()
    }

    /// Steps that together take some 100 µs: the last stage counts in double precision, and longer vectors take longer.
    pub(crate) fn steps_at_once(&self) -> usize {
        if matches!(self.stage, Stage::Finish { .. }) { 1 } else { (8 * 384 / self.dim).clamp(1, 8) }
    }

    /// Vectors that are taken in some 100 µs, by fours.
    pub(crate) fn taken_at_once(&self) -> usize {
        match &self.sample {
            Sample::Moment(_) => (16 * 384 * 384 / (self.dim * self.dim)).clamp(1, 16) * 4,
            Sample::Vectors(_) => 16,
        }
    }

    /// Works for one step; the basis after the last.
    pub(crate) fn step(&mut self, kernels: &Kernels) -> Option<Basis> {
        let (dim, width) = (self.dim, self.width());
        match &mut self.stage {
            Stage::Complete { at } => {
                self.sample.complete(*at, dim);
                *at += 1;
                if *at >= self.sample.halves(dim) {
                    self.rows.extend_with(width * dim - self.rows.len(), 0.0);
                    self.stage = Stage::Orthogonalise { passes: 0, at: 0, axis: 0 };
                }
            }
            Stage::Orthogonalise { passes, at, axis } => {
                *at += usize::from(orthogonalise(&mut self.rows, dim, *at, axis, kernels));
                if *at == width {
                    let image = Image::default();
                    self.stage = if *passes == self.sample.passes() {
                        let ordered = width.min(ORDERED);
                        let moment = vec![0.0; ordered * ordered];
                        Stage::Moment { at: 0, image, moment, energies: vec![0.0; width] }
                    } else {
                        Stage::Multiply { passes: *passes + 1, at: 0, image }
                    };
                }
            }
            Stage::Multiply { passes, at, image } => {
                let row = &mut self.rows[*at * dim..][..dim];
                if let Some(image) = image.advance(&self.sample, row, kernels) {
                    row.copy_from_slice(&image);
                    *at += 1;
                    if *at == width {
                        self.stage = Stage::Orthogonalise { passes: *passes, at: 0, axis: 0 };
                    }
                }
            }
            Stage::Moment { at, image, moment, energies } => {
                let row = &self.rows[*at * dim..][..dim];
                if let Some(image) = image.advance(&self.sample, row, kernels) {
                    energies[*at] = f64::from((kernels.dot)(row, &image)).max(0.0);
                    let ordered = width.min(ORDERED);
                    if *at < ordered {
                        let others = self.rows.chunks_exact(dim);
                        for (element, other) in moment[*at * ordered..][..ordered].iter_mut().zip(others) {
                            *element = f64::from((kernels.dot)(other, &image));
                        }
                    }
                    *at += 1;
                    if *at == width {
                        symmetric(moment, ordered);
                        let jacobi = Jacobi::new(std::mem::take(moment), ordered, EIGEN_SWEEPS);
                        self.stage = Stage::Diagonalise(Box::new(jacobi), std::mem::take(energies));
                    }
                }
            }
            Stage::Diagonalise(jacobi, energies) => {
                if jacobi.step() {
                    let (values, vectors) = jacobi.sorted();
                    let count = self.taken as f64;
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

impl Sample {
    fn passes(&self) -> usize {
        if matches!(self, Self::Moment(_)) { DENSE_PASSES } else { PASSES }
    }

    /// Rows that [`Self::complete`] is for.
    fn halves(&self, dim: usize) -> usize {
        if matches!(self, Self::Moment(_)) { dim } else { 0 }
    }

    /// Fills in what lies before a matrix' diagonal in one row.
    fn complete(&mut self, row: usize, dim: usize) {
        if let Self::Moment(moment) = self {
            for column in 0..row {
                moment[row * dim + column] = moment[column * dim + row];
            }
        }
    }
}

impl Image {
    /// Works for one step; the image after the last.
    fn advance(&mut self, sample: &Sample, row: &[f32], kernels: &Kernels) -> Option<Vec<f32>> {
        let dim = row.len();
        match sample {
            Sample::Moment(moment) => Some(moment.chunks_exact(dim).map(|other| (kernels.dot)(other, row)).collect()),
            Sample::Vectors(vectors) => {
                self.sum.resize(dim, 0.0);
                let count = vectors.len() / dim;
                for x in vectors.chunks_exact(dim).skip(self.seen).take(SEEN_AT_ONCE) {
                    let along = (kernels.dot)(x, row);
                    self.sum.iter_mut().zip(x).for_each(|(sum, element)| *sum += along * element);
                }
                self.seen += SEEN_AT_ONCE;
                (self.seen >= count).then(|| std::mem::take(self).sum)
            }
        }
    }
}

/// Makes a matrix that is symmetric but for rounding so to the last bit.
fn symmetric(matrix: &mut [f64], n: usize) {
    for row in 1..n {
        for column in 0..row {
            let mean = f64::midpoint(matrix[row * n + column], matrix[column * n + row]);
            matrix[row * n + column] = mean;
            matrix[column * n + row] = mean;
        }
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
    let length = |sum: &[f64]| sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    let mut norm = length(&sum);
    for _ in 0..2 {
        for other in done.chunks_exact(dim) {
            let along: f64 = other.iter().zip(&sum).map(|(x, y)| x * y).sum();
            sum.iter_mut().zip(other).for_each(|(value, element)| *value -= along * element);
        }
        // Once is enough where little is taken away, as from rows that were orthonormal to single precision.
        let before = std::mem::replace(&mut norm, length(&sum));
        if norm > 0.9 * before {
            break;
        }
    }
    for value in &mut sum {
        *value /= norm;
    }
    sum
}
