//! Ten million operations of churn under a byte bound: what the cache counts beside what the process holds.
//!
//! `cargo run --release -p nearhit-bench --example cache_churn [OPERATIONS] [MEBIBYTES] [novectors]`
#![expect(clippy::print_stdout, reason = "the figures are the program's result")]

use nearhit_core::Result;
use nearhit_core::cache::{Cache, Form, Meta, NewEntry, Options, Payload, Policy};
use nearhit_core::text::canonical::{Request, ScopeId};
use std::time::Instant;

const DIM: usize = 384;
const VECTORS: usize = 4000;
/// Samples of the memory, evenly spread over the run.
const SAMPLES: usize = 20;
/// Bytes of a page of memory, in which Linux counts.
const PAGE: usize = 4096;

fn main() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| {
        given
            .get(at)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (operations, bound) = (number(0, 10_000_000), number(1, 256) << 20);
    let with_vectors = given.get(2).is_none_or(|word| word != "novectors");
    let keys = bound / 1000;
    let vectors: Vec<Vec<f32>> = (0..VECTORS).map(vector).collect();
    let cache = Cache::new(Options {
        max_bytes: Some(bound),
        policy: Policy::Static,
        ..Options::default()
    })?;
    let (before, started) = (resident(), Instant::now());
    let mut most: usize = 0;
    let mut ratios = Vec::new();
    for turn in 0..operations / 2 {
        let text = format!("prompt {}", turn % keys);
        let request = Request::from_prompt(&text, ScopeId::default())?;
        let answer = Payload::new(Form::Text, "an answer ".repeat(turn % 97).into_bytes());
        let new = NewEntry {
            vector: with_vectors.then_some(&vectors[turn % VECTORS][..]),
            meta: Meta {
                tags: vec![(turn % 50).to_string().into()],
                ..Meta::default()
            },
            ..NewEntry::new(&request, answer)
        };
        cache.store(&new)?;
        let text = format!("prompt {}", turn * 7919 % keys);
        drop(cache.lookup_exact(Request::from_prompt(&text, ScopeId::default())?.fingerprint));
        if turn % 50_000 == 0 {
            cache.invalidate_tag(&(turn % 50).to_string())?;
        }
        if (turn + 1) % (operations / 2 / SAMPLES).max(1) == 0 {
            let counted = cache.stats().bytes.total();
            most = most.max(counted);
            ratios.push((resident() - before) as f64 / counted as f64);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let stats = cache.stats();
    if let Err(reason) = cache.validate() {
        println!("the cache's structures do not agree: {reason}");
    }
    println!(
        "{operations} operations in {seconds:.0} s, {} entries held, {} evicted",
        stats.entries, stats.evicted_bytes
    );
    println!(
        "most bytes counted: {most}, {:.4} of the bound",
        most as f64 / bound as f64
    );
    let late = &mut ratios[SAMPLES / 2..];
    late.sort_by(f64::total_cmp);
    let (middle, largest) = (late[late.len() / 2], late[late.len() - 1]);
    println!(
        "process memory by bytes counted, second half of the run: median {middle:.3}, most {largest:.3}"
    );
    Ok(())
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or(0)
        * PAGE
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
