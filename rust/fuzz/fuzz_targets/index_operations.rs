//! Any sequence of additions, removals and searches gives what a plain list gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearhit_core::index::VectorIndex;

const DIM: usize = 48;

/// A vector that a byte stands for: few directions, so that neighbours are common.
fn vector(byte: u8) -> Vec<f32> {
    (0..DIM).map(|d| ((usize::from(byte) * 7 + d * d * usize::from(byte % 13 + 1)) % 31) as f32 - 14.5).collect()
}

fuzz_target!(|operations: &[u8]| {
    let index = VectorIndex::new(DIM).expect("a valid dimension");
    let mut held: Vec<(u64, u8)> = Vec::new();
    for pair in operations.chunks_exact(2) {
        let (operation, byte) = (pair[0], pair[1]);
        match operation % 8 {
            0..4 => {
                // Many at a time, so that short inputs reach pages, segments and bases.
                for offset in 0..operation / 4 {
                    let byte = byte.wrapping_add(offset);
                    held.push((index.add(&vector(byte)).expect("a valid vector"), byte));
                }
            }
            4..6 if !held.is_empty() => {
                for _ in 0..=operation / 8 {
                    if held.is_empty() {
                        break;
                    }
                    let (id, _) = held.swap_remove(usize::from(byte) * 31 % held.len());
                    assert!(index.remove(id));
                }
            }
            _ => {
                let found = index.search(&vector(byte), 0.999, usize::MAX).expect("a valid query");
                let mut ids: Vec<u64> = found.iter().map(|neighbour| neighbour.id).collect();
                let mut expected: Vec<u64> = held.iter().filter(|(_, b)| *b == byte).map(|(id, _)| *id).collect();
                ids.sort_unstable();
                expected.sort_unstable();
                assert!(expected.iter().all(|id| ids.binary_search(id).is_ok()), "an equal vector was not found");
            }
        }
        assert_eq!(index.len(), held.len());
    }
    index.validate().expect("a sound index");
});
