//! Every interleaving, and every order that memory may show, of few readers and a writer: the index's own code over
//! `loom`'s primitives. One dimension, so that nothing is coded and a search is a handful of accesses.

use super::VectorIndex;
use super::sync::Ordering;
use loom::thread;
use std::sync::Arc;

/// Runs a model with as many switches of thread against their will as the state space allows.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// A vector in one of two directions.
fn index(count: usize) -> Arc<VectorIndex> {
    let index = VectorIndex::new(1).expect("a dimension");
    for _ in 0..count {
        index.add(&[1.0]).expect("a vector");
    }
    Arc::new(index)
}

/// Ids that a reader finds in the direction of 1.
fn found(index: &VectorIndex) -> Vec<u64> {
    let found = index.search(&[1.0], 0.5, usize::MAX).expect("a query");
    assert!(found.iter().all(|neighbour| neighbour.similarity.to_bits() == 1.0_f32.to_bits()));
    found.iter().map(|neighbour| neighbour.id).collect()
}

#[test]
fn what_was_added_is_found_from_then_on() {
    explore(3, || {
        let index = index(2);
        let (writer, reader) = (index.clone(), index.clone());
        let writing = thread::spawn(move || {
            // The third and the fourth fill the first tail; the fifth makes it grow, which replaces the snapshot.
            for _ in 0..3 {
                writer.add(&[1.0]).expect("a vector");
            }
        });
        let reading = thread::spawn(move || {
            let (first, second) = (found(&reader), found(&reader));
            assert!(first.len() >= 2 && first.iter().copied().eq(0..first.len() as u64), "{first:?}");
            assert!(second.len() >= first.len() && second.iter().copied().eq(0..second.len() as u64), "{second:?}");
        });
        writing.join().expect("no panic");
        reading.join().expect("no panic");
        assert_eq!(found(&index), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn what_was_removed_stays_away() {
    explore(3, || {
        let index = index(4);
        let (writer, reader) = (index.clone(), index.clone());
        let writing = thread::spawn(move || {
            assert!(writer.remove(1));
            // A larger tail takes the place of the one that the id was removed from.
            writer.add(&[1.0]).expect("a vector");
            assert!(!writer.remove(1));
        });
        let reading = thread::spawn(move || {
            let (first, second) = (found(&reader), found(&reader));
            assert!(first.contains(&1) || !second.contains(&1), "{first:?} {second:?}");
            assert!(second.contains(&4) || !first.contains(&4), "{first:?} {second:?}");
            assert!([0, 2, 3].iter().all(|id| first.contains(id) && second.contains(id)), "{first:?} {second:?}");
        });
        writing.join().expect("no panic");
        reading.join().expect("no panic");
        assert_eq!(found(&index), [0, 2, 3, 4]);
    });
}

#[test]
fn two_writers_take_turns() {
    explore(2, || {
        let index = index(3);
        let writing = [0, 1].map(|number| {
            let index = index.clone();
            thread::spawn(move || {
                let id = index.add(&[1.0]).expect("a vector");
                assert!(index.remove(number));
                id
            })
        });
        let mut ids = writing.map(|thread| thread.join().expect("no panic"));
        ids.sort_unstable();
        assert_eq!((ids, found(&index), index.len()), ([3, 4], vec![2, 3, 4], 3));
    });
}

/// A page is sealed while a reader is in the tail that it is made of; replaced snapshots are freed once, and only when
/// nobody reads them: `loom` reports a handle that is leaked, and a freed one that is used.
#[test]
fn a_full_tail_becomes_a_page_under_readers() {
    explore(2, || {
        let index = index(super::page::PAGE);
        let (writer, reader) = (index.clone(), index.clone());
        let writing = thread::spawn(move || {
            assert!(writer.remove(7));
            writer.add(&[1.0]).expect("a vector");
        });
        let reading = thread::spawn(move || {
            let seen = found(&reader);
            assert!(seen.contains(&7) || !found(&reader).contains(&7));
            assert!((0..64).filter(|id| *id != 7).all(|id| seen.contains(&id)), "{seen:?}");
        });
        writing.join().expect("no panic");
        reading.join().expect("no panic");
        let expected: Vec<u64> = (0..65).filter(|id| *id != 7).collect();
        assert_eq!((found(&index), index.len.load(Ordering::Relaxed)), (expected, 64));
        assert!(index.add(&[1.0]).is_ok() && index.lock().waiting() == 0, "nobody reads, so nothing waits");
    });
}

/// What is left of a page moves to a new one while a reader is in the old one.
#[test]
fn a_page_is_compacted_under_readers() {
    explore(2, || {
        let index = index(super::page::PAGE + 1);
        for id in 0..62 {
            assert!(index.remove(id));
        }
        let before = index.nbytes();
        let (writer, reader) = (index.clone(), index.clone());
        let writing = thread::spawn(move || {
            // The 128th change finishes the compaction that the 112th has begun.
            assert!(writer.remove(62));
            assert!(writer.remove(63));
        });
        let reading = thread::spawn(move || {
            let (first, second) = (found(&reader), found(&reader));
            assert!(first.contains(&64) && second.contains(&64), "{first:?} {second:?}");
            assert!(first.iter().all(|id| (62..65).contains(id)), "{first:?}");
            assert!(second.iter().all(|id| first.contains(id)), "what was removed is back: {first:?} {second:?}");
        });
        writing.join().expect("no panic");
        reading.join().expect("no panic");
        assert_eq!((found(&index), index.len()), (vec![64], 1));
        assert!(index.nbytes() < before, "the page is a smaller one");
    });
}
