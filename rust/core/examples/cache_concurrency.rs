//! The cache under load: one and two reading threads, readers beside a writer, stores at 100,000 entries, opening a file.
//!
//! `cargo run --release -p nearhit-core --example cache_concurrency`
#![expect(clippy::print_stdout, reason = "the figures are the program's result")]

use nearhit_core::Result;
use nearhit_core::cache::{Cache, NewEntry, Options, Payload, Policy};
use nearhit_core::persist::Durability;
use nearhit_core::text::canonical::{Fingerprint, Request, ScopeId};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ENTRIES: usize = 100_000;
const DIM: usize = 384;
const LOOKUPS: usize = 1_000_000;

fn main() -> Result<()> {
    let cache = Cache::new(Options { max_bytes: None, policy: Policy::Static, ..Options::default() })?;
    let mut stores: Vec<Duration> = Vec::with_capacity(ENTRIES);
    for number in 0..ENTRIES {
        let vector = vector(number);
        let started = Instant::now();
        store(&cache, number, &vector)?;
        stores.push(started.elapsed());
    }
    report("store, vector given", &mut stores);
    let keys: Vec<Fingerprint> = (0..ENTRIES).map(|number| fingerprint(number * 7919 % ENTRIES)).collect();

    let single = (0..5).map(|_| rate(&cache, &keys, 1)).fold(0.0, f64::max);
    let double = (0..5).map(|_| rate(&cache, &keys, 2)).fold(0.0, f64::max);
    println!("exact lookups: {:.0} ns each on one thread; two threads reach {:.2} x", 1e9 / single, double / single);

    report("exact lookup, quiet", &mut latencies(&cache, &keys));
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let vector = vector(1);
            let started = Instant::now();
            for turn in 0_u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                drop(store(&cache, turn as usize % ENTRIES, &vector));
                while started.elapsed() < Duration::from_micros(50) * turn {
                    std::thread::yield_now();
                }
            }
        });
        report("exact lookup, 20,000 stores a second beside it", &mut latencies(&cache, &keys));
        stop.store(true, Ordering::Relaxed);
    });
    open_file()
}

/// Writes 100,000 entries to a file and opens it again.
fn open_file() -> Result<()> {
    let path = std::env::temp_dir().join(format!("nearhit-bench-{}.db", std::process::id()));
    let options = || Options { max_bytes: None, policy: Policy::Static, ..Options::default() };
    let mut stores = Vec::with_capacity(ENTRIES);
    {
        let (cache, _) = Cache::open(options(), &path, Durability::Async)?;
        for number in 0..ENTRIES {
            let vector = vector(number);
            let started = Instant::now();
            store(&cache, number, &vector)?;
            stores.push(started.elapsed());
        }
        cache.flush()?;
    }
    report("store into a file, async", &mut stores);
    let started = Instant::now();
    let (cache, opened) = Cache::open(options(), &path, Durability::Async)?;
    println!("opening a file of {} entries: {:.2} s", opened.entries, started.elapsed().as_secs_f64());
    drop(cache);
    for suffix in ["", "-wal", "-shm", "-lock"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        drop(std::fs::remove_file(name)); // what was not made need not be removed
    }
    Ok(())
}

/// Lookups a second of `threads` threads together.
fn rate(cache: &Cache, keys: &[Fingerprint], threads: usize) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for turn in 0..LOOKUPS {
                    black_box(cache.lookup_exact(keys[(turn + thread * 50_021) % keys.len()]));
                }
            });
        }
    });
    (threads * LOOKUPS) as f64 / started.elapsed().as_secs_f64()
}

fn latencies(cache: &Cache, keys: &[Fingerprint]) -> Vec<Duration> {
    (0..LOOKUPS)
        .map(|turn| {
            let started = Instant::now();
            black_box(cache.lookup_exact(keys[turn % keys.len()]));
            started.elapsed()
        })
        .collect()
}

fn report(what: &str, taken: &mut [Duration]) {
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.2} µs, p99 {:.2} µs, p99.9 {:.2} µs, max {:.0} µs", at(0.5), at(0.99), at(0.999), at(1.0));
}

fn store(cache: &Cache, number: usize, vector: &[f32]) -> Result<()> {
    let text = prompt(number);
    let request = Request::from_prompt(&text, ScopeId::default())?;
    let answer =
        Payload::text("An answer of the usual length, which is to say a sentence or two and no more than that.");
    cache.store(&NewEntry { vector: Some(vector), ..NewEntry::new(&request, answer) }).map(drop)
}

fn prompt(number: usize) -> String {
    format!("prompt {number} of the benchmark, with some more words")
}

fn fingerprint(number: usize) -> Fingerprint {
    Request::from_prompt(&prompt(number), ScopeId::default())
        .map_or(Fingerprint([0; 16]), |request| request.fingerprint)
}

/// A direction that looks random and costs little to make.
fn vector(number: usize) -> Vec<f32> {
    let mut state = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..DIM)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}
