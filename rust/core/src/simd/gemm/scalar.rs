//! The reference: the definition, written out.

use super::{GROUP, PANEL, PackedWeights, QuantisedRows};

pub(super) fn multiply(rows: &QuantisedRows, weights: &PackedWeights, residual: Option<&[f32]>, out: &mut [f32]) {
    let groups = weights.inputs / GROUP;
    for (panel, lines) in weights.lines.chunks_exact(2 * groups).enumerate() {
        for (start, count, words) in rows.tiles() {
            for row in 0..count {
                let mut sums = [0_i32; PANEL];
                for (word, lines) in words[row..].iter().step_by(count).zip(lines.chunks_exact(4)) {
                    for (activations, pair) in word.to_le_bytes().chunks_exact(GROUP).zip(lines.chunks_exact(2)) {
                        for (half, line) in sums.chunks_exact_mut(16).zip(pair) {
                            for (sum, w) in half.iter_mut().zip(line.0.chunks_exact(GROUP)) {
                                *sum +=
                                    activations.iter().zip(w).map(|(&a, &w)| i32::from(a) * i32::from(w)).sum::<i32>();
                            }
                        }
                    }
                }
                finish(rows, weights, residual, out, start + row, panel, &sums);
            }
        }
    }
}

/// Turns the integer sums of one row and panel into outputs. The x86 kernels do the same in registers.
fn finish(
    rows: &QuantisedRows,
    weights: &PackedWeights,
    residual: Option<&[f32]>,
    out: &mut [f32],
    row: usize,
    panel: usize,
    sums: &[i32; PANEL],
) {
    let first = panel * PANEL;
    let at = row * weights.outputs + first;
    for (lane, &sum) in sums.iter().enumerate() {
        let output = first + lane;
        let exact = sum - rows.zeros()[row] * weights.column_sums[output];
        let base = weights.bias[output] + residual.map_or(0.0, |r| r[at + lane]);
        out[at + lane] = exact as f32 * (rows.scales()[row] * weights.scales[output]) + base;
    }
}
