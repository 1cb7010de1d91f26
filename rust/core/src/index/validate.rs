//! A check of everything the index relies on, for tests and for the suspicious.

use super::VectorIndex;
use super::page::PAGE;
use crate::codec::encode;
use crate::simd::{BLOCK, kernels};
use std::sync::atomic::Ordering;

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
            if codes.blocks.len() * BLOCK != segment.slots() || codes.terms.len() != codes.blocks.len() {
                return Err(format!("segment {number} has codes for {} blocks", codes.blocks.len()));
            }
            for (at, page) in segment.pages.iter().enumerate() {
                for slot in 0..page.len() {
                    let row = page.rows.decode(self.dim, slot);
                    let mut code = None;
                    encode(&codes.basis, kernels(), 1, &[&row], |_, first| code = Some(first));
                    let (block, lane) = (at * PAGE / BLOCK + slot / BLOCK, slot % BLOCK);
                    let stored = &codes.terms[block].0[2 * lane..2 * lane + 2];
                    let line = &codes.blocks[block][0].0[4 * lane..4 * lane + 4];
                    let same = code.is_some_and(|code| {
                        stored == [code.residual, code.error]
                            && (0..4).all(|byte| line[byte] == code.levels[byte] | code.levels[byte + 4] << 4)
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
