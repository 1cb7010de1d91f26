//! The orthogonal map that packs energy into the first dimensions.

use crate::simd::{Columns, HEAD, Kernels, SLAB};
use crate::{Error, Result};

/// Slabs that are coded: dimensions beyond them only enter through their norm.
///
/// The first is scanned; the later ones are looked at for what it leaves.
pub(crate) const MAX_SLABS: usize = 4;

/// Step of the optimal uniform 4-bit quantiser for a Gaussian of unit variance (Max, 1960).
const GAUSSIAN_STEP: f64 = 0.3352;

/// Steps in use: the units of stored norms leave room for the largest.
const MIN_STEP: f64 = 1e-3;
const MAX_STEP: f64 = 0.1;

/// An orthonormal basis of the directions that carry most of the data's energy.
///
/// # Examples
/// ```
/// use nearhit_core::codec::Basis;
/// let axes: Vec<f32> = (0..3 * 8).map(|i| if i % 9 == 0 { 1.0 } else { 0.0 }).collect();
/// assert_eq!(Basis::from_rows(8, &axes, &[])?.dim(), 8);
/// # Ok::<(), nearhit_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Basis {
    dim: usize,
    slabs: Vec<Slab>,
    stretch: f64,
}

/// Most that the steps of a slab's parts differ: the weights of a query share one scale.
const MAX_STEP_RATIO: f64 = 4.0;

/// Orders of the Hadamard matrices that a slab's columns are mixed by: two for the head, three for the rest.
const ORDERS: [usize; 5] = [32, HEAD - 32, 16, 8, 4];
const _: () = assert!(HEAD == 36 && SLAB == 64);

/// One slab: a matrix of `dim` rows of 64 columns, and the quantiser's steps in its head and in the rest.
#[derive(Debug)]
pub(crate) struct Slab {
    pub(crate) matrix: Vec<Columns>,
    pub(crate) steps: [f64; 2],
}

impl Basis {
    /// A basis of orthonormal `rows` (`n x dim`, row-major, most energy first). Rows beyond 256 are not
    /// used. `energies` are the mean squares of the data along each row, for the quantiser's step; an
    /// even spread is assumed where they are missing.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the rows are not orthonormal to 1e-3, not finite, or not of length `dim`.
    pub fn from_rows(dim: usize, rows: &[f32], energies: &[f64]) -> Result<Self> {
        let refuse = |found: String| Error::InvalidOption {
            name: "transform",
            value: found,
            expected: format!("between 1 and {dim} orthonormal rows of {dim} finite values"),
        };
        if dim == 0 || rows.is_empty() || !rows.len().is_multiple_of(dim) || rows.len() / dim > dim {
            return Err(refuse(format!("{} values", rows.len())));
        }
        if rows.iter().any(|value| !value.is_finite()) {
            return Err(refuse("a value that is not finite".into()));
        }
        let rows: Vec<f64> = rows.iter().take(MAX_SLABS * SLAB * dim).map(|value| f64::from(*value)).collect();
        let slabs = Self::mixed(dim, &rows, energies);
        let stretch = stretch(&slabs, dim);
        if stretch > 1e-3 {
            return Err(refuse(format!("rows that are not orthonormal (off by {stretch:.3})")));
        }
        Ok(Self { dim, slabs, stretch })
    }

    /// A basis of rows that are orthonormal to double precision. What is left is their rounding to single
    /// precision: each of 256 x dim elements by at most 2^-24 of itself, so `|dW|` is at most 2^-24 `|W|`,
    /// the Frobenius norm `|W|` is at most sqrt(256), and `|Wx|^2 <= (1 + |dW|)^2`.
    pub(crate) fn from_orthonormal(dim: usize, rows: &[f64], energies: &[f64]) -> Self {
        let rounding = ((MAX_SLABS * SLAB) as f64).sqrt() * f64::from(f32::EPSILON) / 2.0;
        Self { dim, slabs: Self::mixed(dim, rows, energies), stretch: 3.0 * rounding }
    }

