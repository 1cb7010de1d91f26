//! A check of everything the index relies on, for tests and for the suspicious.

use super::VectorIndex;
use super::page::PAGE;
use super::sync::Ordering;
use crate::codec::encode;
use crate::simd::{BLOCK, HALF, kernels};

impl VectorIndex {
    /// Checks order, counts and every code, while writers wait.
    ///
    /// # Errors
    /// A description of the first thing that is not as it should be: a bug, or memory that changed by itself.
    pub fn validate(&self) -> Result<(), String> {
        let writer = self.lock();
        let snapshot = writer.now();
        let mut last = None;
        let mut held = 0;
        snapshot.each(0, |id, rows, slot| {
            held += 1;
            let norm = f64::from((kernels().dot)(&rows.decode(self.dim, slot), &rows.decode(self.dim, slot)));
            if last.is_some_and(|last| last >= id) || (norm - 1.0).abs() > 2e-3 {
                last = Some(u64::MAX);
            } else {
                last = Some(id);
            }
            true
        });
        if last == Some(u64::MAX) || last.is_some_and(|last| last >= writer.next_id()) {
            return Err("ids do not ascend, or a vector is not of norm 1".into());
        }
        if held != self.len.load(Ordering::Relaxed) {
            return Err(format!("{held} vectors are live, {} are counted", self.len()));
        }
        for (number, segment) in snapshot.segments.iter().enumerate() {
            let Some(codes) = &segment.codes else { continue };
            let blocks = &codes.blocks;
            let lengths = [blocks.heads.len(), blocks.head_terms.len(), blocks.tails.len(), blocks.terms.len()];
            if lengths.iter().any(|length| length * BLOCK != segment.slots()) {
                return Err(format!("segment {number} has codes for {lengths:?} blocks"));
            }
            for (at, page) in segment.pages.iter().enumerate() {
                for slot in 0..page.len() {
                    let row = page.rows.decode(self.dim, slot);
                    let mut code = None;
                    encode(&codes.basis, kernels(), 1, &[&row], |_, first| code = Some(first));
                    let (block, lane) = (at * PAGE / BLOCK + slot / BLOCK, slot % BLOCK);
                    let same = code.is_some_and(|code| {
                        let halves = [
                            (&blocks.heads[block], &blocks.head_terms[block], code.head),
                            (&blocks.tails[block], &blocks.terms[block], code.whole),
                        ];
                        halves.iter().zip(code.levels.as_chunks::<HALF>().0).all(|((lines, terms, norms), levels)| {
                            terms.0[2 * lane..2 * lane + 2] == [norms.residual, norms.error]
                                && lines.iter().zip(levels.as_chunks::<8>().0).all(|(line, levels)| {
                                    (0..4).all(|byte| line.0[4 * lane + byte] == levels[byte] | levels[byte + 4] << 4)
                                })
                        })
                    });
                    if !same {
                        return Err(format!("segment {number}, page {at}, slot {slot}: the code is another vector's"));
                    }
                }
            }
        }
        Ok(())
    }
}
