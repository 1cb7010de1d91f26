//! Eigen decomposition of a small symmetric matrix.
#![expect(clippy::many_single_char_names, reason = "the names of the textbook's formulas")]

/// Cyclic Jacobi rotations (Golub & Van Loan, 8.5): each zeroes one off-diagonal element; what is left
/// shrinks quadratically once it is small, so a handful of sweeps suffices.
#[derive(Debug)]
pub(crate) struct Jacobi {
    n: usize,
    /// Both halves are kept, so that rows can be walked.
    a: Vec<f64>,
    vectors: Vec<f64>,
    sweeps: usize,
    p: usize,
}

impl Jacobi {
    /// For a symmetric matrix, row-major `n x n`.
    pub(crate) fn new(a: Vec<f64>, n: usize, sweeps: usize) -> Self {
        let mut vectors = vec![0.0; n * n];
        vectors.iter_mut().step_by(n + 1).for_each(|value| *value = 1.0);
        Self { n, a, vectors, sweeps, p: 0 }
    }

    /// The rotations of one row; `true` after the last sweep.
    pub(crate) fn step(&mut self) -> bool {
        for q in self.p + 1..self.n {
            rotate(&mut self.a, &mut self.vectors, self.n, self.p, q);
        }
        self.p += 1;
        if self.p >= self.n {
            self.p = 0;
            self.sweeps -= 1;
        }
        self.sweeps == 0
    }

    /// Eigenvalues, largest first, and their eigenvectors, as rows.
    pub(crate) fn sorted(&self) -> (Vec<f64>, Vec<f64>) {
        let n = self.n;
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|i, j| self.a[j * n + j].total_cmp(&self.a[i * n + i]));
        let values = order.iter().map(|i| self.a[i * n + i]).collect();
        let vectors = order.iter().flat_map(|i| self.vectors[i * n..(i + 1) * n].iter().copied()).collect();
        (values, vectors)
    }
}

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
    for row in a.chunks_exact_mut(n) {
        let (x, y) = (row[p], row[q]);
        row[p] = c * x - s * y;
        row[q] = s * x + c * y;
    }
    rotate_rows(vectors, n, p, q, c, s);
}

fn rotate_rows(matrix: &mut [f64], n: usize, p: usize, q: usize, c: f64, s: f64) {
    let (head, tail) = matrix.split_at_mut(q * n);
    for (x, y) in head[p * n..(p + 1) * n].iter_mut().zip(&mut tail[..n]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}
