//! The index finds what comparing with every vector finds.

use super::rows::Rows;
use super::top::TopK;
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

/// What comparing with every vector, as it is kept, finds.
fn brute_in(storage: Storage, held: &[(u64, Vec<f32>)], query: &[f32], threshold: f32, k: usize) -> Vec<Neighbour> {
    let query = unit(query, query.len()).expect("valid");
    let mut top = TopK::new(k, threshold);
    for (id, row) in held {
        let row = Rows::one(storage, row, unit_scale(row, row.len()).expect("valid"));
        top.offer(*id, row.score(kernels(), &query, 0));
    }
    top.into_sorted()
}

fn brute(held: &[(u64, Vec<f32>)], query: &[f32], threshold: f32, k: usize) -> Vec<Neighbour> {
    brute_in(Storage::F32, held, query, threshold, k)
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
            index.validate().expect("sound");
        }
        assert!(index.is_empty() && index.search(&rows[0], -1.0, 1).expect("valid").is_empty());
    }
}

/// Sets that pruning finds hardest: unrelated vectors at a cosine of .7 and more, equal ones, norms from 1e-30 to 1e30,
/// and thresholds that are a neighbour's very similarity, or the next number above it.
#[test]
fn nothing_is_lost_at_the_edge() {
    let sizes = [(1, 200), (2, 700), (3, 900), (49, 1300), (383, 900), (769, 800), (1536, 700), (4096, 600)];
    for ((dim, n), storage) in sizes.into_iter().zip([Storage::F32, Storage::Int8, Storage::F16].into_iter().cycle()) {
        let index = VectorIndex::with_options(dim, IndexOptions { storage, basis: None }).expect("valid");
        let mut rows = grouped(dim as u64 + 1, n, dim, 1.0);
        for (number, row) in rows.iter_mut().enumerate() {
            let norm = 10_f32.powi(number as i32 % 7 * 10 - 30);
            for value in row {
                *value *= norm;
            }
        }
        let copies: Vec<Vec<f32>> = rows.iter().step_by(9).cloned().collect();
        rows.extend(copies);
        index.add_many(&rows.concat()).expect("valid");
        let held: Vec<(u64, Vec<f32>)> = (0..).zip(rows.iter().cloned()).collect();
        for row in rows.iter().step_by(97) {
            let all = brute_in(storage, &held, row, -1.0, usize::MAX);
            for at in [0, 1, 2, 5, 20, 100] {
                let edge = all[at].similarity;
                let above = edge.next_up().min(1.0);
                for (threshold, k) in [(edge, usize::MAX), (edge, at + 1), (above, usize::MAX), (-1.0, at + 1)] {
                    let found = index.search(row, threshold, k).expect("valid");
                    let wanted = all.iter().filter(|one| one.similarity >= threshold).take(k);
                    assert!(found.iter().eq(wanted), "dim {dim} {storage:?} threshold {threshold} k {k}");
                }
            }
        }
        index.validate().expect("sound");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_operations(dim in 1_usize..140, seed in any::<u64>(), mode in 0_usize..3,
                      operations in prop::collection::vec(0_u8..10, 1..1500)) {
        let storage = Storage::ALL[mode];
        let index = VectorIndex::with_options(dim, IndexOptions { storage, basis: None }).expect("valid");
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
                    prop_assert_eq!(found, brute_in(storage, &held, &row, threshold.max(-1.0), 5));
                }
            }
            prop_assert_eq!(index.len(), held.len());
        }
        prop_assert_eq!(index.validate(), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whoever knows the format and its checksum can write any bytes: they load as a sound index or not at all.
    #[test]
    fn forged_files_do_no_harm(edits in prop::collection::vec((0_usize..4000, any::<u8>()), 1..4), cut in 0_usize..600) {
        let index = VectorIndex::new(50).expect("valid");
        index.add_many(&grouped(3, 70, 50, 0.0).concat()).expect("valid");
        let path = std::env::temp_dir().join(format!("nearhit-forged-{}-{cut}", std::process::id()));
        index.save(&path).expect("writable");
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes.truncate(bytes.len() - 32);
        for (at, value) in edits {
            let place = at % if at % 2 == 0 { 48 } else { bytes.len() };
            bytes[place] = value;
        }
        bytes.truncate(bytes.len() - cut / 50);
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        std::fs::write(&path, &bytes).expect("writable");
        let loaded = VectorIndex::load(&path);
        std::fs::remove_file(&path).expect("there");
        match loaded {
            Ok(loaded) => prop_assert_eq!(loaded.validate(), Ok(())),
            Err(cause) => prop_assert!(matches!(cause, Error::Corrupt { .. }), "{cause}"),
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

/// Enough vectors that the first slabs are scanned together, with a basis of one to four of them.
#[test]
fn nearest_neighbours_at_any_size() {
    let sets = [
        (60, 5000, Storage::Int8),
        (96, 9000, Storage::F32),
        (200, 5000, Storage::Int8),
        (300, 5000, Storage::F16),
        (384, 4600, Storage::F32),
    ];
    for (dim, n, storage) in sets {
        let index = VectorIndex::with_options(dim, IndexOptions { storage, basis: None }).expect("valid");
        let rows = grouped(5, n, dim, 0.2);
        let mut held: Vec<(u64, Vec<f32>)> =
            rows.iter().map(|row| (index.add(row).expect("valid"), row.clone())).collect();
        held.retain(|(id, _)| id % 11 != 3 || !index.remove(*id));
        let queries = grouped(6, 40, dim, 0.2);
        let found = index.search_many(&queries.concat(), -1.0, 10).expect("valid");
        for (number, query) in queries.iter().enumerate() {
            let expected = brute_in(storage, &held, query, -1.0, 300);
            let ids: Vec<i64> = expected[..10].iter().map(|neighbour| neighbour.id as i64).collect();
            assert_eq!(found.ids[number * 10..(number + 1) * 10], ids, "dim {dim} {storage:?}");
            for (threshold, k) in [(-1.0, 1), (-1.0, 10), (-1.0, 300), (expected[99].similarity, 300), (0.5, 7)] {
                let wanted = expected.iter().filter(|one| one.similarity >= threshold).take(k);
                let found = index.search(query, threshold, k).expect("valid");
                assert!(found.iter().eq(wanted), "dim {dim} {storage:?} threshold {threshold} k {k}");
            }
            let newest = index.search_from(query, -1.0, 4, n as u64 - 50).expect("valid");
            let late = held.partition_point(|(id, _)| *id < n as u64 - 50);
            assert_eq!(newest, brute_in(storage, &held[late..], query, -1.0, 4));
        }
        let refused = index.search_many(&queries[0], 0.0, usize::MAX);
        assert!(matches!(refused, Err(Error::InvalidOption { name: "k", .. })));
        index.validate().expect("sound");
    }
}

#[test]
fn storage_errors_are_as_documented() {
    let rows = grouped(9, 400, 384, 0.0);
    for (storage, limit, typical) in
        [(Storage::F32, 1e-6, 1e-6), (Storage::F16, 4.9e-4, 1e-4), (Storage::Int8, 0.02, 6e-4)]
    {
        let index = VectorIndex::with_options(384, IndexOptions { storage, basis: None }).expect("valid");
        index.add_many(&rows.concat()).expect("valid");
        let ids: Vec<u64> = (0..400).collect();
        let mut total = 0.0;
        for query in &rows[..20] {
            let unit_query = unit(query, 384).expect("valid");
            let found = index.similarities(query, &ids).expect("valid");
            for (row, similarity) in rows.iter().zip(found) {
                let exact: f64 = unit(row, 384)
                    .expect("valid")
                    .iter()
                    .zip(&unit_query)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum();
                let error = (f64::from(similarity.expect("held")) - exact).abs();
                assert!(error <= limit, "{storage:?}: off by {error}");
                total += error;
            }
        }
        assert!(total / 8000.0 < typical, "{storage:?}: off by {} on average", total / 8000.0);
    }
}

#[test]
fn bytes_for_each_vector() {
    let rows = grouped(11, 6400, 384, 0.0).concat();
    // The basis, which does not grow, takes 61 of these bytes here.
    for (storage, limit) in [(Storage::F32, 2000), (Storage::F16, 1020), (Storage::Int8, 480 + 61)] {
        let index = VectorIndex::with_options(384, IndexOptions { storage, basis: None }).expect("valid");
        index.add_many(&rows).expect("valid");
        assert!(index.nbytes() / 6400 <= limit, "{storage:?}: {}", index.nbytes() / 6400);
    }
}

#[test]
fn a_basis_is_learned_once_for_all_who_share_it() {
    let shared = Arc::new(SharedBasis::default());
    let make = || {
        let options = IndexOptions { storage: Storage::F32, basis: Some(shared.clone()) };
        VectorIndex::with_options(128, options).expect("valid")
    };
    let (large, small) = (make(), make());
    let rows = grouped(13, 1500, 128, 0.0);
    small.add_many(&rows[..100].concat()).expect("valid");
    assert!(shared.get().is_none());
    large.add_many(&rows.concat()).expect("valid");
    let basis = shared.get().expect("learned");
    small.add_many(&rows[100..200].concat()).expect("valid");
    small.validate().expect("sound");
    let codes = small.snapshot.load().segments.iter().filter(|segment| segment.basis().is_some()).count();
    assert!(codes > 0 && Arc::ptr_eq(&basis, &shared.get().expect("still there")));
    assert!(VectorIndex::with_options(64, IndexOptions { basis: Some(shared), ..IndexOptions::default() }).is_err());
}

#[test]
fn saved_and_loaded_it_is_the_same() {
    let folder = std::env::temp_dir().join(format!("nearhit-index-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("writable");
    let path = folder.join("some.index");
    for storage in Storage::ALL {
        let index = VectorIndex::with_options(100, IndexOptions { storage, basis: None }).expect("valid");
        let rows = grouped(17, 1000, 100, 0.0);
        let ids = index.add_many(&rows.concat()).expect("valid");
        for id in ids.iter().step_by(3) {
            assert!(index.remove(*id));
        }
        index.save(&path).expect("writable");
        let loaded = VectorIndex::load(&path).expect("intact");
        loaded.validate().expect("sound");
        assert_eq!((loaded.len(), loaded.dim(), loaded.storage()), (index.len(), 100, storage));
        for query in rows.iter().step_by(50) {
            assert_eq!(loaded.search(query, 0.5, 20).expect("valid"), index.search(query, 0.5, 20).expect("valid"));
        }
        assert!(!loaded.remove(0) && loaded.remove(1));
        assert_eq!(loaded.add(&rows[0]).expect("valid"), 1000);

        let bytes = std::fs::read(&path).expect("readable");
        for at in (0..bytes.len()).step_by(bytes.len() / 60) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            std::fs::write(&path, &damaged).expect("writable");
            assert!(matches!(VectorIndex::load(&path), Err(Error::Corrupt { .. })), "byte {at}");
            std::fs::write(&path, &bytes[..at]).expect("writable");
            assert!(matches!(VectorIndex::load(&path), Err(Error::Corrupt { .. })), "cut at {at}");
        }
        std::fs::remove_file(&path).expect("there");
    }
    let empty = VectorIndex::new(7).expect("valid");
    empty.save(&path).expect("writable");
    assert!(VectorIndex::load(&path).expect("intact").is_empty());
    assert!(matches!(empty.save(&folder.join("no/where")), Err(Error::Io { .. })));
    assert!(matches!(VectorIndex::load(&folder.join("nothing")), Err(Error::Io { .. })));
    std::fs::remove_dir_all(&folder).expect("only ours is in it");
}

/// Readers run free while a writer adds, removes and rewrites; what they find must have been there. Few steps
/// under Miri, which looks at every access.
#[test]
fn readers_never_see_what_is_not_there() {
    const DIM: usize = 64;
    let (steps, held) = if cfg!(miri) { (90, 20) } else { (12_000, 1500) };
    let index = VectorIndex::with_options(DIM, IndexOptions::default()).expect("valid");
    let rows = grouped(23, steps, DIM, 0.1);
    let anchor: Vec<f32> = (0..DIM).map(|d| if d == 3 { 1.0 } else { 0.0 }).collect();
    let anchor_id = index.add(&anchor).expect("valid");
    let (oldest, newest, done) = (AtomicUsize::new(1), AtomicUsize::new(1), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (step, row) in rows.iter().enumerate() {
                newest.store(step + 2, Ordering::SeqCst);
                assert_eq!(index.add(row).expect("valid"), step as u64 + 1);
                if step >= held {
                    assert!(index.remove((step - held + 1) as u64));
                    oldest.store(step - held + 2, Ordering::SeqCst);
                }
            }
            done.store(1, Ordering::SeqCst);
        });
        for reader in 0..2 {
            let (index, rows, anchor, oldest, newest, done) = (&index, &rows, &anchor, &oldest, &newest, &done);
            scope.spawn(move || {
                let mut turn = reader;
                while done.load(Ordering::SeqCst) == 0 {
                    turn += 1;
                    let first = oldest.load(Ordering::SeqCst);
                    let row = &rows[turn * 37 % rows.len()];
                    for neighbour in index.search(row, 0.5, 5).expect("valid") {
                        let last = newest.load(Ordering::SeqCst);
                        let id = neighbour.id as usize;
                        assert!(id == 0 || (first..last).contains(&id), "{id} is not in {first}..{last}");
                        let kept = if id == 0 { anchor } else { &rows[id - 1] };
                        let (a, b) = (unit(row, DIM).expect("valid"), unit(kept, DIM).expect("valid"));
                        assert_eq!(neighbour.similarity.to_bits(), (kernels().dot)(&b, &a).min(1.0).to_bits());
                    }
                    // What stays is found in every moment, however often it is moved.
                    let found = index.search(anchor, 0.999, 1).expect("valid");
                    assert_eq!(found.first().map(|neighbour| neighbour.id), Some(anchor_id));
                }
            });
        }
    });
    index.validate().expect("sound");
    assert_eq!(index.len(), held + 1);
}
