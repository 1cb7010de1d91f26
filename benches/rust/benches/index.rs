//! The vector index without Python: lookups, changes, and what a churning writer does to a reader.
//!
//! Vectors are in groups, as near-duplicate prompts are, with a spectrum that decays as that of sentence
//! embeddings does; `nearhit bench index` measures real embeddings beside peers.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nearhit_core::index::{IndexOptions, Storage, VectorIndex};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const DIM: usize = 384;

/// Reproducible values in -1..1.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn grouped(count: usize) -> Vec<Vec<f32>> {
    let mut next = noise(7);
    let mut vector = |size: f32| -> Vec<f32> {
        (0..DIM)
            .map(|d| size * next() * (-(d as f32) / 120.0).exp())
            .collect()
    };
    let centres: Vec<Vec<f32>> = (0..=count / 4).map(|_| vector(1.0)).collect();
    (0..count)
        .map(|i| {
            centres[i * 31 % centres.len()]
                .iter()
                .zip(vector(0.3))
                .map(|(a, b)| a + b)
                .collect()
        })
        .collect()
}

fn index_of(rows: &[Vec<f32>], storage: Storage) -> VectorIndex {
    let index = VectorIndex::with_options(
        DIM,
        IndexOptions {
            storage,
            basis: None,
        },
    )
    .expect("a valid dimension");
    for row in rows {
        index.add(row).expect("a valid vector");
    }
    index
}

fn lookups(criterion: &mut Criterion) {
    let rows = grouped(100_000);
    for size in [1_000, 10_000, 100_000] {
        let index = index_of(&rows[..size], Storage::F32);
        for threshold in [0.8, 0.9] {
            let mut turn = 0;
            criterion.bench_function(&format!("lookup/{size}/{threshold}"), |bench| {
                bench.iter(|| {
                    turn = (turn + 7919) % size;
                    black_box(
                        index
                            .search(&rows[turn], threshold, 1)
                            .expect("a valid query"),
                    )
                });
            });
        }
    }
}

fn changes(criterion: &mut Criterion) {
    let rows = grouped(20_000);
    for storage in [Storage::F32, Storage::Int8] {
        let index = index_of(&rows[..10_000], storage);
        let mut turn = 0;
        criterion.bench_function(&format!("insert/{}", storage.name()), |bench| {
            bench.iter(|| {
                turn = (turn + 1) % rows.len();
                index.add(&rows[turn]).expect("a valid vector")
            });
        });
        let mut oldest = 0;
        criterion.bench_function(&format!("remove/{}", storage.name()), |bench| {
            bench.iter_batched(
                || {
                    index
                        .add(&rows[oldest as usize % rows.len()])
                        .expect("a valid vector");
                    oldest += 1;
                    oldest - 1
                },
                |id| index.remove(id),
                BatchSize::SmallInput,
            );
        });
    }
}

/// The 99th percentile of a reader's lookups, alone and while a writer adds and removes without pause.
fn reader_beside_writer(criterion: &mut Criterion) {
    let rows = grouped(10_000);
    let index = index_of(&rows, Storage::F32);
    let p99 = || {
        let mut times: Vec<u128> = (0..5000)
            .map(|turn| {
                let start = Instant::now();
                black_box(
                    index
                        .search(&rows[turn * 17 % rows.len()], 0.9, 1)
                        .expect("a valid query"),
                );
                start.elapsed().as_nanos()
            })
            .collect();
        times.sort_unstable();
        std::time::Duration::from_nanos(times[times.len() * 99 / 100] as u64)
    };
    let mut group = criterion.benchmark_group("reader p99 of 5000 lookups");
    group.sample_size(10);
    group.bench_function("quiet", |bench| {
        bench.iter_custom(|times| (0..times).map(|_| p99()).sum());
    });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut oldest = 0;
            while !done.load(Ordering::Relaxed) {
                index
                    .add(&rows[oldest as usize % rows.len()])
                    .expect("a valid vector");
                index.remove(oldest);
                oldest += 1;
            }
        });
        group.bench_function("beside a writer", |bench| {
            bench.iter_custom(|times| (0..times).map(|_| p99()).sum());
        });
        done.store(true, Ordering::Relaxed);
    });
    group.finish();
}

criterion_group!(benches, lookups, changes, reader_beside_writer);
criterion_main!(benches);
