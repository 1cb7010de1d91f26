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

/// Vectors left by heads, and those left by the whole.
fn check_scan(query: &ScanQuery, blocks: &Blocks) -> (usize, Vec<Candidate>) {
    let before = Candidate { row: 7, partial: -7 };
    let run = |kernels: &Kernels| {
        let mut found = vec![before];
        let passed = (kernels.scan)(query, blocks, &mut found);
        assert_eq!(found.remove(0), before, "{:?}", kernels.isa);
        (passed, found)
    };
    let expected = run(scalar());
    for kernels in sets() {
        assert_eq!(run(kernels), expected, "{:?}", kernels.isa);
    }
    expected
}

/// Blocks of bytes that are looked up by their number.
fn blocks(count: usize, byte: impl Fn(usize) -> u8) -> Blocks {
    let line = |at: usize| Line(std::array::from_fn(|i| byte(at + i)));
    let piece = |at: usize| Piece(std::array::from_fn(|i| byte(at + i)));
    Blocks {
        heads: (0..count).map(|b| std::array::from_fn(|j| line(576 * b + 64 * j))).collect(),
        rests: (0..count).map(|b| Rest(std::array::from_fn(|j| piece(576 * b + 320 + 16 * j)))).collect(),
    }
}

fn weights(seed: u64) -> [i8; SLAB] {
    let bytes = bytes(seed, SLAB);
    std::array::from_fn(|d| (bytes[d] as i8).max(-127))
}

