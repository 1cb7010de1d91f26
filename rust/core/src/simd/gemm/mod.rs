//! Matrix product of a few rows of 8-bit activations with packed 8-bit weights.
//!
//! Transformer encoders on short texts multiply 1..100 rows by the same weights again and again, so
//! the weights are laid out once for the kernel: panels of 32 outputs, and within a panel, for each
//! group of 4 inputs, two cache lines of 16 outputs x 4 inputs. One line is the operand of one
//! `vpdpbusd`, and a panel is read from its first byte to its last. Activations are unsigned with a
//! zero point per row (asymmetric: GELU's output is nearly one-sided), weights signed with a scale
//! per output. Products are summed exactly in 32 bits by every kernel, so all give the same integers
//! and differ at most by the rounding of the final multiply-add.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod rows;
mod scalar;
#[cfg(test)]
mod tests;

pub(crate) use rows::QuantisedRows;
use rows::STEP;

use crate::simd::{Detected, Isa};

/// Outputs per panel.
pub(crate) const PANEL: usize = 32;
/// Inputs per group: what one 32-bit lane of a dot-product instruction takes.
pub(crate) const GROUP: usize = 4;
/// Largest number of inputs: `255 * 127 * inputs` and the zero-point term stay within 31 bits.
pub(crate) const MAX_INPUTS: usize = 32_768;

/// One cache line of weights: 16 outputs x 4 inputs.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [i8; 64]);

/// Weights of one linear layer, quantised per output and packed for the kernels.
#[derive(Clone, Debug)]
pub(crate) struct PackedWeights {
    outputs: usize,
    inputs: usize,
    lines: Vec<Line>,
    scales: Vec<f32>,
    column_sums: Vec<i32>,
    bias: Vec<f32>,
}

impl PackedWeights {
    /// Takes what [`PackedWeights::quantise`] once made, as read back from a file.
    ///
    /// Returns `None` unless every part has the length that the shape demands: `outputs` a multiple
    /// of [`PANEL`], `inputs` a multiple of 8, `outputs * inputs / 64` lines, and one scale and
    /// one bias per output. The sums are computed here rather than trusted.
    pub(crate) fn from_parts(
        outputs: usize,
        inputs: usize,
        lines: Vec<Line>,
        scales: Vec<f32>,
        bias: Vec<f32>,
    ) -> Option<Self> {
        let shape = valid_shape(outputs, inputs)
            && lines.len() == outputs / 16 * (inputs / GROUP)
            && scales.len() == outputs
            && bias.len() == outputs;
        if !shape {
            return None;
        }
        let mut column_sums = vec![0_i32; outputs];
        for (index, line) in lines.iter().enumerate() {
            let first = first_output(index, inputs / GROUP);
            for (sum, group) in column_sums[first..first + 16].iter_mut().zip(line.0.chunks_exact(GROUP)) {
                *sum += group.iter().map(|&w| i32::from(w)).sum::<i32>();
            }
        }
        Some(Self { outputs, inputs, lines, scales, column_sums, bias })
    }

    /// Quantises row-major `weights` of shape `[outputs, inputs]` with one symmetric scale per output.
    ///
    /// Returns `None` where a length does not fit the shape, or the shape does not fit the kernels.
    pub(crate) fn quantise(weights: &[f32], bias: &[f32], outputs: usize, inputs: usize) -> Option<Self> {
        if !valid_shape(outputs, inputs) || weights.len() != outputs * inputs || bias.len() != outputs {
            return None;
        }
        let groups = inputs / GROUP;
        let mut lines = vec![Line([0; 64]); outputs / 16 * groups];
        let mut scales = Vec::with_capacity(outputs);
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let largest = row.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            scales.push(scale);
            let (panel, within) = (output / PANEL, output % PANEL);
            for (group, values) in row.chunks_exact(GROUP).enumerate() {
                let line = &mut lines[(panel * groups + group) * 2 + within / 16];
                let at = within % 16 * GROUP;
                for (slot, &value) in line.0[at..at + GROUP].iter_mut().zip(values) {
                    *slot = (value / scale).round().clamp(-127.0, 127.0) as i8;
                }
            }
        }
        Self::from_parts(outputs, inputs, lines, scales, bias.to_vec())
    }

    /// The packed weights, for writing them to a file.
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Scale of each output.
    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Bias of each output.
    pub(crate) fn bias(&self) -> &[f32] {
        &self.bias
    }
}

fn valid_shape(outputs: usize, inputs: usize) -> bool {
    outputs > 0 && inputs > 0 && outputs.is_multiple_of(PANEL) && inputs.is_multiple_of(STEP) && inputs <= MAX_INPUTS
}

/// First output of the line at `index`.
fn first_output(index: usize, groups: usize) -> usize {
    let panel = index / (2 * groups);
    panel * PANEL + index % 2 * 16
}

/// `out[r][o] = rows[r] . weights[o] + bias[o] (+ residual[r][o])`, all row-major.
///
/// # Panics
/// If a length does not fit: the caller owns the shapes, none of them comes from input.
pub(crate) fn multiply(
    isa: Detected,
    rows: &QuantisedRows,
    weights: &PackedWeights,
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    assert_eq!(rows.inputs(), weights.inputs, "rows of the weights' inputs");
    assert_eq!(out.len(), rows.count() * weights.outputs, "outputs of every row");
    assert!(residual.is_none_or(|r| r.len() == out.len()), "a residual of the outputs' shape");
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::multiply(rows, weights, residual, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::multiply(rows, weights, residual, out),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon::multiply(rows, weights, residual, out),
        _ => scalar::multiply(rows, weights, residual, out),
    }
}