    /// A basis from the steps and matrices of its slabs, one after the other, little-endian.
    pub(crate) fn read(dim: usize, slabs: usize, rest: &mut &[u8]) -> std::result::Result<Self, String> {
        let mut read = Vec::with_capacity(slabs);
        for _ in 0..slabs {
            let size = dim * SLAB * 4;
            let (head, tail) = rest.split_at_checked(16 + size).ok_or("it ends within the basis")?;
            *rest = tail;
            let (steps, matrix) = head.split_first_chunk::<16>().ok_or("it ends within the basis")?;
            let (first, second) = steps.split_at(8);
            let step = |bytes: &[u8]| bytes.first_chunk().map_or(0.0, |bytes| f64::from_le_bytes(*bytes));
            let matrix = matrix.as_chunks::<{ 4 * SLAB }>().0.iter().map(|row| {
                let mut values = row.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value));
                Columns([(); SLAB].map(|()| values.next().unwrap_or(0.0)))
            });
            let matrix = matrix.collect();
            read.push(Slab { matrix, steps: [step(first), step(second)] });
        }
        let finite = read.iter().all(|slab| slab.matrix.iter().flat_map(|row| &row.0).all(|value| value.is_finite()));
        let stretch = if finite { stretch(&read, dim) } else { f64::INFINITY };
        let steps = read.iter().flat_map(|slab| &slab.steps);
        if stretch > 1e-3 || { steps }.any(|step| !(MIN_STEP..=MAX_STEP).contains(step)) {
            return Err(format!("its basis is not orthonormal (off by {stretch:.3})"));
        }
        Ok(Self { dim, slabs: read, stretch })
    }

    fn mixed(dim: usize, rows: &[f64], energies: &[f64]) -> Vec<Slab> {
        rows.chunks(SLAB * dim)
            .enumerate()
            .map(|(number, rows)| Slab::mixed(dim, rows, energies.get(number * SLAB..).unwrap_or_default()))
            .collect()
    }

    /// Length of the vectors it maps.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        size_of::<Self>()
            + self.slabs.iter().map(|slab| size_of::<Slab>() + size_of_val(&slab.matrix[..])).sum::<usize>()
    }

    pub(crate) fn slabs(&self) -> &[Slab] {
        &self.slabs
    }

    /// Largest amount by which the computed map may lengthen a vector: `|Wx|^2 <= (1 + stretch) |x|^2`.
    pub(crate) fn stretch(&self) -> f64 {
        self.stretch
    }

    /// Norm of the rounding error of one slab's projection of a unit vector.
    pub(crate) fn projection_error(&self) -> f64 {
        super::float_error(self.dim) * (SLAB as f64).sqrt()
    }

    pub(crate) fn project(&self, kernels: &Kernels, slab: usize, x: &[f32]) -> [f32; SLAB] {
        (kernels.project)(&self.slabs[slab].matrix, x)
    }
}

impl Slab {
    /// Spreads the rows' energies evenly over columns by Hadamard matrices, so that one quantiser step suits every
    /// column of the head, and one of the rest, and every weight of a query uses its full range.
    fn mixed(dim: usize, rows: &[f64], energies: &[f64]) -> Self {
        let count = rows.len() / dim;
        let mut matrix = vec![Columns([0.0; SLAB]); dim];
        for (d, columns) in matrix.iter_mut().enumerate() {
            let mut values = [0.0_f64; SLAB];
            for (value, row) in values.iter_mut().zip(rows.chunks_exact(dim)) {
                *value = row[d];
            }
            let mut rest = &mut values[..];
            for order in ORDERS {
                let (some, others) = rest.split_at_mut(order);
                hadamard(some);
                rest = others;
            }
            for (column, value) in columns.0.iter_mut().zip(values) {
                *column = value as f32;
            }
        }
        let even = vec![0.7 / dim as f64; count];
        let energies = energies.get(..count).unwrap_or(&even);
        let (head, rest) = energies.split_at(energies.len().min(HEAD));
        let steps = [(head, HEAD), (rest, SLAB - HEAD)].map(|(energies, columns)| {
            let energy = energies.iter().sum::<f64>() / columns as f64;
            (GAUSSIAN_STEP * energy.sqrt()).clamp(MIN_STEP, MAX_STEP)
        });
        Self { matrix, steps: [steps[0], steps[1].max(steps[0] / MAX_STEP_RATIO)] }
    }
}

/// Multiplies by the normalised Hadamard matrix, in place; its order is a power of two.
fn hadamard(values: &mut [f64]) {
    let mut half = 1;
    while half < values.len() {
        for start in (0..values.len()).step_by(2 * half) {
            for i in start..start + half {
                let (a, b) = (values[i], values[i + half]);
                values[i] = a + b;
                values[i + half] = a - b;
            }
        }
        half *= 2;
    }
    let norm = (values.len() as f64).sqrt();
    for value in values {
        *value /= norm;
    }
}

/// An upper bound of the largest eigenvalue of `G = W W^T`, less 1. For a projection `G^2 = G`, so each
/// eigenvalue satisfies `|l^2 - l| <= |G^2 - G|`, hence `l <= 1 + |G^2 - G|`.
fn stretch(slabs: &[Slab], dim: usize) -> f64 {
    let width = slabs.len() * SLAB;
    let mut gram = vec![0.0_f64; width * width];
    let mut row = vec![0.0_f64; width];
    for d in 0..dim {
        for (slab, part) in slabs.iter().zip(row.chunks_exact_mut(SLAB)) {
            for (value, element) in part.iter_mut().zip(&slab.matrix[d].0) {
                *value = f64::from(*element);
            }
        }
        for (line, left) in gram.chunks_exact_mut(width).zip(&row) {
            for (sum, right) in line.iter_mut().zip(&row) {
                *sum += left * right;
            }
        }
    }
    let mut defect = 0.0;
    let mut product = vec![0.0_f64; width];
    for line in gram.chunks_exact(width) {
        product.iter_mut().zip(line).for_each(|(value, element)| *value = -element);
        for (factor, other) in line.iter().zip(gram.chunks_exact(width)) {
            for (value, element) in product.iter_mut().zip(other) {
                *value += factor * element;
            }
        }
        defect += product.iter().map(|value| value * value).sum::<f64>();
    }
    defect.sqrt()
}
