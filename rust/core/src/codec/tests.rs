//! The bound never lies, whatever the data and the basis.

use super::eigen::Jacobi;
use super::encode::SlabCode;
use super::*;
use crate::simd::{HEAD, Reach, RowCodes, SLAB, kernels};
use proptest::prelude::*;

fn vectors(seed: u64, n: usize, dim: usize, decay: f32) -> Vec<Vec<f32>> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n)
        .map(|_| {
            let raw: Vec<f32> = (0..dim).map(|d| next() * (-(d as f32) * decay).exp() + 1e-12).collect();
            unit(&raw, dim).expect("not zero")
        })
        .collect()
}

fn check(basis: &Basis, data: &[Vec<f32>], queries: &[Vec<f32>]) -> std::result::Result<(), TestCaseError> {
    for query in queries {
        let bound = QueryBound::new(basis, kernels(), query);
        for x in data {
            let similarity = f64::from((kernels().dot)(query, x));
            let mut codes: Vec<SlabCode> = Vec::new();
            encode(basis, kernels(), usize::MAX, &[x, query, x, query], |number, code| {
                if number == 2 {
                    codes.push(code);
                }
            });
            let [head, whole] = bound.first_reach(&codes[0]);
            prop_assert!(head >= similarity && whole >= similarity, "{} {} {}", head, whole, similarity);
            let (scan, weights) = (bound.scan(similarity as f32), bound.weights());
            let dot =
                |levels: &[u8]| weights.iter().zip(levels).map(|(w, c)| i32::from(*w) * i32::from(*c)).sum::<i32>();
            let (cut, norms) = (scan.head, codes[0].head);
            let norms =
                i32::from(cut.residual) * i32::from(norms.residual) + i32::from(cut.error) * i32::from(norms.error);
            let (in_head, exact) = (dot(&codes[0].levels[..HEAD]) + norms, (head - similarity) / bound.head_unit());
            // Rounding the norms' weights to bytes loses a unit of each at most, and the limit less than four.
            let above = f64::from(in_head - cut.limit);
            prop_assert!(above >= 0.0 && (exact - 1.0..exact + 516.0).contains(&above), "{} {}", above, exact);
            let (whole, norms) = (scan.whole, codes[0].whole);
            let partial = (dot(&codes[0].levels) << 6) + i32::from(whole.error) * i32::from(norms.error);
            prop_assert!(partial + i32::from(whole.residual) * i32::from(norms.residual) >= whole.limit);
            let reach = bound.start()(partial);
            let mut sum = f64::from(reach);
            let mut left = vec![Reach { row: 0, reach }];
            for (slab, code) in codes.iter().enumerate().skip(1) {
                let row = RowCodes(std::array::from_fn(|b| code.levels[b] | code.levels[b + SLAB / 2] << 4));
                let query = bound.later(slab);
                sum += query.part((kernels().code_dot)(&row, query.weights()), code.whole.error);
                prop_assert!(sum + query.rest(code.whole.residual) >= similarity, "slab {}", slab);
                let terms = [[code.whole.residual, code.whole.error]];
                (kernels().sieve)(&query.sieve(similarity as f32), &[row], &terms, &mut left);
                prop_assert!(left.len() == 1 && (f64::from(left[0].reach) - sum).abs() < 1e-4, "slab {}", slab);
                if slab == 1 {
                    let deep = bound.scan_deep(0.0);
                    let dots = [dot(&codes[0].levels), (kernels().code_dot)(&row, query.weights())];
                    let parts =
                        deep.parts.iter().zip(&codes).zip(dots).map(|((part, code), dot)| {
                            part.unit * dot as f32 + part.error * f32::from(code.whole.error)
                        });
                    let reach = f64::from(parts.sum::<f32>() + deep.offset);
                    let rest = f64::from(deep.residual * f32::from(code.whole.residual));
                    // The scan's weight of the coding error is rounded up to a whole unit of its sum.
                    let rounded = f64::from(deep.parts[0].unit) * 256.0 / 64.0;
                    prop_assert!((-1e-4..rounded + 1e-4).contains(&(sum - reach)), "{} {}", sum, reach);
                    prop_assert!(reach + rest >= similarity, "both slabs");
                }
            }
        }
    }
    Ok(())
}

