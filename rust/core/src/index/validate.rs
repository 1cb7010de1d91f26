//! A check of everything the index relies on, for tests and for the suspicious.

use super::VectorIndex;
use super::segment::Codes;
use super::sync::Ordering;
use crate::simd::kernels;

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
            for (at, page) in segment.pages.iter().enumerate() {
                let again = Codes::of(page, &codes.basis, codes.later.len(), kernels());
                let same = codes.arrays().zip(again.arrays()).all(|(all, part)| {
                    all.len() == part.len() * segment.pages.len() && all[at * part.len()..][..part.len()] == *part
                });
                if !same || codes.arrays().count() != again.arrays().count() {
                    return Err(format!("segment {number}, page {at}: the codes are another page's"));
                }
            }
        }
        Ok(())
    }
}