/// A vector's level in each dimension and its norms in the head and in the whole, by what the layout says.
fn row(blocks: &Blocks, row: usize) -> ([i32; SLAB], [[i32; 2]; 2]) {
    let (block, lane) = (row / BLOCK, row % BLOCK);
    let (head, Piece(piece)) = (&blocks.heads[block], blocks.rests[block].0[4 * (lane % 4) + lane / 4]);
    let levels = std::array::from_fn(|d| {
        let (byte, is_low) = if d < HEAD {
            let half = if d < 32 { 4 } else { 2 };
            (head[d / 8].0[4 * lane + d % 8 % half], d % 8 < half)
        } else {
            (piece[(d - HEAD) % 14], d - HEAD < 14)
        };
        i32::from(if is_low { byte & 15 } else { byte >> 4 })
    });
    (
        levels,
        [[head[4].0[4 * lane + 2], head[4].0[4 * lane + 3]], [piece[14], piece[15]]].map(|terms| terms.map(i32::from)),
    )
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
    fn scans_find_the_same(seed in any::<u64>(), count in 0_usize..150, head_limit in prop_oneof![4 => -50_000_i32..150_000, 1 => Just(i32::MIN)],
                           whole_limit in -3_000_000_i32..9_000_000, norms in prop::array::uniform2(0_i8..=127),
                           terms in prop::array::uniform2(0_i16..=i16::MAX)) {
        let (codes, weights) = (bytes(seed, count * 576), weights(seed.rotate_left(9)));
        let blocks = blocks(count, |at| codes[at]);
        let query = ScanQuery {
            words: Words::new(&weights),
            head: HeadCut { residual: norms[0], error: norms[1], limit: head_limit },
            whole: Cut { residual: terms[0], error: terms[1], limit: whole_limit },
        };
        let (passed, found) = check_scan(&query, &blocks);
        let sum = |levels: &[i32]| levels.iter().zip(weights).map(|(level, weight)| level * i32::from(weight)).sum::<i32>();
        let left: Vec<usize> = (0..count * BLOCK).filter(|at| {
            let (levels, [[residual, error], _]) = row(&blocks, *at);
            let norms = i32::from(norms[0]) * residual + i32::from(norms[1]) * error;
            head_limit == i32::MIN || sum(&levels[..HEAD]) + norms >= head_limit
        }).collect();
        prop_assert_eq!(passed, left.len());
        let expected: Vec<Candidate> = left.into_iter().filter_map(|at| {
            let (levels, [_, [residual, error]]) = row(&blocks, at);
            let partial = (sum(&levels) << FRACTION_BITS) + i32::from(terms[1]) * error;
            (partial + i32::from(terms[0]) * residual >= whole_limit).then_some(Candidate { row: at as u32, partial })
        }).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn code_dot_is_the_same(seed in any::<u64>()) {
        let codes = RowCodes(bytes(seed, 32).try_into().expect("32 bytes"));
        let weights = weights(!seed);
        for kernels in sets() {
            prop_assert_eq!((kernels.code_dot)(&codes, &weights), (scalar().code_dot)(&codes, &weights));
        }
    }

    #[test]
    fn sieves_leave_the_same(seed in any::<u64>(), count in 0_usize..53, floor in -40.0_f32..40.0) {
        let codes: Vec<RowCodes> =
            (0..40).map(|row| RowCodes(bytes(seed ^ row, 32).try_into().expect("32 bytes"))).collect();
        let terms = bytes(seed.rotate_left(5), 80).as_chunks::<2>().0.to_vec();
        let weights = weights(!seed);
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
    fn deep_scans_leave_the_same(seed in any::<u64>(), count in 0_usize..150, floor in -60.0_f32..60.0) {
        let slabs = [seed, !seed].map(|seed| {
            let codes = bytes(seed, count * 576);
            blocks(count, |at| codes[at])
        });
        let weights = [seed.rotate_left(9), seed.rotate_left(21)].map(weights);
        let parts = weights.map(|weights| DeepPart { words: Words::new(&weights), unit: 0.002, error: 0.01 });
        let query = DeepQuery { parts, residual: 0.02, offset: -1.5, floor };
        let run = |kernels: &Kernels| {
            let mut found = Vec::new();
            (kernels.scan_deep)(&query, slabs.each_ref(), &mut found);
            found
        };
        let found = run(scalar());
        for kernels in sets() {
            prop_assert_eq!(&run(kernels), &found, "{:?}", kernels.isa);
        }
        let expected: Vec<Reach> = (0..count * BLOCK).filter_map(|at| {
            let mut rest = 0.0;
            let [first, second] = [0, 1].map(|slab| {
                let (levels, [_, [residual, error]]) = row(&slabs[slab], at);
                rest = 0.02 * residual as f32;
                let dot: i32 = levels.iter().zip(weights[slab]).map(|(level, weight)| level * i32::from(weight)).sum();
                0.002 * dot as f32 + 0.01 * error as f32
            });
            let reach = first + second + query.offset;
            (reach + rest >= floor).then_some(Reach { row: at as u32, reach })
        }).collect();
        prop_assert_eq!(found, expected);
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
            let norm = |at: usize| ((256..320).contains(&at) && at % 4 > 1) || (at >= 320 && at % 16 > 13);
            let byte = |at: usize| if norm(at % 576) { 255 } else { code };
            let blocks = blocks(67, byte);
            let query = |head_limit: i32, whole_limit: i32| ScanQuery {
                words: Words::new(&[weight; SLAB]),
                head: HeadCut { residual: 127, error: 127, limit: head_limit },
                whole: Cut { residual: i16::MAX, error: i16::MAX, limit: whole_limit },
            };
            let head = i32::from(weight) * i32::from(code & 15) * HEAD as i32 + 2 * 255 * 127;
            let dot = i32::from(weight) * i32::from(code & 15) * SLAB as i32;
            let partial = (dot << FRACTION_BITS) + 255 * i32::from(i16::MAX);
            let whole = partial + 255 * i32::from(i16::MAX);
            let (passed, found) = check_scan(&query(head, whole), &blocks);
            assert_eq!((passed, found.len(), found[0].partial), (67 * BLOCK, 67 * BLOCK, partial));
            let (passed, found) = check_scan(&query(head, whole + 1), &blocks);
            assert_eq!((passed, found.len()), (67 * BLOCK, 0));
            assert_eq!(check_scan(&query(head + 1, whole), &blocks), (0, Vec::new()));
            for kernels in sets() {
                assert_eq!((kernels.code_dot)(&RowCodes([code; 32]), &[weight; SLAB]), dot);
                let dot = (kernels.byte_dot)(&vec![127; 1 << 16], &vec![weight; 1 << 16]);
                assert_eq!(dot, (127 * i32::from(weight)) << 16, "{:?}", kernels.isa);
            }
        }
    }
}
