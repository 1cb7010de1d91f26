//! Eigen decomposition of a small symmetric matrix.
#![expect(clippy::many_single_char_names, reason = "the names of the textbook's formulas")]

/// Eigenvalues (largest first) and their eigenvectors (rows) of a symmetric matrix, row-major `n x n`.
///
/// Cyclic Jacobi rotations (Golub & Van Loan, 8.5): each zeroes one off-diagonal element; what is left
/// shrinks quadratically once it is small, so a handful of sweeps suffices.
pub(crate) fn symmetric(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut vectors = vec![0.0; n * n];
    for i in 0..n {
        vectors[i * n + i] = 1.0;
    }
    let scale = a.iter().map(|value| value * value).sum::<f64>();
    for _ in 0..12 {
        let off: f64 = (0..n).map(|i| a[i * n..i * n + i].iter().map(|value| value * value).sum::<f64>()).sum();
        if off <= 1e-14 * scale {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|i| a[i * n + i]).collect();
    let sorted = order.iter().flat_map(|i| vectors[i * n..(i + 1) * n].iter().copied()).collect();
    (values, sorted)
}

/// One rotation in the plane of `p` and `q`; both sides of `a` are kept, so that rows can be walked.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let element = a[p * n + q];
    if element.abs() < 1e-300 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * element);
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let c = t.hypot(1.0).recip();
    let s = t * c;
    rotate_rows(a, n, p, q, c, s);
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    rotate_rows(vectors, n, p, q, c, s);
}

fn rotate_rows(matrix: &mut [f64], n: usize, p: usize, q: usize, c: f64, s: f64) {
    let (head, tail) = matrix.split_at_mut(q * n);
    for (x, y) in head[p * n..(p + 1) * n].iter_mut().zip(&mut tail[..n]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}
