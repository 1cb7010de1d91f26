use proptest::prelude::*;

use super::{PackedWeights, QuantisedRows, multiply};
use crate::simd::Detected;

/// Deterministic values of both signs, wide enough to reach every byte.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn filled(count: usize, inputs: usize, seed: u64) -> QuantisedRows {
    let mut rows = QuantisedRows::default();
    rows.reset(count, inputs);
    let bytes: Vec<u8> = noise(seed, count * inputs).iter().map(|v| ((v + 1.0) * 127.9) as u8).collect();
    for (row, (bytes, v)) in bytes.chunks_exact(inputs).zip(noise(seed + 9, count)).enumerate() {
        rows.set(row, v.abs() * 0.1 + 1e-3, ((v + 1.0) * 127.9) as u8, bytes);
    }
    rows
}

fn uniform(count: usize, scale: f32, zero: u8, bytes: &[u8]) -> QuantisedRows {
    let mut rows = QuantisedRows::default();
    rows.reset(count, bytes.len());
    for row in 0..count {
        rows.set(row, scale, zero, bytes);
    }
    rows
}

struct Case {
    rows: QuantisedRows,
    weights: PackedWeights,
    residual: Vec<f32>,
}

impl Case {
    fn new(rows: usize, steps: usize, panels: usize, seed: u64) -> Self {
        let (inputs, outputs) = (steps * 8, panels * 32);
        let raw = noise(seed, outputs * inputs);
        let weights = PackedWeights::quantise(&raw, &noise(seed + 1, outputs), outputs, inputs).expect("shape fits");
        Self { rows: filled(rows, inputs, seed + 2), weights, residual: noise(seed + 5, rows * outputs) }
    }

    fn run(&self, isa: Detected, residual: bool) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.residual.len()];
        multiply(isa, &self.rows, &self.weights, residual.then_some(&self.residual[..]), &mut out);
        out
    }
}

/// The integers are equal, so only the last rounding may differ: a few units in the last place of the larger term.
fn assert_same(reference: &[f32], other: &[f32], isa: Detected) {
    for (at, (r, o)) in reference.iter().zip(other).enumerate() {
        assert!((r - o).abs() <= 4e-7 * r.abs().max(4.0), "{isa:?} at {at}: {r} against {o}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_kernel_equals_the_reference(
        rows in 1_usize..40, steps in 1_usize..60, panels in 1_usize..4, seed in 0_u64..1 << 40, residual: bool,
    ) {
        let case = Case::new(rows, steps, panels, seed);
        let reference = case.run(Detected::scalar(), residual);
        for isa in Detected::all() {
            assert_same(&reference, &case.run(isa, residual), isa);
        }
    }
}

#[test]
fn sums_do_not_saturate_at_the_extremes() {
    let (rows, inputs) = (15, 1536);
    for sign in [1.0_f32, -1.0] {
        let raw = vec![sign; 32 * inputs];
        let weights = PackedWeights::quantise(&raw, &[0.0; 32], 32, inputs).expect("shape fits");
        for (byte, zero) in [(255, 0), (255, 255), (0, 255), (0, 0)] {
            let input = uniform(rows, 1.0, zero, &vec![byte; inputs]);
            let expected = sign * inputs as f32 * (f32::from(byte) - f32::from(zero));
            for isa in Detected::all() {
                let mut out = vec![f32::NAN; rows * 32];
                multiply(isa, &input, &weights, None, &mut out);
                let worst = out.iter().map(|v| (v - expected).abs()).fold(0.0, f32::max);
                assert!(worst <= 1e-6 * expected.abs(), "{isa:?}: {worst} from {expected}");
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let weights = PackedWeights::quantise(&noise(1, 64 * 384), &noise(2, 64), 64, 384).expect("shape fits");
    let bytes: Vec<u8> = noise(3, 384).iter().map(|v| ((v + 1.0) * 127.9) as u8).collect();
    for isa in Detected::all() {
        let mut alone = vec![f32::NAN; 64];
        multiply(isa, &uniform(1, 0.01, 77, &bytes), &weights, None, &mut alone);
        for count in 1..40 {
            let mut rows = filled(count, 384, 5);
            rows.set(count / 2, 0.01, 77, &bytes);
            let mut together = vec![f32::NAN; count * 64];
            multiply(isa, &rows, &weights, None, &mut together);
            assert_eq!(alone, together[count / 2 * 64..][..64], "{isa:?}, {count} rows");
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let ones = vec![1.0; 64 * 64];
    for (outputs, inputs) in [(0, 64), (64, 0), (33, 64), (64, 63), (128, 64), (32, 40_000)] {
        assert!(PackedWeights::quantise(&ones, &vec![0.0; outputs], outputs, inputs).is_none(), "{outputs} x {inputs}");
    }
    let good = PackedWeights::quantise(&ones, &[0.0; 64], 64, 64).expect("shape fits");
    let lines = good.lines()[1..].to_vec();
    assert!(PackedWeights::from_parts(64, 64, lines, vec![1.0; 64], vec![0.0; 64]).is_none());
}

#[test]
fn an_all_zero_output_stays_zero() {
    let weights = PackedWeights::quantise(&vec![0.0; 32 * 8], &[0.5; 32], 32, 8).expect("shape fits");
    for isa in Detected::all() {
        let mut out = vec![f32::NAN; 32];
        multiply(isa, &uniform(1, 2.0, 3, &[255; 8]), &weights, None, &mut out);
        assert!(out.iter().all(|&v| (v - 0.5).abs() < 1e-9), "{isa:?}: {out:?}");
    }
}
