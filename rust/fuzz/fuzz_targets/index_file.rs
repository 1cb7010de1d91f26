//! Any bytes with a right checksum load as a sound index or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearhit_core::index::VectorIndex;

fuzz_target!(|content: &[u8]| {
    let mut bytes = b"nearhit\x02".to_vec();
    bytes.extend_from_slice(content);
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    let path = std::env::temp_dir().join(format!("nearhit-fuzz-{}", std::process::id()));
    std::fs::write(&path, &bytes).expect("a writable folder");
    if let Ok(index) = VectorIndex::load(&path) {
        index.validate().expect("a sound index");
    }
});
