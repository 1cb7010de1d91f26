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

fn check_scan(query: &ScanQuery, blocks: &[Block], terms: &[Terms]) {
    let mut expected = Vec::new();
    (scalar().scan)(query, blocks, terms, 7, &mut expected);
    for kernels in sets() {
        let mut found = Vec::new();
        (kernels.scan)(query, blocks, terms, 7, &mut found);
        assert_eq!(found, expected, "{:?}", kernels.isa);
    }
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
        let matrix: Vec<f32> = bytes(seed, x.len() * SLAB).iter().map(|byte| f32::from(*byte) / 99.0 - 1.3).collect();
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
    fn scan_finds_the_same(seed in any::<u64>(), count in 0_usize..9, limit in -3_000_000_i32..9_000_000,
                           residual in 0_i16..=i16::MAX, error in 0_i16..=i16::MAX) {
        let codes = bytes(seed, count * 512);
        let blocks: Vec<Block> = (0..count)
            .map(|b| std::array::from_fn(|j| Line(codes[b * 512 + j * 64..][..64].try_into().expect("64 bytes"))))
            .collect();
        let raw = bytes(!seed, count * 32);
        let terms: Vec<Terms> = raw.chunks_exact(32).map(|part| Terms(part.try_into().expect("32 bytes"))).collect();
        let weights = bytes(seed.rotate_left(9), SLAB);
        let weights = std::array::from_fn(|d| (weights[d] as i8).max(-127));
        check_scan(&ScanQuery { weights, residual, error, limit }, &blocks, &terms);
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
}

#[test]
fn extremes_do_not_overflow() {
    for weight in [-127, 127] {
        for code in [0, 255] {
            let query = ScanQuery { weights: [weight; SLAB], residual: i16::MAX, error: i16::MAX, limit: i32::MIN + 1 };
            let blocks = [[Line([code; 64]); LINES]; 3];
            let terms = [Terms([255; 2 * BLOCK]); 3];
            check_scan(&query, &blocks, &terms);
            let mut found = Vec::new();
            (scalar().scan)(&query, &blocks, &terms, 0, &mut found);
            assert_eq!(found.len(), 3 * BLOCK);
            let dot = i32::from(weight) * i32::from(code & 15) * SLAB as i32;
            assert_eq!(found[0].partial, (dot << FRACTION_BITS) + 255 * i32::from(i16::MAX));
            for kernels in sets() {
                assert_eq!((kernels.code_dot)(&RowCodes([code; 32]), &[weight; SLAB]), dot);
            }
        }
    }
}
