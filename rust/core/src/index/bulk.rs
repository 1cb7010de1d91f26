//! Coding many pages at once: while a file is read nobody looks anything up, so the codes wait until all vectors
//! are there, the basis is learned from all of them, and every core takes its share.

use super::segment::{Codes, Segment};
use crate::codec::Basis;
use crate::simd::Kernels;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{Builder, available_parallelism, scope};

/// Most threads that code; more would wait for memory.
const THREADS: usize = 8;

/// The same segments, in their order, with codes in `basis`.
pub(super) fn coded(
    segments: &[Arc<Segment>],
    basis: &Arc<Basis>,
    later: usize,
    kernels: &Kernels,
) -> Vec<Arc<Segment>> {
    let share = |first: usize, step: usize| -> Vec<Arc<Segment>> {
        segments.iter().skip(first).step_by(step).map(|segment| code(segment, basis, later, kernels)).collect()
    };
    let threads = available_parallelism().map_or(1, NonZero::get).min(THREADS).min(segments.len()).max(1);
    scope(|scope| {
        let share = &share;
        let started: Vec<_> = (1..threads)
            .map(|first| Builder::new().spawn_scoped(scope, move || share(first, threads)).map_err(|_| first))
            .collect();
        let mut shares = vec![share(0, threads).into_iter()];
        shares.extend(started.into_iter().map(|thread| {
            let done = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(first) => share(first, threads), // the system allows no more threads
            };
            done.into_iter()
        }));
        (0..segments.len()).filter_map(|number| shares[number % threads].next()).collect()
    })
}

fn code(segment: &Arc<Segment>, basis: &Arc<Basis>, later: usize, kernels: &Kernels) -> Arc<Segment> {
    if segment.basis().is_some_and(|present| Arc::ptr_eq(present, basis)) {
        return Arc::clone(segment);
    }
    let mut codes = Codes::with_capacity(basis, later, segment.pages.len());
    for page in &segment.pages {
        codes.push(page, kernels);
    }
    Arc::new(Segment { pages: segment.pages.clone(), codes: Some(codes) })
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use crate::index::{IndexOptions, Neighbour, Storage, VectorIndex};
    use std::sync::Arc;

    const DIM: usize = 96;

    fn rows(count: usize) -> Vec<Vec<f32>> {
        let value = |row: usize, d: usize| ((row * 7919 + d * 104_729 + row * d) % 1013) as f32 - 506.0;
        (0..count).map(|row| (0..DIM).map(|d| value(row % (count / 3), d) + (row % 5) as f32).collect()).collect()
    }

    fn answers(index: &VectorIndex, queries: &[Vec<f32>]) -> Vec<Vec<Neighbour>> {
        let asked = queries.iter().step_by(97);
        asked
            .flat_map(|query| [(0.9, 1), (0.7, 20), (-1.0, 9)].map(|(threshold, k)| (query, threshold, k)))
            .map(|(query, threshold, k)| index.search(query, threshold, k).expect("valid"))
            .collect()
    }

    #[test]
    fn codes_may_wait() {
        for (count, storage) in [(40, Storage::F32), (9000, Storage::F32), (5000, Storage::F16), (6001, Storage::Int8)]
        {
            let rows = rows(count);
            let options = || IndexOptions { storage, basis: None };
            let [at_once, later] = [(); 2].map(|()| VectorIndex::with_options(DIM, options()).expect("valid"));
            later.defer_codes();
            for row in &rows {
                let id = at_once.add(row).expect("valid");
                assert_eq!(later.add(row).expect("valid"), id);
            }
            for id in (0..count as u64).step_by(7) {
                assert!(at_once.remove(id) && later.remove(id));
            }
            let coded = |index: &VectorIndex| {
                index.snapshot.load().segments.iter().filter(|segment| segment.codes.is_some()).count()
            };
            let expected = answers(&at_once, &rows);
            assert_eq!((coded(&later), answers(&later, &rows)), (0, expected.clone()));
            later.code_deferred();
            assert_eq!(coded(&later), later.snapshot.load().segments.len() * usize::from(count > 512));
            assert_eq!(answers(&later, &rows), expected);
            later.validate().expect("sound");
            let again = Arc::clone(&*later.snapshot.load());
            later.code_deferred();
            for (before, after) in again.segments.iter().zip(&later.snapshot.load().segments) {
                assert!(Arc::ptr_eq(before, after) || count < 512, "nothing was left to code");
            }
            // It goes on as any other.
            for row in rows.iter().take(200) {
                assert_eq!(at_once.add(row).expect("valid"), later.add(row).expect("valid"));
            }
            assert_eq!(answers(&later, &rows), answers(&at_once, &rows));
            later.validate().expect("sound");
        }
    }
}
