//! Every kernel on every instruction set against its definition in double precision.

use proptest::prelude::*;

use super::attention::attend_exact;
use super::{AttentionArena, attend, gelu_quantise_rows, layer_norm_rows, quantise_rows};
use crate::simd::Detected;
use crate::simd::gemm::QuantisedRows;

/// erf by its Maclaurin series (|x| < 3) or its continued fraction; double precision is far beyond what is compared.
fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let mut fraction = x.abs();
    for n in (1..200).rev() {
        fraction = x.abs() + f64::from(n) / 2.0 / fraction;
    }
    (1.0 - (-x * x).exp() / fraction / std::f64::consts::PI.sqrt()).copysign(x)
}

fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

fn unpack(rows: &QuantisedRows) -> Vec<f32> {
    (0..rows.count())
        .flat_map(|row| {
            let (scale, zero) = (rows.scales()[row], rows.zeros()[row]);
            rows.bytes_of(row).into_iter().map(move |b| scale * (i32::from(b) - zero) as f32)
        })
        .collect()
}

#[test]
fn gelu_is_exact_to_a_few_units_in_the_last_place() {
    let inputs: Vec<f32> =
        (-1600..1600).map(|i| i as f32 / 160.0).chain([-1e30, -40.0, 40.0, 1e4, 0.0, -0.0]).collect();
    let mut padded = inputs.clone();
    padded.resize(inputs.len().next_multiple_of(16), 0.0);
    for isa in Detected::all() {
        let mut values = padded.clone();
        let mut rows = QuantisedRows::default();
        rows.reset(1, values.len());
        gelu_quantise_rows(isa, &mut values, &mut Vec::new(), &mut rows);
        for (&x, &y) in inputs.iter().zip(&values) {
            let expected = gelu(x);
            assert!((y - expected).abs() <= 4e-7 * x.abs().max(1.0), "{isa:?}: gelu({x}) = {y}, not {expected}");
        }
    }
}

#[test]
fn a_row_of_zeros_quantises_to_zeros() {
    for isa in Detected::all() {
        let mut rows = QuantisedRows::default();
        rows.reset(2, 32);
        quantise_rows(isa, &[0.0; 64], &mut Vec::new(), &mut rows);
        assert!(unpack(&rows).iter().all(|&v| v == 0.0), "{isa:?}");
    }
}

fn values(len: usize) -> impl Strategy<Value = Vec<f32>> {
    (prop::collection::vec(-8.0_f32..8.0, len), -3_i32..4)
        .prop_map(|(v, e)| v.iter().map(|x| x * 10_f32.powi(e)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn quantised_rows_are_within_half_a_step(values in values(3 * 96)) {
        for isa in Detected::all() {
            let mut rows = QuantisedRows::default();
            rows.reset(3, 96);
            quantise_rows(isa, &values, &mut Vec::new(), &mut rows);
            for (at, (&v, q)) in values.iter().zip(unpack(&rows)).enumerate() {
                let scale = rows.scales()[at / 96];
                // Half a step, and as much again for the rounded zero point at the ends of the range.
                prop_assert!((v - q).abs() <= 1.001 * scale, "{:?} at {}: {} became {} (step {})", isa, at, v, q, scale);
            }
        }
    }

    #[test]
    fn layer_norm_equals_its_definition(values in values(2 * 48), gamma in values(48), beta in values(48)) {
        for isa in Detected::all() {
            let mut out = vec![f32::NAN; values.len()];
            layer_norm_rows(isa, &values, &gamma, &beta, 1e-5, &mut out);
            for (row, out) in values.chunks_exact(48).zip(out.chunks_exact(48)) {
                let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / 48.0;
                let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / 48.0;
                for i in 0..48 {
                    let unit = (f64::from(row[i]) - mean) / (variance + 1e-5).sqrt();
                    let expected = unit * f64::from(gamma[i]) + f64::from(beta[i]);
                    let bound = 1e-5 * (f64::from(gamma[i]).abs() + f64::from(beta[i]).abs() + 1e-3);
                    prop_assert!((f64::from(out[i]) - expected).abs() <= bound, "{:?}: {} not {}", isa, out[i], expected);
                }
            }
        }
    }

    #[test]
    fn attention_equals_its_definition(tokens in 1_usize..70, wide: bool, seed in 0_u32..1000) {
        let (heads, width) = (2, if wide { 64 } else { 32 });
        let hidden = heads * width;
        let qkv: Vec<f32> = (0..tokens * 3 * hidden)
            .map(|i| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed * 977) >> 16) as f32 / 32768.0 - 1.0)
            .collect();
        let at = |token: usize, part: usize, column: usize| f64::from(qkv[token * 3 * hidden + part * hidden + column]);
        let mut expected = vec![0.0_f64; tokens * hidden];
        for head in 0..heads {
            for query in 0..tokens {
                let scores: Vec<f64> = (0..tokens)
                    .map(|key| (0..width).map(|d| at(query, 0, head * width + d) * at(key, 1, head * width + d)).sum())
                    .collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..width {
                    let column = head * width + d;
                    expected[query * hidden + column] =
                        weights.iter().enumerate().map(|(key, w)| w / total * at(key, 2, column)).sum();
                }
            }
        }
        for isa in Detected::all() {
            let mut out = vec![f32::NAN; tokens * hidden];
            let mut arena = AttentionArena::default();
            // A longer text first: what it leaves in the arena must not matter.
            attend(isa, &vec![3.0; 81 * 3 * hidden], heads, width, &mut arena, &mut vec![0.0; 81 * hidden]);
            attend_exact(isa, &qkv, heads, width, &mut arena, &mut out);
            for (o, e) in out.iter().zip(&expected) {
                prop_assert!((f64::from(*o) - e).abs() <= 2e-5, "{:?}: {} not {}", isa, o, e);
            }
            attend(isa, &qkv, heads, width, &mut arena, &mut out);
            for (o, e) in out.iter().zip(&expected) {
                // Scores reach 20, which bfloat16 rounds by up to .08.
                prop_assert!((f64::from(*o) - e).abs() <= 0.04, "{:?}: {} not {}", isa, o, e);
            }
        }
    }
}
