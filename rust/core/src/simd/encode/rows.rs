//! What happens to each row of activations between two matrix products.

use super::lanes::Lanes;
use super::per_isa;
use crate::simd::gemm::QuantisedRows;

per_isa! {
    /// Quantises the rows of `values` (row-major, as long as `to`'s rows) into `to`, one scale and zero point per row.
    ///
    /// # Panics
    /// If the lengths do not fit, or a row is not a multiple of 16 long.
    pub(crate) fn quantise_rows(values: &[f32], scratch: &mut Vec<u8>, to: &mut QuantisedRows) = quantise_all
}

per_isa! {
    /// Applies GELU (the exact form, x/2 (1 + erf(x / sqrt 2))) to `values` in place, then quantises as [`quantise_rows`].
    ///
    /// # Panics
    /// As [`quantise_rows`].
    pub(crate) fn gelu_quantise_rows(values: &mut [f32], scratch: &mut Vec<u8>, to: &mut QuantisedRows) = gelu_quantise_all
}

per_isa! {
    /// Layer norm of each row of `values` into `out`: `(x - mean) / sqrt(variance + epsilon) * gamma + beta`.
    ///
    /// # Panics
    /// If the lengths do not fit, or a row is not a multiple of 16 long.
    pub(crate) fn layer_norm_rows(values: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, out: &mut [f32]) = layer_norm_all
}

#[inline(always)]
fn quantise_all<L: Lanes>(values: &[f32], scratch: &mut Vec<u8>, to: &mut QuantisedRows) {
    let inputs = to.inputs();
    assert_eq!(values.len(), to.count() * inputs, "the rows of the target");
    for (row, values) in values.chunks_exact(inputs).enumerate() {
        let (mut low, mut high) = (L::splat(0.0), L::splat(0.0));
        for chunk in sixteens(values) {
            let v = L::load(chunk);
            low = low.min(v);
            high = high.max(v);
        }
        quantise_row(values, low, high, scratch, to, row);
    }
}

#[inline(always)]
fn gelu_quantise_all<L: Lanes>(values: &mut [f32], scratch: &mut Vec<u8>, to: &mut QuantisedRows) {
    let inputs = to.inputs();
    assert_eq!(values.len(), to.count() * inputs, "the rows of the target");
    for (row, values) in values.chunks_exact_mut(inputs).enumerate() {
        let (mut low, mut high) = (L::splat(0.0), L::splat(0.0));
        for chunk in sixteens_mut(values) {
            let v = gelu(L::load(chunk));
            v.store(chunk);
            low = low.min(v);
            high = high.max(v);
        }
        quantise_row(values, low, high, scratch, to, row);
    }
}

/// Maps `low..=high` (which holds zero, so that zero has a byte of its own) to 0..=255.
#[inline(always)]
fn quantise_row<L: Lanes>(values: &[f32], low: L, high: L, scratch: &mut Vec<u8>, to: &mut QuantisedRows, row: usize) {
    let (low, high) = (low.smallest(), high.largest());
    let span = high - low;
    let (scale, inverse) = if span > 0.0 { (span / 255.0, 255.0 / span) } else { (1.0, 0.0) };
    let zero = (-low * inverse).round_ties_even();
    scratch.resize(values.len(), 0);
    let (factor, offset) = (L::splat(inverse), L::splat(zero));
    for (chunk, bytes) in sixteens(values).iter().zip(scratch.as_chunks_mut::<16>().0) {
        L::load(chunk).mul_add(factor, offset).to_bytes(bytes);
    }
    to.set(row, scale, zero as u8, scratch);
}

#[inline(always)]
fn layer_norm_all<L: Lanes>(values: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = gamma.len();
    assert!(beta.len() == width && values.len() == out.len() && values.len().is_multiple_of(width), "whole rows");
    let (gamma, beta) = (sixteens(gamma), sixteens(beta));
    for (values, out) in values.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let values = sixteens(values);
        let mut sum = L::splat(0.0);
        for chunk in values {
            sum = sum.add(L::load(chunk));
        }
        let mean = sum.sum() / width as f32;
        // Two passes: the difference of squares would cancel, and the row is in the first-level cache.
        let (shift, mut squares) = (L::splat(-mean), L::splat(0.0));
        for chunk in values {
            let d = L::load(chunk).add(shift);
            squares = d.mul_add(d, squares);
        }
        let scale = L::splat(1.0 / (squares.sum() / width as f32 + epsilon).sqrt());
        for (((chunk, out), gamma), beta) in values.iter().zip(sixteens_mut(out)).zip(gamma).zip(beta) {
            let unit = L::load(chunk).add(shift).mul(scale);
            unit.mul_add(L::load(gamma), L::load(beta)).store(out);
        }
    }
}

/// x Phi(x), with erf as the rational approximation that Eigen uses for floats (absolute error below 4e-7).
#[inline(always)]
fn gelu<L: Lanes>(x: L) -> L {
    const NUMERATOR: [f32; 6] =
        [2.770_681_4e-8, -2.101_024e-6, -5.692_506_6e-5, -7.349_906_4e-4, -2.954_6e-3, -1.609_603_3e-2];
    const DENOMINATOR: [f32; 4] = [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_474e-2];
    let bounded = x.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2)).min(L::splat(4.0)).max(L::splat(-4.0));
    let square = bounded.mul(bounded);
    let mut numerator = L::splat(-2.726_142_3e-10);
    for coefficient in NUMERATOR {
        numerator = numerator.mul_add(square, L::splat(coefficient));
    }
    let mut denominator = L::splat(-1.456_607_2e-5);
    for coefficient in DENOMINATOR {
        denominator = denominator.mul_add(square, L::splat(coefficient));
    }
    let half = x.mul(L::splat(0.5));
    half.mul_add(bounded.mul(numerator).div(denominator), half)
}

#[inline(always)]
fn sixteens(values: &[f32]) -> &[[f32; 16]] {
    let (chunks, rest) = values.as_chunks();
    assert!(rest.is_empty(), "rows are multiples of 16 long");
    chunks
}

#[inline(always)]
fn sixteens_mut(values: &mut [f32]) -> &mut [[f32; 16]] {
    let (chunks, rest) = values.as_chunks_mut();
    assert!(rest.is_empty(), "rows are multiples of 16 long");
    chunks
}
