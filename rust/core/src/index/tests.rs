//! The index finds what comparing with every vector finds.

use super::*;
use proptest::prelude::*;

fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Vectors in groups: copies of a few centres, disturbed a little or a lot.
fn grouped(seed: u64, n: usize, dim: usize, shared: f32) -> Vec<Vec<f32>> {
    let mut next = noise(seed);
    let centres: Vec<Vec<f32>> = (0..=n / 10).map(|_| (0..dim).map(|_| next() + shared).collect()).collect();
    (0..n)
        .map(|i| {
            let spread = next().abs();
            centres[i % centres.len()].iter().map(|value| value + spread * next()).collect()
        })
        .collect()
}

fn brute(held: &[(u64, Vec<f32>)], query: &[f32], threshold: f32, k: usize) -> Vec<Neighbour> {
    let query = unit(query, query.len()).expect("valid");
    let mut top = TopK::new(k, threshold);
    for (id, row) in held {
        let row = unit(row, row.len()).expect("valid");
        top.offer(*id, (kernels().dot)(&query, &row));
    }
    top.into_sorted()
}

#[test]
fn equals_brute_force() {
    for (dim, n, shared) in [(384, 3000, 0.0), (96, 5000, 1.5), (64, 1500, 0.0), (47, 700, 0.0), (130, 1400, 0.3)] {
        let index = VectorIndex::new(dim).expect("valid");
        let rows = grouped(dim as u64, n, dim, shared);
        let mut held: Vec<(u64, Vec<f32>)> =
            rows.iter().map(|row| (index.add(row).expect("valid"), row.clone())).collect();
        for step in 0..3 {
            for row in rows.iter().step_by(131) {
                for (threshold, k) in [(0.95, 1), (0.8, 10), (0.6, 3), (-1.0, 7), (0.9, usize::MAX)] {
                    let found = index.search(row, threshold, k).expect("valid");
                    assert_eq!(found, brute(&held, row, threshold, k), "dim {dim} threshold {threshold} k {k}");
                }
            }
            held.retain(|(id, _)| {
                let gone = id % 3 != step;
                assert!(!gone || index.remove(*id));
                !gone
            });
            for id in held.iter().map(|(id, _)| *id).take(5) {
                assert!(index.len() == held.len() && !index.remove(id + (1 << 40)));
            }
        }
        assert!(index.is_empty() && index.search(&rows[0], -1.0, 1).expect("valid").is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_operations(dim in 1_usize..140, seed in any::<u64>(), operations in prop::collection::vec(0_u8..10, 1..1500)) {
        let index = VectorIndex::new(dim).expect("valid");
        let rows = grouped(seed, operations.len(), dim, 0.2);
        let mut held: Vec<(u64, Vec<f32>)> = Vec::new();
        for (step, (operation, row)) in operations.iter().zip(rows).enumerate() {
            match operation {
                0..6 => held.push((index.add(&row).expect("valid"), row)),
                6..9 if !held.is_empty() => {
                    let (id, _) = held.remove(step % held.len());
                    prop_assert!(index.remove(id));
                    prop_assert!(!index.remove(id));
                }
                _ => {
                    let threshold = 1.0 - (step % 7) as f32 / 4.0;
                    let found = index.search(&row, threshold.max(-1.0), 5).expect("valid");
                    prop_assert_eq!(found, brute(&held, &row, threshold.max(-1.0), 5));
                }
            }
            prop_assert_eq!(index.len(), held.len());
        }
    }
}

#[test]
fn bad_input_leaves_the_index_alone() {
    let index = VectorIndex::new(2).expect("valid");
    index.add(&[1.0, 0.0]).expect("valid");
    assert!(matches!(index.add(&[1.0]), Err(Error::Dimension { expected: 2, got: 1 })));
    assert!(matches!(index.add(&[f32::NAN, 0.0]), Err(Error::NotFinite { position: 0, .. })));
    assert!(matches!(index.add(&[0.0, f32::INFINITY]), Err(Error::NotFinite { position: 1, .. })));
    assert!(matches!(index.add(&[0.0, -0.0]), Err(Error::ZeroVector)));
    assert!(matches!(index.search(&[1.0, 0.0], 1.5, 1), Err(Error::Threshold { .. })));
    assert!(matches!(index.search(&[1.0, 0.0], f32::NAN, 1), Err(Error::Threshold { .. })));
    assert!(matches!(index.search(&[1.0, 0.0], 0.5, 0), Err(Error::InvalidOption { name: "k", .. })));
    assert!(!index.remove(1) && !index.remove(u64::MAX));
    assert!(VectorIndex::new(0).is_err());
    assert_eq!(index.len(), 1);
}

#[test]
fn an_empty_index_is_small() {
    assert!(VectorIndex::new(4096).expect("valid").nbytes() < 1024);
}
