//! Every instruction set of this machine returns the scalar reference's bits.

use super::*;
use crate::codec::half;
use proptest::prelude::*;

fn sets() -> impl Iterator<Item = &'static Kernels> {
    [Isa::Avx2, Isa::Avx512, Isa::Neon].into_iter().filter_map(kernels_of)
}

fn scalar() -> &'static Kernels {
    kernels_of(Isa::Scalar).expect("always here")
}

/// Cheap reproducible bytes.
fn bytes(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

fn check_scan(query: &ScanQuery, blocks: &Blocks) -> (usize, Vec<Candidate>) {
    let mut expected = Vec::new();
    let passed = (scalar().scan)(query, blocks, &mut expected);
    for kernels in sets() {
        let mut found = Vec::new();
        assert_eq!((kernels.scan)(query, blocks, &mut found), passed, "{:?}", kernels.isa);
        assert_eq!(found, expected, "{:?}", kernels.isa);
    }
    (passed, expected)
}

/// Blocks of codes and terms that are looked up by their number.
fn blocks(count: usize, code: impl Fn(usize) -> u8, term: impl Fn(usize) -> u8) -> Blocks {
    let half = |first: usize| {
        let block = |b| std::array::from_fn(|j| Line(std::array::from_fn(|i| code(first + 256 * b + 64 * j + i))));
        (0..count).map(block).collect()
    };
    let terms = |first: usize| (0..count).map(|b| Terms(std::array::from_fn(|i| term(first + 32 * b + i)))).collect();
    Blocks { heads: half(0), head_terms: terms(0), tails: half(256 * count), terms: terms(32 * count) }
}

proptest! {
    #[test]
    fn dot_is_the_same_to_the_bit(
        pairs in prop::collection::vec((-1e3_f32..1e3, -1e-3_f32..1e3), 0..300)
    ) {
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let expected = (scalar().dot)(&a, &b);
        let exact: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        let size: f64 = a.iter().zip(&b).map(|(x, y)| (f64::from(*x) * f64::from(*y)).abs()).sum();
        prop_assert!((f64::from(expected) - exact).abs() <= size * a.len() as f64 * 6e-8 + 1e-30);
        for kernels in sets() {
            prop_assert_eq!((kernels.dot)(&a, &b).to_bits(), expected.to_bits(), "{:?}", kernels.isa);
        }
        let halves: Vec<u16> = a.iter().map(|value| half::from_f32(*value)).collect();
        let bytes: Vec<i8> = a.iter().map(|value| *value as i8).collect();
        for kernels in sets() {
            let (half, byte) = ((kernels.dot_half)(&halves, &b), (kernels.dot_bytes)(&bytes, &b));
            prop_assert_eq!(half.to_bits(), (scalar().dot_half)(&halves, &b).to_bits(), "{:?}", kernels.isa);
            prop_assert_eq!(byte.to_bits(), (scalar().dot_bytes)(&bytes, &b).to_bits(), "{:?}", kernels.isa);
        }
    }

    #[test]
    fn projection_is_the_same_to_the_bit(x in prop::collection::vec(-1.0_f32..1.0, 1..70), seed in any::<u64>()) {
        let values = bytes(seed, x.len() * SLAB);
        let matrix: Vec<Columns> =
            values.as_chunks::<SLAB>().0.iter().map(|row| Columns(row.map(|byte| f32::from(byte) / 99.0 - 1.3))).collect();
        let expected = (scalar().project)(&matrix, &x).map(f32::to_bits);
        for kernels in sets() {
            prop_assert_eq!((kernels.project)(&matrix, &x).map(f32::to_bits), expected, "{:?}", kernels.isa);
            let scaled: Vec<f32> = x.iter().map(|value| value * 3.0).collect();
            let four = (kernels.project_four)(&matrix, [&scaled, &x, &scaled, &x]);
            prop_assert_eq!(four[1].map(f32::to_bits), expected, "{:?}", kernels.isa);
            prop_assert_eq!(four[3].map(f32::to_bits), expected, "{:?}", kernels.isa);
            let again = (scalar().project)(&matrix, &scaled).map(f32::to_bits);
            prop_assert_eq!(four[2].map(f32::to_bits), again, "{:?}", kernels.isa);
        }
    }

    #[test]
    fn outer_products_are_the_same_to_the_bit(dim in 1_usize..70, seed in any::<u64>()) {
        let values: Vec<f32> = bytes(seed, 4 * dim).into_iter().map(|byte| f32::from(byte) / 99.0 - 1.3).collect();
        let rows: Vec<&[f32]> = values.chunks(dim).collect();
        let four = [rows[0], rows[1], rows[2], rows[3]];
        let mut expected = vec![0.5; dim * dim];
        (scalar().add_outer)(&mut expected, four);
        for i in 0..dim {
            for j in i..dim {
                let exact: f64 = 0.5 + four.iter().map(|x| f64::from(x[i]) * f64::from(x[j])).sum::<f64>();
                prop_assert!((f64::from(expected[i * dim + j]) - exact).abs() < 1e-5);
            }
        }
        for kernels in sets() {
            let mut sums = vec![0.5; dim * dim];
            (kernels.add_outer)(&mut sums, four);
            prop_assert_eq!(sums.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>(),
                expected.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>(), "{:?}", kernels.isa);
        }
    }

    #[test]
    fn scan_finds_the_same(seed in any::<u64>(), count in 0_usize..150,
                           limits in prop::array::uniform2(-3_000_000_i32..9_000_000),
                           residuals in prop::array::uniform2(0_i16..=i16::MAX),
                           errors in prop::array::uniform2(0_i16..=i16::MAX)) {
        let (codes, terms) = (bytes(seed, count * 512), bytes(!seed, count * 64));
        let blocks = blocks(count, |at| codes[at], |at| terms[at]);
        let weights = bytes(seed.rotate_left(9), SLAB);
        let weights = std::array::from_fn(|d| (weights[d] as i8).max(-127));
        let [head, whole] =
            [0, 1].map(|at| Cut { residual: residuals[at], error: errors[at], limit: limits[at] });
        check_scan(&ScanQuery { weights, head, whole }, &blocks);
    }

    #[test]
    fn code_dot_is_the_same(seed in any::<u64>()) {
        let codes = RowCodes(bytes(seed, 32).try_into().expect("32 bytes"));
        let weights = bytes(!seed, SLAB);
        let weights = std::array::from_fn(|d| (weights[d] as i8).max(-127));
        for kernels in sets() {
            prop_assert_eq!((kernels.code_dot)(&codes, &weights), (scalar().code_dot)(&codes, &weights));
        }
    }

    #[test]
    fn sieves_leave_the_same(seed in any::<u64>(), count in 0_usize..53, floor in -40.0_f32..40.0) {
        let codes: Vec<RowCodes> =
            (0..40).map(|row| RowCodes(bytes(seed ^ row, 32).try_into().expect("32 bytes"))).collect();
        let terms = bytes(seed.rotate_left(5), 80).as_chunks::<2>().0.to_vec();
        let weights = bytes(!seed, SLAB);
        let weights = std::array::from_fn(|d| (weights[d] as i8).max(-127));
        let part = SlabPart { weights, unit: 0.003, error: 0.01 };
        let query = SieveQuery { part, residual: 0.02, offset: -1.5, floor };
        let all: Vec<Reach> = bytes(seed.rotate_left(3), count)
            .into_iter()
            .map(|byte| Reach { row: u32::from(byte) % 40, reach: f32::from(byte) / 100.0 })
            .collect();
        let mut expected = all.clone();
        (scalar().sieve)(&query, &codes, &terms, &mut expected);
        for kernels in sets() {
            let mut left = all.clone();
            (kernels.sieve)(&query, &codes, &terms, &mut left);
            prop_assert_eq!(&left, &expected, "{:?}", kernels.isa);
        }
        let by_row = all.into_iter().filter_map(|Reach { row, reach }| {
            let [residual, error] = terms[row as usize].map(f32::from);
            let dot = (scalar().code_dot)(&codes[row as usize], &weights) as f32;
            let reach = reach + (query.part.unit * dot + query.part.error * error + query.offset);
            (reach + query.residual * residual >= floor).then_some(Reach { row, reach })
        });
        prop_assert_eq!(by_row.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn deep_scans_leave_the_same(seed in any::<u64>(), count in 0_usize..23, floor in -60.0_f32..60.0) {
        let (codes, terms) = (bytes(seed, count * 1024), bytes(!seed, count * 96));
        let first = blocks(count, |at| codes[at], |at| terms[at]);
        let block = |b: usize, half: usize| -> Block {
            std::array::from_fn(|j| Line(std::array::from_fn(|i| codes[(2 * count + 2 * b + half) * 256 + 64 * j + i])))
        };
        let second = SecondBlocks {
            codes: (0..count).map(|b| [block(b, 0), block(b, 1)]).collect(),
            terms: (0..count).map(|b| Terms(std::array::from_fn(|i| terms[(2 * count + b) * 32 + i]))).collect(),
        };
        let part = |seed: u64| {
            let weights = bytes(seed, SLAB);
            SlabPart { weights: std::array::from_fn(|d| (weights[d] as i8).max(-127)), unit: 0.002, error: 0.01 }
        };
        let parts = [part(seed.rotate_left(9)), part(seed.rotate_left(21))];
        let query = DeepQuery { parts, residual: 0.02, offset: -1.5, floor };
        let mut expected = Vec::new();
        (scalar().scan_deep)(&query, &first, &second, &mut expected);
        for kernels in sets() {
            let mut found = Vec::new();
            (kernels.scan_deep)(&query, &first, &second, &mut found);
            prop_assert_eq!(&found, &expected, "{:?}", kernels.isa);
        }
        // The second slab as the sieve sees it, after a scan of the first that leaves everything.
        let cut = Cut { residual: 0, error: 0, limit: i32::MIN };
        let mut all = Vec::new();
        (scalar().scan)(&ScanQuery { weights: query.parts[0].weights, head: cut, whole: cut }, &first, &mut all);
        prop_assert_eq!(all.len(), count * BLOCK);
        let mut found = expected.iter();
        for candidate in all {
            let (block, lane) = (candidate.row as usize / BLOCK, candidate.row as usize % BLOCK);
            let level = |d: usize| {
                let byte = second.codes[block][d / HALF][d % HALF / 8].0[4 * lane + d % 4];
                i32::from(if d % 8 < 4 { byte & 15 } else { byte >> 4 })
            };
            let dot: i32 = (0..SLAB).map(|d| i32::from(query.parts[1].weights[d]) * level(d)).sum();
            let errors = [&first.terms, &second.terms].map(|terms| 0.01 * f32::from(terms[block].0[2 * lane + 1]));
            let in_first = 0.002 * (candidate.partial >> FRACTION_BITS) as f32 + errors[0];
            let reach = in_first + (0.002 * dot as f32 + errors[1]) + query.offset;
            if reach + 0.02 * f32::from(second.terms[block].0[2 * lane]) >= floor {
                prop_assert_eq!(found.next(), Some(&Reach { row: candidate.row, reach }));
            }
        }
        prop_assert_eq!(found.next(), None);
    }

    #[test]
    fn bytes_multiply_exactly(seed in any::<u64>(), count in 0_usize..700) {
        let [a, b] = [seed, !seed].map(|seed| bytes(seed, count).into_iter().map(|byte| (byte as i8).max(-127)).collect());
        let (a, b): (Vec<i8>, Vec<i8>) = (a, b);
        let expected: i32 = a.iter().zip(&b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        prop_assert_eq!((scalar().byte_dot)(&a, &b), expected);
        for kernels in sets() {
            prop_assert_eq!((kernels.byte_dot)(&a, &b), expected, "{:?}", kernels.isa);
        }
    }
}

#[test]
fn extremes_do_not_overflow() {
    for weight in [-127, 127] {
        for code in [0, 255] {
            let cut = Cut { residual: i16::MAX, error: i16::MAX, limit: i32::MIN };
            let query = ScanQuery { weights: [weight; SLAB], head: cut, whole: cut };
            let (passed, found) = check_scan(&query, &blocks(67, |_| code, |_| 255));
            assert_eq!((passed, found.len()), (67, 67 * BLOCK));
            let dot = i32::from(weight) * i32::from(code & 15) * SLAB as i32;
            assert_eq!(found[0].partial, (dot << FRACTION_BITS) + 255 * i32::from(i16::MAX));
            let nothing = Cut { limit: i32::MAX, ..cut };
            let (passed, found) = check_scan(&ScanQuery { head: nothing, ..query }, &blocks(67, |_| code, |_| 255));
            assert_eq!((passed, found.len()), (0, 0));
            for kernels in sets() {
                assert_eq!((kernels.code_dot)(&RowCodes([code; 32]), &[weight; SLAB]), dot);
                let dot = (kernels.byte_dot)(&vec![127; 1 << 16], &vec![weight; 1 << 16]);
                assert_eq!(dot, (127 * i32::from(weight)) << 16, "{:?}", kernels.isa);
            }
        }
    }
}
