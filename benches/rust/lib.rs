//! Benchmarks only: `cargo bench -p nearhit-bench`.