fn learn(dim: usize, sample: &[Vec<f32>]) -> Basis {
    let mut lesson = Lesson::new(dim, sample.len());
    for four in sample.chunks(4) {
        lesson.take(&four.iter().map(|row| &row[..]).collect::<Vec<_>>(), kernels());
    }
    loop {
        if let Some(basis) = lesson.step(kernels()) {
            return basis;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn bounds_hold(dim in 1_usize..300, decay in 0.0_f32..0.3, seed in any::<u64>()) {
        let data = vectors(seed, 60, dim, decay);
        let basis = learn(dim, &data);
        let mut bytes = Vec::new();
        for slab in basis.slabs() {
            bytes.extend(slab.steps.map(f64::to_le_bytes).concat());
            bytes.extend(slab.matrix.iter().flat_map(|row| row.0.map(f32::to_le_bytes).concat()));
        }
        let measured = Basis::read(dim, basis.slabs().len(), &mut &bytes[..]).expect("orthonormal").stretch();
        prop_assert!(measured <= basis.stretch(), "{} of {}", measured, basis.stretch());
        let other = vectors(seed ^ 0xdead, 5, dim, 0.0);
        check(&basis, &data, &data[..5])?;
        check(&basis, &data, &other)?;
        check(&basis, &other, &data[..5])?;
    }
}

/// By a matrix, and by passes over the vectors themselves.
#[test]
fn energy_goes_first() {
    for dim in [200, 1100] {
        let data = vectors(3, 500, dim, 0.03);
        let shuffled: Vec<Vec<f32>> = data.iter().map(|row| (0..dim).map(|d| row[(d * 77) % dim]).collect()).collect();
        assert_eq!(Lesson::sample_size(dim) > 1024, dim == 200);
        let basis = learn(dim, &shuffled);
        let energy = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 500.0;
        let kept: f64 = shuffled.iter().map(|row| energy(&basis.project(kernels(), 0, row))).sum();
        let best: f64 = data.iter().map(|row| energy(&row[..SLAB])).sum();
        assert!(kept > best - 0.01, "{dim}: {kept} of {best}");
    }
}

#[test]
fn a_given_basis_must_be_orthonormal() {
    let mut rows = vec![0.0; 2 * 8];
    rows[0] = 1.0;
    rows[9] = 1.0;
    assert!(Basis::from_rows(8, &rows, &[]).is_ok());
    rows[1] = 0.5;
    assert!(Basis::from_rows(8, &rows, &[]).is_err());
    assert!(Basis::from_rows(8, &[f32::NAN; 8], &[]).is_err());
    assert!(Basis::from_rows(8, &rows[..9], &[]).is_err());
    assert!(Basis::from_rows(8, &[], &[]).is_err());
}

#[test]
fn eigenvectors_diagonalise() {
    let n = 20;
    let mut a = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..n {
            a[i * n + j] = 1.0 / (1.0 + i as f64 + j as f64);
        }
    }
    let mut jacobi = Jacobi::new(a.clone(), n, 8);
    while !jacobi.step() {}
    let (values, vectors) = jacobi.sorted();
    assert!(values.is_sorted_by(|a, b| a >= b));
    for (value, vector) in values.iter().zip(vectors.chunks_exact(n)) {
        for i in 0..n {
            let image: f64 = (0..n).map(|j| a[i * n + j] * vector[j]).sum();
            assert!((image - value * vector[i]).abs() < 1e-9);
        }
    }
}

#[test]
fn units_keep_directions() {
    for scale in [1e-30_f32, 1.0, 1e30] {
        let x = unit(&[3.0 * scale, 4.0 * scale], 2).expect("finite");
        assert!((x[0] - 0.6).abs() < 1e-6 && (x[1] - 0.8).abs() < 1e-6);
    }
    assert!(unit(&[1e-40, 0.0], 2).is_ok_and(|x| x[0] > 0.999));
    assert!(unit(&[f32::MAX; 4], 4).is_ok());
}

#[test]
fn half_precision_round_trips() {
    for bits in 0..=u16::MAX {
        if bits & 0x7c00 != 0x7c00 {
            assert_eq!(half::from_f32(half::to_f32(bits)), bits);
        }
    }
    assert_eq!(half::from_f32(1.0), 0x3c00);
    assert_eq!(half::from_f32(1.0 + 1.0 / 2048.0), 0x3c00, "ties go to even");
    assert_eq!(half::from_f32(1.0 + 3.0 / 2048.0), 0x3c02, "ties go to even");
    assert_eq!(half::from_f32(-6e-8), 0x8001);
}
